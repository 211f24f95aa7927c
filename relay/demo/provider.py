"""The sample provider: six webhooks of three calls, signed and sent as ElevenLabs, Retell and CanaryLLM do.

The payloads are files of `payloads/`, shaped as the providers' documentation shows them, with invented
conversations. A string `$name` in them stands for a value that is known only when they are played.
"""

from __future__ import annotations

import http.client
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Final

from relay.content import Content
from relay.demo.client import Client
from relay.demo.customer import Customer
from relay.providers import PROVIDERS, elevenlabs, retell

_PAYLOADS: Final = files("relay.demo") / "payloads"


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """One request of a provider. `ends_call`: it says how long the call was, so it may be charged."""

    provider: str
    event: str
    path: str
    conversation_id: str
    ends_call: bool
    body: Content = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)

    @property
    def name(self) -> str:
        """As a column shows it: `retell.call_ended`."""
        return f"{self.provider}.{self.event}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the ingress answered. `event_id` is None unless it was accepted, `at` a reading of time.monotonic."""

    status: int
    event_id: str | None
    at: float
    duration_ms: float


@dataclass(frozen=True, slots=True)
class _Call:
    """A call that has just ended."""

    prefix: str
    duration_ms: int

    def values(self, now_ms: int) -> dict[str, Any]:
        """What the `$names` of its payloads stand for; whole seconds are integers, as the providers write them."""
        seconds = self.duration_ms / 1000
        return {
            "conversation_id": self.prefix + secrets.token_hex(12),
            "now_ms": now_ms,
            "now_seconds": now_ms // 1000,
            "started_ms": now_ms - self.duration_ms,
            "started_seconds": (now_ms - self.duration_ms) // 1000,
            "duration_ms": self.duration_ms,
            "duration_seconds": int(seconds) if seconds.is_integer() else seconds,
        }


# What each says and when is the providers'; how long they lasted shows a whole second, a part of one, and a minute.
_CALLS: Final = {
    elevenlabs.NAME: (_Call("conv_", 127_000), (elevenlabs.TRANSCRIPTION,)),
    retell.NAME: (_Call("call_", 73_400), ("call_started", retell.ENDED, retell.ANALYZED)),
    "canaryllm": (_Call("conv_", 61_000), ("event", "complete")),
}
_ENDINGS: Final = frozenset({elevenlabs.TRANSCRIPTION, retell.ENDED, retell.ANALYZED, "complete"})


def webhooks(customer: Customer, *, now_ms: int) -> tuple[Webhook, ...]:
    """The webhooks of one round, in the order they are sent; `now_ms` (Unix time) is when the calls end."""
    round_ = []
    for provider, (call, events) in _CALLS.items():
        values = call.values(now_ms)
        for event in events:
            body = _payload(f"{provider}.{event}", values)
            path, proof = _addressed(customer, provider, event, body, now_ms)
            round_.append(
                Webhook(
                    provider=provider,
                    event=event,
                    path=path,
                    conversation_id=values["conversation_id"],
                    ends_call=event in _ENDINGS,
                    body=Content(body),
                    headers={"Content-Type": "application/json", **proof},
                )
            )
    return tuple(round_)


def send(webhook: Webhook, web: Client) -> Answer:
    """Send one webhook and wait for its answer; no answer at all is status 0."""
    began = time.monotonic()
    try:
        status, text = web.post(webhook.path, webhook.body.reveal(), webhook.headers)
    except (OSError, http.client.HTTPException):
        status, text = 0, b""
    at = time.monotonic()
    event_id = _event_id(text) if status == http.client.OK else None
    return Answer(status=status, event_id=event_id, at=at, duration_ms=(at - began) * 1000)


def _payload(name: str, values: Mapping[str, Any]) -> bytes:
    payload = json.loads((_PAYLOADS / f"{name}.json").read_text(encoding="utf-8"))
    return json.dumps(_filled(payload, values)).encode()


def _filled(node: Any, values: Mapping[str, Any]) -> Any:
    """The same JSON with every `$name` replaced by its value, which keeps its type."""
    if isinstance(node, dict):
        return {key: _filled(value, values) for key, value in node.items()}
    if isinstance(node, list):
        return [_filled(item, values) for item in node]
    return values[node[1:]] if isinstance(node, str) and node.startswith("$") else node


def _addressed(
    customer: Customer, provider: str, event: str, body: bytes, now_ms: int
) -> tuple[str, Mapping[str, str]]:
    """The path that an event goes to, and the headers that prove it."""
    if provider in PROVIDERS:
        source = customer.sources[provider]
        return source.path, dict(PROVIDERS[provider].sign(body, secret=source.secret, now_ms=now_ms))
    return f"/api/convagents/webhook/{event}", {"X-Webhook-Secret": customer.template_secret}


def _event_id(text: bytes) -> str | None:
    """The event's id: at the top for sources, within `data` on CanaryLLM's routes."""
    answer = json.loads(text)
    return str(answer.get("data", answer)["id"])
