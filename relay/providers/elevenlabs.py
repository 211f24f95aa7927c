"""ElevenLabs: post-call webhooks of its agents.

Formats: ElevenLabs docs, "Post-call webhooks". Signatures: `webhooks.construct_event` of the official Python package
2.78.0; ours accepts what it accepts, except timestamps that are not plain digits or lie more than 300 s ahead, and
takes any of several `v0` where the Python package takes the last and the Node package the first.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Final

import msgspec

from relay.calls import CallEvent, Ending
from relay.providers.decoding import (
    ABSENT,
    Reader,
    amount,
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

NAME: Final = "elevenlabs"
SIGNATURE_HEADERS: Final = ("ElevenLabs-Signature",)
TRANSCRIPTION: Final = "post_call_transcription"
INITIATION_FAILURE: Final = "call_initiation_failure"
AUDIO: Final = "post_call_audio"

PAST_TOLERANCE_MS: Final = 1_800_000
FUTURE_TOLERANCE_MS: Final = 300_000
# A signature is 67 characters; this leaves room for fifty, and bounds the work that a hostile header can cause.
_MAX_HEADER_CHARS: Final = 4_096
_MAX_TIMESTAMP_DIGITS: Final = 15
_HEX_DIGEST_CHARS: Final = 64
# Nobody speaks this often in a call; what says so is no count.
_MAX_TURNS: Final = 1_000_000


class _Metadata(msgspec.Struct, frozen=True):
    start_time_unix_secs: msgspec.Raw = ABSENT
    call_duration_secs: msgspec.Raw = ABSENT
    cost: msgspec.Raw = ABSENT
    cost_fiat: msgspec.Raw = ABSENT


class DynamicVariables(msgspec.Struct, frozen=True):
    """The one dynamic variable that is ours: the rest are the customer's own."""

    canary_session_id: msgspec.Raw = ABSENT


class ClientData(msgspec.Struct, frozen=True):
    """What the client gave when it opened the conversation."""

    dynamic_variables: DynamicVariables | None = None


class _Data(msgspec.Struct, frozen=True):
    conversation_id: str | None = None
    agent_id: str | None = None
    status: str | None = None
    metadata: _Metadata | None = None
    user_message_count: msgspec.Raw = ABSENT
    agent_message_count: msgspec.Raw = ABSENT
    conversation_initiation_client_data: ClientData | None = None


class _Body(msgspec.Struct, frozen=True):
    type: str | None = None
    event_timestamp: msgspec.Raw = ABSENT
    data: _Data | None = None


class _Summary(_Metadata, frozen=True):
    """How a list shows a conversation."""

    conversation_id: str | None = None
    agent_id: str | None = None
    status: str | None = None
    user_message_count: msgspec.Raw = ABSENT
    agent_message_count: msgspec.Raw = ABSENT


_READER: Final = Reader(_Body)
_CONVERSATIONS: Final = Reader(_Data)
_SUMMARIES: Final = Reader(_Summary)
# What becomes of a conversation; before, it is initiated, in progress or being processed.
_OVER: Final = frozenset({"done", "failed"})


def verify(body: bytes, signature: str | None, *, secrets: Sequence[str], now_ms: int) -> bool:
    """Whether `t=<unix seconds>,v0=<hex HMAC-SHA256 of "t.body">` proves the body under any of the secrets.

    1,800 s of age and 300 s of skew ahead are accepted. Never raises.
    """
    if signature is None or len(signature) > _MAX_HEADER_CHARS:
        return False
    timestamp, candidates = _parsed(signature)
    if not _is_timely(timestamp, now_ms):
        return False
    proven = False
    for secret in secrets:
        if secret:
            expected = _digest(body, secret, timestamp).encode("ascii")
            for candidate in candidates:
                # No early exit: the time taken does not tell which secret or candidate was the right one.
                proven |= hmac.compare_digest(expected, candidate)
    return proven


def sign(body: bytes, *, secret: str, now_ms: int) -> tuple[tuple[str, str], ...]:
    """The header that proves `body` under `secret`, as ElevenLabs writes it."""
    timestamp = str(now_ms // 1000)
    return ((SIGNATURE_HEADERS[0], f"t={timestamp},v0={_digest(body, secret, timestamp)}"),)


def read(body: bytes) -> CallEvent:
    """The facts of a verified body. Raises PayloadError.

    `post_call_transcription` and `call_initiation_failure` end the call. The former and `post_call_audio` are keyed
    by conversation, type and timestamp as ElevenLabs repeats them. A type we do not know is relayed whatever it
    lacks: the hash of its body stands in for the conversation id and for the timestamp.
    """
    payload = _READER.read(body)
    kind = needed(payload.type, "type")
    data = payload.data or _Data()
    if kind in (TRANSCRIPTION, INITIATION_FAILURE, AUDIO):
        conversation_id = needed(data.conversation_id, "data.conversation_id")
        timestamp = str(needed_integer(payload.event_timestamp, "event_timestamp"))
    else:
        unnamed = fingerprint(body)
        conversation_id = optional(data.conversation_id, "data.conversation_id") or unnamed
        seconds = integer(payload.event_timestamp)
        timestamp = unnamed if seconds is None else str(seconds)
    ending = _ending(kind, data)
    return CallEvent(
        provider=NAME,
        kind=kind,
        event_class="event" if ending is None else "complete",
        conversation_id=conversation_id,
        dedupe=(conversation_id, kind, timestamp),
        agent_id=optional(data.agent_id, "data.agent_id"),
        session_hint=named_session(data.conversation_initiation_client_data),
        occurred_at_ms=moment_ms(payload.event_timestamp, unit_ms=1000),
        ending=ending,
    )


def record(conversation: bytes) -> CallRecord:
    """What is known of a conversation, as the API shows it alone. Raises PayloadError."""
    return _record(_CONVERSATIONS.read(conversation))


def summary(item: bytes) -> CallRecord:
    """The same of one in a list, which does not say for which session it was opened. Raises PayloadError."""
    listed = _SUMMARIES.read(item)
    return _record(
        _Data(
            conversation_id=listed.conversation_id,
            agent_id=listed.agent_id,
            status=listed.status,
            metadata=listed,
            user_message_count=listed.user_message_count,
            agent_message_count=listed.agent_message_count,
        )
    )


def _record(data: _Data) -> CallRecord:
    ending = _ending(TRANSCRIPTION, data)
    call = CallEvent(
        provider=NAME,
        kind=TRANSCRIPTION,
        event_class="complete",
        conversation_id=needed(data.conversation_id, "conversation_id"),
        agent_id=optional(data.agent_id, "agent_id"),
        session_hint=named_session(data.conversation_initiation_client_data),
        occurred_at_ms=None if ending is None else ending.ended_at_ms,
        ending=ending,
    )
    return CallRecord(call=call, is_over=data.status in _OVER)


def named_session(client_data: ClientData | None) -> int | None:
    """The session that the client passed as the dynamic variable `canary_session_id`."""
    if client_data is None or client_data.dynamic_variables is None:
        return None
    return session_id(client_data.dynamic_variables.canary_session_id)


def _ending(kind: str, data: _Data) -> Ending | None:
    if kind == INITIATION_FAILURE:
        return Ending(status="failed")
    if kind != TRANSCRIPTION:
        return None
    metadata = data.metadata or _Metadata()
    started_at_ms = moment_ms(metadata.start_time_unix_secs, unit_ms=1000)
    seconds = integer(metadata.call_duration_secs)
    ended_at_ms = None
    if started_at_ms is not None and seconds is not None and seconds >= 0:
        ended_at_ms = within_calendar(started_at_ms + seconds * 1000)
    return Ending(
        status="failed" if data.status == "failed" else "completed",
        duration_seconds=number(metadata.call_duration_secs),
        started_at_ms=started_at_ms,
        ended_at_ms=ended_at_ms,
        provider_cost_usd=amount(metadata.cost_fiat),
        provider_credits=amount(metadata.cost),
        turns=_turns(data),
    )


def _turns(data: _Data) -> int | None:
    """The turns of both sides together; None unless both are told."""
    counts = [integer(data.user_message_count), integer(data.agent_message_count)]
    turns = [count for count in counts if count is not None and 0 <= count <= _MAX_TURNS]
    return sum(turns) if len(turns) == len(counts) else None


def _parsed(signature: str) -> tuple[str, list[bytes]]:
    """The last `t` and every `v0` that has the length of one; parts are not stripped, as in the official packages."""
    timestamp = ""
    candidates = []
    for part in signature.split(","):
        if part.startswith("t="):
            timestamp = part[2:]
        elif part.startswith("v0=") and len(part) == len("v0=") + _HEX_DIGEST_CHARS:
            candidates.append(part[3:].encode("utf-8", "surrogatepass"))
    return timestamp, candidates


def _is_timely(timestamp: str, now_ms: int) -> bool:
    if len(timestamp) > _MAX_TIMESTAMP_DIGITS or not (timestamp.isascii() and timestamp.isdigit()):
        return False
    return -PAST_TOLERANCE_MS <= int(timestamp) * 1000 - now_ms <= FUTURE_TOLERANCE_MS


def _digest(body: bytes, secret: str, timestamp: str) -> str:
    mac = hmac.new(secret.encode(), f"{timestamp}.".encode("ascii"), "sha256")
    mac.update(body)
    return mac.hexdigest()
