"""What the load is made of: signed 4 KB webhooks, and admissions for filling the outbox directly."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from relay.calls import Facts, derived_session_id, event_id
from relay.outbox import Admission, Unit
from relay.outbox.outcomes import encode_facts
from relay.providers import elevenlabs
from relay.queues import BILLING, RELAY
from relay.sealing import KeyRing, seal_event

SECRET: Final = "wsec_bench"
_RETENTION_MS: Final = 96 * 3_600_000
_WINDOW_MS: Final = 95 * 3_600_000


@dataclass(frozen=True, slots=True)
class Route:
    """One source and the endpoint that it delivers to."""

    account_id: str
    source_id: str
    endpoint_id: str


def payload(size_bytes: int) -> tuple[str, bytes]:
    """An ElevenLabs post-call webhook of about this size, with a conversation id of its own."""
    conversation_id = uuid.uuid4().hex
    now = int(time.time())
    body = {
        "type": "post_call_transcription",
        "event_timestamp": now,
        "data": {
            "agent_id": "agent_bench",
            "conversation_id": conversation_id,
            "status": "done",
            "transcript": [],
            "metadata": {"start_time_unix_secs": now - 91, "call_duration_secs": 91, "cost": 296},
            "analysis": {"call_successful": "success", "transcript_summary": "none"},
        },
    }
    turn = {"role": "agent", "message": "What brings you to us today, and how may we help?", "time_in_call_secs": 1}
    transcript = body["data"]["transcript"]  # type: ignore[index]
    while len(json.dumps(body)) < size_bytes:
        transcript.append(turn)
    return conversation_id, json.dumps(body).encode()


def requests(routes: Sequence[Route], count: int, *, size_bytes: int) -> list[bytes]:
    """Whole HTTP requests, signed now, spread over the routes."""
    made = []
    for number in range(count):
        _, body = payload(size_bytes)
        [(name, value)] = elevenlabs.sign(body, secret=SECRET, now_ms=int(time.time() * 1000))
        route = routes[number % len(routes)]
        head = (
            f"POST /api/v1/webhooks/elevenlabs/{route.source_id} HTTP/1.1\r\nHost: bench\r\n{name}: {value}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        made.append(head.encode() + body)
    return made


def admissions(
    routes: Sequence[Route], count: int, *, ring: KeyRing, size_bytes: int, relayed: bool, billed: bool
) -> list[Admission]:
    """Events as the ingress would commit them, for a backlog that needs no web process."""
    made = []
    _, body = payload(size_bytes)
    for number in range(count):
        route = routes[number % len(routes)]
        conversation_id = uuid.uuid4().hex
        call = elevenlabs.read(body)
        call = type(call)(
            provider=call.provider,
            kind=call.kind,
            event_class=call.event_class,
            conversation_id=conversation_id,
            dedupe=(conversation_id, *call.dedupe[1:]),
            agent_id=call.agent_id,
            occurred_at_ms=call.occurred_at_ms,
            ending=call.ending,
        )
        event = event_id(route.account_id, call.provider, route.source_id, call.dedupe)
        facts = Facts(
            event_id=event,
            account_id=route.account_id,
            call=call,
            session_id=derived_session_id(route.account_id, call.provider, conversation_id),
            accepted_at_ms=int(time.time() * 1000),
            source_id=route.source_id,
        )
        relay, billing = Unit(RELAY, route.endpoint_id), Unit(BILLING, route.account_id)
        units = tuple(unit for unit, wanted in ((relay, relayed), (billing, billed)) if wanted)
        sealed = seal_event(ring, body, event_id=event, account_id=route.account_id) if relayed else b""
        made.append(
            Admission(event, route.account_id, encode_facts(facts), sealed, _RETENTION_MS, _WINDOW_MS, 1 << 40, units)
        )
    return made
