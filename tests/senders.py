"""All that can arrive where content is taken: good webhooks and recordings, refused ones, and what is no HTTP at all.

Every request carries a canary in its body, its query and all the headers that a sender or a proxy may add.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final
from urllib.parse import quote

from tests.payloads import agora_headers, elevenlabs_headers, retell_digest
from tests.planted import (
    Canary,
    agora_bodies,
    broken_bodies,
    canaryllm_bodies,
    elevenlabs_bodies,
    recording_bodies,
    retell_bodies,
)

Headers = dict[str, str]
Sign = Callable[[bytes], Headers]

PROVIDER: Final = "POST /api/v1/webhooks/<provider>/<source_id>"
CANONICAL: Final = "POST /api/v1/webhooks/retell"
EVENT: Final = "POST /api/convagents/webhook/event"
COMPLETE: Final = "POST /api/convagents/webhook/complete"
CONTEXT: Final = "POST /api/convagents/webhook/context"
CALL: Final = "POST /api/v1/call"
# Every route that takes content. A test compares them with those that exist.
ROUTES: Final = frozenset({PROVIDER, CANONICAL, EVENT, COMPLETE, CONTEXT, CALL})

_TAKEN: Final = frozenset({200})
_UNREADABLE: Final = frozenset({200, 400, 502})
_ADDED: Final = (
    "User-Agent", "Referer", "Cookie", "X-Forwarded-For", "Forwarded", "From", "X-Request-Id", "Traceparent",
    "X-Anything", "Accept-Language", "If-None-Match",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sender:
    """Where an account's webhooks go, and what proves them; and where recordings are, by what happens to them."""

    elevenlabs_url: str
    retell_url: str
    agora_url: str
    provider_secret: str
    template_secret: str
    unhelpful_secrets: tuple[str, ...]
    api_key: str
    secrets: tuple[str, ...]
    recordings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sent:
    """One request, and the statuses that may answer it."""

    route: str
    name: str
    url: str
    body: bytes
    headers: Headers
    statuses: frozenset[int]

    @property
    def is_question(self) -> bool:
        """Whether it asks a customer's server, whose answer it gets."""
        return self.route == CONTEXT


@dataclass(frozen=True, slots=True)
class _Inlet:
    route: str
    url: str
    sign: Sign
    bodies: Mapping[str, bytes]
    statuses: frozenset[int] = _TAKEN
    # What it takes more than the ingress' routes.
    more_bytes: int = 0


def webhooks(sender: Sender, canary: Canary, *, most_bytes: int) -> Iterator[Sent]:
    """What to send, by routes. `most_bytes` is the largest body that is taken."""
    for inlet in _inlets(sender, canary):
        for name, body in inlet.bodies.items():
            yield _sent(inlet, name, body, inlet.sign(body), statuses=inlet.statuses, canary=canary)
        some = next(iter(inlet.bodies.values()))
        for name, body in broken_bodies(some, canary).items():
            yield _sent(inlet, name, body, inlet.sign(body), statuses=_UNREADABLE, canary=canary)
        spoilt = {header: value[:-1] + "#" for header, value in inlet.sign(some).items()}
        yield _sent(inlet, "a wrong proof", some, spoilt, statuses=frozenset({401}), canary=canary)
        yield _sent(
            inlet,
            "a canary for a proof",
            some,
            dict.fromkeys(spoilt, canary.token),
            statuses=frozenset({401}),
            canary=canary,
        )
        yield _sent(inlet, "no proof", some, {}, statuses=frozenset({401}), canary=canary)
        large = some + b" " * (most_bytes + inlet.more_bytes)
        yield _sent(inlet, "too large", large, inlet.sign(large), statuses=frozenset({413}), canary=canary)
        packed = gzip.compress(some)
        encoded = inlet.sign(packed) | {"Content-Encoding": "gzip"}
        yield _sent(inlet, "compressed", packed, encoded, statuses=frozenset({415}), canary=canary)
        elsewhere = _Inlet(inlet.route, f"{inlet.url}/elsewhere", inlet.sign, {})
        yield _sent(
            elsewhere, "a path that is not there", some, inlet.sign(some), statuses=frozenset({404, 405}), canary=canary
        )


def another(sender: Sender, canary: Canary, conversation_id: str) -> Sent:
    """One more transcription of ElevenLabs, of another conversation."""
    body = elevenlabs_bodies(canary)["transcription"].replace(b"conv_full", conversation_id.encode())
    headers = elevenlabs_headers(body, sender.provider_secret)
    return Sent(PROVIDER, conversation_id, sender.elevenlabs_url, body, headers, _TAKEN)


def malformed(canary: Canary) -> Iterator[bytes]:
    """Bytes that no HTTP server can read, on which servers like to report what they got."""
    said = canary.token.encode()
    start = b"POST /api/convagents/webhook/event HTTP/1.1\r\nHost: localhost\r\n"
    yield said + b" " + said + b"\r\n\r\n"
    yield b"POST /" + said + b" HTTP/9.9\r\n\r\n"
    yield start + b"X-" + said + b"\x00: " + said + b"\r\n\r\n"
    yield start + b"Content-Length: " + said + b"\r\n\r\n" + said
    yield start + b"Transfer-Encoding: chunked\r\n\r\n" + said + b"\r\n" + said + b"\r\n"
    yield start + b"Content-Length: 1000\r\n\r\n" + said
    yield start + b"X-Long: " + said * 40_000 + b"\r\n\r\n"


def _inlets(sender: Sender, canary: Canary) -> Iterator[_Inlet]:
    def elevenlabs(body: bytes) -> Headers:
        return elevenlabs_headers(body, sender.provider_secret)

    def retell(body: bytes) -> Headers:
        return retell_digest(body, sender.provider_secret)

    def agora(body: bytes) -> Headers:
        return agora_headers(body, sender.provider_secret)

    template = partial(_with_secret, sender.template_secret)

    def repeated(body: bytes) -> Headers:
        return template(body) | {"Idempotency-Key": canary.token}

    def key(_: bytes) -> Headers:
        return {"X-Canonical-Api-Key": sender.api_key}

    spoken = canaryllm_bodies(canary)
    by_elevenlabs = {"ElevenLabs' own": elevenlabs_bodies(canary)["transcription"]}
    yield _Inlet(PROVIDER, sender.elevenlabs_url, elevenlabs, elevenlabs_bodies(canary))
    yield _Inlet(PROVIDER, sender.retell_url, retell, retell_bodies(canary))
    yield _Inlet(PROVIDER, sender.agora_url, agora, agora_bodies(canary))
    yield _Inlet(CANONICAL, "/api/v1/webhooks/retell", key, retell_bodies(canary))
    yield _Inlet(EVENT, "/api/convagents/webhook/event", template, spoken)
    yield _Inlet(EVENT, "/api/convagents/webhook/event", repeated, spoken)
    yield _Inlet(COMPLETE, "/api/convagents/webhook/complete", template, spoken | by_elevenlabs)
    yield _Inlet(CONTEXT, "/api/convagents/webhook/context", template, spoken)
    yield _Inlet(CALL, "/api/v1/call", key, recording_bodies(canary, sender.recordings), more_bytes=100_000)
    for secret in sender.unhelpful_secrets:
        # Whose customer's server gives back what it was sent, and fails.
        asked = partial(_with_secret, secret)
        yield _Inlet(CONTEXT, "/api/convagents/webhook/context", asked, spoken, frozenset({502, 504}))


def _with_secret(secret: str, _: bytes) -> Headers:
    return {"X-Webhook-Secret": secret}


def _sent(inlet: _Inlet, name: str, body: bytes, headers: Headers, *, statuses: frozenset[int], canary: Canary) -> Sent:
    added = dict.fromkeys(_ADDED, canary.token) | headers
    return Sent(inlet.route, name, f"{inlet.url}?q={quote(canary.said('a query'))}", body, added, statuses)
