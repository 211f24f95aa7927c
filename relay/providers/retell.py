"""Retell AI: webhooks of its voice calls and chats.

Formats: Retell docs, "Webhook Overview", and its OpenAPI call object. Signatures: `retell.lib.webhook_auth` of the
official Python package 6.2.13, with ASCII digits only.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from typing import Final

import msgspec

from relay.calls import CallEvent, Ending, EventClass
from relay.providers.decoding import (
    ABSENT,
    Reader,
    account_id,
    amount,
    fingerprint,
    integer,
    moment_ms,
    needed,
    number,
    optional,
    session_id,
    shifted,
)
from relay.providers.records import CallRecord

NAME: Final = "retell"
SIGNATURE_HEADERS: Final = ("X-Retell-Signature",)
STARTED: Final = "call_started"
ENDED: Final = "call_ended"
ANALYZED: Final = "call_analyzed"
# In the metadata of every call that is begun here: whose it is. Only who has the workspace's key can write it.
ACCOUNT_LABEL: Final = "switchhook_account"

TOLERANCE_MS: Final = 300_000
_SIGNATURE: Final = re.compile(r"v=([0-9]{1,16}),d=([0-9a-f]{64})")

_ONCE_PER_CALL: Final = frozenset({STARTED, ENDED, ANALYZED})
_CALL_KINDS: Final = _ONCE_PER_CALL | {"transcript_updated"}
_CHAT_KINDS: Final = frozenset({"chat_started", "chat_ended", "chat_analyzed"})
_TRANSFERS: Final = frozenset({"transfer_started", "transfer_bridged", "transfer_cancelled", "transfer_ended"})
# Reasons for a call that was never connected, when it has no start; some samples carry a call_status of long before.
_UNCONNECTED_PREFIXES: Final = ("dial_", "error_")
_UNCONNECTED_REASONS: Final = frozenset({
    "concurrency_limit_reached", "no_valid_payment", "scam_detected", "invalid_destination",
    "telephony_provider_permission_denied", "telephony_provider_unavailable", "sip_routing_error", "marked_as_spam",
    "user_declined", "registered_call_timeout",
})  # fmt: skip


class _Cost(msgspec.Struct, frozen=True):
    combined_cost: msgspec.Raw = ABSENT


class _Variables(msgspec.Struct, frozen=True):
    canary_session_id: msgspec.Raw = ABSENT


class _Metadata(_Variables, frozen=True):
    switchhook_account: str | None = None


class _Call(msgspec.Struct, frozen=True):
    call_id: str | None = None
    agent_id: str | None = None
    call_status: str | None = None
    disconnection_reason: str | None = None
    start_timestamp: msgspec.Raw = ABSENT
    end_timestamp: msgspec.Raw = ABSENT
    duration_ms: msgspec.Raw = ABSENT
    call_cost: _Cost | None = None
    metadata: _Metadata | None = None
    retell_llm_dynamic_variables: _Variables | None = None


class _Chat(msgspec.Struct, frozen=True):
    chat_id: str | None = None
    agent_id: str | None = None


class _Body(msgspec.Struct, frozen=True):
    event: str | None = None
    call: _Call | None = None
    chat: _Chat | None = None


_READER: Final = Reader(_Body)
_CALLS: Final = Reader(_Call)
# What becomes of a call; before, it is registered or ongoing.
_OVER: Final = frozenset({"ended", "error", "not_connected"})


def verify(body: bytes, signature: str | None, *, secrets: Sequence[str], now_ms: int) -> bool:
    """Whether `v=<unix ms>,d=<hex HMAC-SHA256 of body then v>` proves the body under any of the secrets (API keys).

    300,000 ms either way are accepted. Never raises.
    """
    match = _SIGNATURE.fullmatch(signature or "")
    if match is None:
        return False
    timestamp, given = match.group(1), match.group(2).encode("ascii")
    if abs(now_ms - int(timestamp)) > TOLERANCE_MS:
        return False
    proven = False
    for secret in secrets:
        if secret:
            # No early exit: the time taken does not tell which secret was the right one.
            proven |= hmac.compare_digest(_digest(body, secret, timestamp).encode("ascii"), given)
    return proven


def sign(body: bytes, *, secret: str, now_ms: int) -> tuple[tuple[str, str], ...]:
    """The header that proves `body` under `secret`, as Retell writes it."""
    return ((SIGNATURE_HEADERS[0], f"v={now_ms},d={_digest(body, secret, str(now_ms))}"),)


def kind_of(body: bytes) -> str:
    """The event's own type alone, whatever else is wrong with the body. Raises PayloadError."""
    return needed(_READER.read(body).event, "event")


def read(body: bytes) -> CallEvent:
    """The facts of a verified body. Raises PayloadError.

    `call_ended` and `call_analyzed` both tell how the call ended, because either may come first; `call_analyzed`
    completes the session, or `call_ended` of a call in error, which is not analyzed. An event we do not know is
    relayed whatever it lacks: the hash of its body stands in for the call's id.
    """
    payload = _READER.read(body)
    kind = needed(payload.event, "event")
    call, chat = payload.call or _Call(), payload.chat or _Chat()
    conversation_id = _conversation_id(kind, call, chat) or fingerprint(body)
    return CallEvent(
        provider=NAME,
        kind=kind,
        event_class=_event_class(kind, call),
        conversation_id=conversation_id,
        dedupe=_dedupe(kind, conversation_id, call, body),
        agent_id=optional(call.agent_id, "call.agent_id") or optional(chat.agent_id, "chat.agent_id"),
        session_hint=_named_session(call),
        occurred_at_ms=_occurred_at_ms(kind, call),
        ending=_ending(call) if kind in (ENDED, ANALYZED) else None,
        begins=kind == STARTED,
        account_hint=None if call.metadata is None else account_id(call.metadata.switchhook_account),
    )


def record(item: bytes) -> CallRecord:
    """What is known of a call, as the API shows it alone or in a list. Raises PayloadError.

    Its event is `call_analyzed`, or `call_ended` of a call in error, which is not analyzed.
    """
    call = _CALLS.read(item)
    kind = ENDED if call.call_status == "error" else ANALYZED
    event = CallEvent(
        provider=NAME,
        kind=kind,
        event_class=_event_class(kind, call),
        conversation_id=needed(call.call_id, "call_id"),
        agent_id=optional(call.agent_id, "agent_id"),
        session_hint=_named_session(call),
        occurred_at_ms=_occurred_at_ms(kind, call),
        ending=_ending(call),
        account_hint=None if call.metadata is None else account_id(call.metadata.switchhook_account),
    )
    return CallRecord(call=event, is_over=call.call_status in _OVER)


def _conversation_id(kind: str, call: _Call, chat: _Chat) -> str | None:
    if kind in _CALL_KINDS or kind in _TRANSFERS:
        return needed(call.call_id, "call.call_id")
    if kind in _CHAT_KINDS:
        return needed(chat.chat_id, "chat.chat_id")
    return optional(call.call_id, "call.call_id") or optional(chat.chat_id, "chat.chat_id")


def _event_class(kind: str, call: _Call) -> EventClass:
    if kind == ANALYZED or (kind == ENDED and call.call_status == "error"):
        return "complete"
    return "event"


def _dedupe(kind: str, conversation_id: str, call: _Call, body: bytes) -> tuple[str, ...]:
    """Retell sends each call event once per call; transfers and transcripts come several times."""
    if kind in _ONCE_PER_CALL or kind in _CHAT_KINDS:
        return kind, conversation_id
    start = integer(call.start_timestamp) if kind in _TRANSFERS else None
    return kind, conversation_id, fingerprint(body) if start is None else str(start)


def _named_session(call: _Call) -> int | None:
    for variables in (call.metadata, call.retell_llm_dynamic_variables):
        if variables is not None and (named := session_id(variables.canary_session_id)) is not None:
            return named
    return None


def _occurred_at_ms(kind: str, call: _Call) -> int | None:
    """When the event happened, where the payload says so: it does not for an analysis, a transfer or a turn."""
    if kind == STARTED:
        return moment_ms(call.start_timestamp, unit_ms=1)
    return moment_ms(call.end_timestamp, unit_ms=1) if kind == ENDED else None


def _ending(call: _Call) -> Ending:
    started_at_ms = moment_ms(call.start_timestamp, unit_ms=1)
    ended_at_ms = moment_ms(call.end_timestamp, unit_ms=1)
    milliseconds = number(call.duration_ms)
    if milliseconds is None and started_at_ms is not None and ended_at_ms is not None:
        milliseconds = str(ended_at_ms - started_at_ms)
    return Ending(
        status="failed" if _has_failed(call) else "completed",
        duration_seconds=shifted(milliseconds, -3),
        started_at_ms=started_at_ms,
        ended_at_ms=ended_at_ms,
        # Retell's costs are US cents.
        provider_cost_usd=shifted(amount(call.call_cost.combined_cost), -2) if call.call_cost else None,
    )


def _has_failed(call: _Call) -> bool:
    if call.call_status in ("error", "not_connected"):
        return True
    reason = call.disconnection_reason or ""
    unconnected = reason.startswith(_UNCONNECTED_PREFIXES) or reason in _UNCONNECTED_REASONS
    return unconnected and integer(call.start_timestamp) is None


def _digest(body: bytes, secret: str, timestamp: str) -> str:
    mac = hmac.new(secret.encode(), body, "sha256")
    mac.update(timestamp.encode("ascii"))
    return mac.hexdigest()
