"""Agora: notifications of its Conversational AI Engine.

Formats: Agora docs, "Notification event types" and "Webhooks". Agora publishes no package that verifies them. Its
signatures cover the body alone and no time, so that a copy proves as much as the original: repeats are known by
`noticeId`, and whoever takes an event refuses what was sent longer ago than repeats are remembered (`sent_at_ms`).
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Final

import msgspec

from relay.calls import CallEvent, Ending, keepable
from relay.errors import EventIgnored
from relay.providers.decoding import (
    ABSENT,
    UNREADABLE,
    Reader,
    account_id,
    fingerprint,
    integer,
    moment_ms,
    needed,
    needed_integer,
    number,
    optional,
    session_id,
    within_calendar,
)
from relay.providers.records import CallRecord

NAME: Final = "agora"
# Agora sends both; SHA-256 is the second, and counts where it is there.
SIGNATURE_HEADERS: Final = ("Agora-Signature-V2", "Agora-Signature")
# What an agent is labelled with when it joins. The labels come back in its notifications, all but 104's.
ACCOUNT_LABEL: Final = "switchhook_account"
SESSION_LABEL: Final = "switchhook_session"
TEMPLATE_LABEL: Final = "switchhook_template"

# Conversational AI. The same numbers of other products mean other things.
PRODUCT: Final = 17
JOINED: Final = 101
LEFT: Final = 102
EXPIRED: Final = 104
# The numbers of Agora's event types, by the names of its documentation.
KINDS: Final = {
    JOINED: "agent_joined",
    LEFT: "agent_left",
    103: "agent_history",
    EXPIRED: "agent_expired",
    110: "agent_error",
    111: "agent_metrics",
    112: "turns_finished",
    201: "inbound_call_state",
    202: "outbound_call_state",
}
# Hexadecimal characters of a signature, and the hash that it was made with.
_ALGORITHMS: Final = {64: "sha256", 40: "sha1"}
# The channel and the user of what the console's "Check" sends.
_TEST_CHANNEL: Final = "test_webhook"
_TEST_USER: Final = 12_121_212


class _Labels(msgspec.Struct, frozen=True):
    switchhook_account: str | None = None
    switchhook_session: msgspec.Raw = ABSENT
    switchhook_template: msgspec.Raw = ABSENT


class _Payload(msgspec.Struct, frozen=True, rename={"channel_name": "channelName"}):
    agent_id: str | None = None
    channel: str | None = None
    channel_name: str | None = None
    uid: msgspec.Raw = ABSENT
    status: str | None = None
    start_ts: msgspec.Raw = ABSENT
    stop_ts: msgspec.Raw = ABSENT
    report_ms: msgspec.Raw = ABSENT
    labels: _Labels | None = None


class _Body(msgspec.Struct, frozen=True, rename="camel"):
    notice_id: str | None = None
    product_id: msgspec.Raw = ABSENT
    event_type: msgspec.Raw = ABSENT
    notify_ms: msgspec.Raw = ABSENT
    payload: _Payload | None = None


_READER: Final = Reader(_Body)
# What becomes of an agent; before, it is idle, starting, running, stopping or recovering.
_OVER: Final = frozenset({"STOPPED", "FAILED"})


def verify(body: bytes, signature: str | None, *, secrets: Sequence[str], now_ms: int) -> bool:  # noqa: ARG001
    """Whether lowercase hex HMAC-SHA256, or HMAC-SHA1 in the older header, proves the body under any of the secrets.

    No time is signed, so `now_ms` decides nothing. Never raises.
    """
    algorithm = _ALGORITHMS.get(len(signature or ""))
    if signature is None or algorithm is None:
        return False
    given = signature.encode("utf-8", "surrogatepass")
    proven = False
    for secret in secrets:
        if secret:
            # No early exit: the time taken does not tell which secret was the right one.
            proven |= hmac.compare_digest(_digest(body, secret, algorithm).encode("ascii"), given)
    return proven


def sign(body: bytes, *, secret: str, now_ms: int) -> tuple[tuple[str, str], ...]:  # noqa: ARG001
    """Both headers that prove `body` under `secret`, as Agora writes them."""
    new, old = SIGNATURE_HEADERS
    return (new, _digest(body, secret, "sha256")), (old, _digest(body, secret, "sha1"))


def read(body: bytes) -> CallEvent:
    """The facts of a verified body. Raises PayloadError, and EventIgnored for another product's event.

    `agent_left` alone ends a call, and completes its session. A type that we do not know is relayed as `event_` and
    its number, whatever its payload lacks, and so are the console's tests: the hash of the body stands in for the
    agent's id.
    """
    envelope = _READER.read(body)
    if needed_integer(envelope.product_id, "productId") != PRODUCT:
        raise EventIgnored(f"productId is not {PRODUCT}")
    event_type = needed_integer(envelope.event_type, "eventType")
    payload = envelope.payload or _Payload()
    labels = payload.labels or _Labels()
    is_test = _is_test(payload, labels)
    if event_type in KINDS and not is_test:
        conversation_id = needed(payload.agent_id, "payload.agent_id")
    else:
        conversation_id = optional(payload.agent_id, "payload.agent_id") or fingerprint(body)
    return CallEvent(
        provider=NAME,
        kind=KINDS.get(event_type) or f"event_{event_type}",
        event_class="complete" if event_type == LEFT else "event",
        conversation_id=conversation_id,
        dedupe=(needed(envelope.notice_id, "noticeId"),),
        agent_id=payload.agent_id or None,
        session_hint=session_id(labels.switchhook_session),
        occurred_at_ms=_occurred_at_ms(event_type, payload),
        ending=_ending(payload) if event_type == LEFT else None,
        livemode=not is_test,
        begins=event_type == JOINED,
        account_hint=account_id(labels.switchhook_account),
        template_hint=integer(labels.switchhook_template),
        sent_at_ms=needed_integer(envelope.notify_ms, "notifyMs"),
    )


def record(agent_id: str, *, status: str, start_ts: int | None, stop_ts: int | None) -> CallRecord:
    """What is known of an agent; times are Unix seconds. Agora's list does not say when one stopped."""
    started_at_ms, ended_at_ms = _shown_ms(start_ts), _shown_ms(stop_ts)
    is_known = start_ts is not None and stop_ts is not None
    call = CallEvent(
        provider=NAME,
        kind=KINDS[LEFT],
        event_class="complete",
        conversation_id=keepable(agent_id, "agent_id"),
        agent_id=agent_id,
        occurred_at_ms=ended_at_ms,
        ending=Ending(
            status="failed" if status == "FAILED" else "completed",
            duration_seconds=str((stop_ts or 0) - (start_ts or 0)) if is_known else None,
            started_at_ms=started_at_ms,
            ended_at_ms=ended_at_ms,
        ),
    )
    return CallRecord(call=call, is_over=status in _OVER)


def _shown_ms(seconds: int | None) -> int | None:
    return None if seconds is None else within_calendar(seconds * 1000)


def _is_test(payload: _Payload, labels: _Labels) -> bool:
    """Whether the console sent it. Who is charged for an agent may name its channel, but cannot take our label off."""
    if labels.switchhook_account is not None:
        return False
    return _TEST_CHANNEL in (payload.channel, payload.channel_name) or integer(payload.uid) == _TEST_USER


def _occurred_at_ms(event_type: int, payload: _Payload) -> int | None:
    """When the event happened, where the payload says so. Times are seconds but for those of 112, 201 and 202."""
    match event_type:
        case 101:
            return moment_ms(payload.start_ts, unit_ms=1000)
        case 102 | 103 | 111:
            return moment_ms(payload.stop_ts, unit_ms=1000)
        case 112:
            return moment_ms(payload.stop_ts, unit_ms=1)
        case 201 | 202:
            return moment_ms(payload.report_ms, unit_ms=1)
    return None


def _ending(payload: _Payload) -> Ending:
    return Ending(
        status="failed" if payload.status == "FAILED" else "completed",
        duration_seconds=_duration_seconds(payload),
        started_at_ms=moment_ms(payload.start_ts, unit_ms=1000),
        ended_at_ms=moment_ms(payload.stop_ts, unit_ms=1000),
    )


def _duration_seconds(payload: _Payload) -> str | None:
    if number(payload.start_ts) is None or number(payload.stop_ts) is None:
        return None
    start, stop = integer(payload.start_ts), integer(payload.stop_ts)
    return UNREADABLE if start is None or stop is None else str(stop - start)


def _digest(body: bytes, secret: str, algorithm: str) -> str:
    return hmac.digest(secret.encode(), body, algorithm).hex()
