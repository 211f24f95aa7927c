"""The facts of a call that may be kept. Nothing in this module can hold what was said.

Facts pass through Redis as MessagePack maps with short keys, so that versions N and N+1 of the code read each
other's entries: a field may be added with a default, never renamed or retyped.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Final, Literal

import msgspec

from relay.errors import PayloadError

EventClass = Literal["event", "complete"]
CallStatus = Literal["completed", "failed"]

MAX_FACT_CHARS: Final = 256
# The provider of events that Switchhook itself makes. They are no calls: no session comes of them, and no charge.
SWITCHHOOK: Final = "switchhook"
# NUL cannot be stored by Postgres; lone surrogates cannot be encoded by anything.
_UNKEEPABLE = re.compile("[\x00\ud800-\udfff]")
# What the proof of an event is worth where its account may have written it itself. By a template's secret or an API
# key; by a source of the account's own, whose secret it knows; by a source whose secret only we or an operator know.
TRUST_KEY: Final = 0
TRUST_SOURCE: Final = 1
TRUST_PROVIDER: Final = 2
# Ids of sessions first seen in a webhook start here: above every sequence, below 2**53, exact in JSON numbers.
DERIVED_SESSION_BASE: Final = 2**52


class Ending(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename={
    "status": "s", "duration_seconds": "d", "started_at_ms": "b", "ended_at_ms": "e",
    "provider_cost_usd": "u", "provider_credits": "c", "turns": "n",
    "code": "f",
}):  # fmt: skip
    """What an authoritative terminal event says about a whole call.

    Durations and amounts are decimal text exactly as the provider wrote them; `turns` is how often somebody spoke.
    `None` means absent, which is not zero. `code` says why a call failed, where it is Switchhook that knows.
    """

    status: CallStatus
    duration_seconds: str | None = None
    started_at_ms: int | None = None
    ended_at_ms: int | None = None
    provider_cost_usd: str | None = None
    provider_credits: str | None = None
    turns: int | None = None
    code: str | None = None


class CallEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename={
    "provider": "p", "kind": "k", "event_class": "x", "conversation_id": "c", "dedupe": "q", "agent_id": "a",
    "session_hint": "h", "occurred_at_ms": "o", "ending": "e", "livemode": "l", "begins": "b", "account_hint": "w",
    "template_hint": "t", "sent_at_ms": "s",
}):  # fmt: skip
    """One provider event, read from a verified body.

    `kind` is the provider's own event type; `dedupe` the provider's key for repeats of this event (contract,
    "Identity"), empty once the event's id was made of it; `session_hint` a session id that the payload names, which
    counts only within the verified account. `begins`: the call is under way, so that its session is no longer pending.

    The last three serve at the door and are not kept: the account and the template that a label names, which count
    only where the label is ours, and when the provider says that it sent this, if its signature bounds no age.
    """

    provider: str
    kind: str
    event_class: EventClass
    conversation_id: str
    dedupe: tuple[str, ...] = ()
    agent_id: str | None = None
    session_hint: int | None = None
    occurred_at_ms: int | None = None
    ending: Ending | None = None
    livemode: bool = True
    begins: bool = False
    account_hint: str | None = None
    template_hint: int | None = None
    sent_at_ms: int | None = None

    @property
    def type(self) -> str:
        """The event's type as endpoints filter on it: `retell.call_analyzed`."""
        return f"{self.provider}.{self.kind}"


class Facts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename={
    "event_id": "i", "account_id": "a", "call": "c", "session_id": "s", "accepted_at_ms": "t", "source_id": "o",
    "template_id": "m", "template_name": "n", "content_type": "y", "refetched": "r",
    "trust": "v",
}):  # fmt: skip
    """A call event with its place in Switchhook: frozen when it is accepted, the same on every attempt.

    The ids are empty only as the outbox keeps facts: it has them besides. `refetched`: the content is not the webhook's
    own, but was fetched from the provider later. `trust`: one of TRUST_..., for billing; what an older version wrote
    has the least.
    """

    event_id: str = ""
    account_id: str = ""
    call: CallEvent
    session_id: int
    accepted_at_ms: int
    source_id: str | None = None
    template_id: int | None = None
    template_name: str | None = None
    content_type: str = "application/json"
    refetched: bool = False
    trust: int = TRUST_KEY


def keepable(value: str, field: str) -> str:
    """Return a provider's string if it may be kept as a fact.

    Raises PayloadError naming the field for NUL, lone surrogates, an empty string or more than 256 characters.
    """
    if not value:
        raise PayloadError(f"{field} must not be empty", code="fact_empty", field=field)
    if len(value) > MAX_FACT_CHARS:
        raise PayloadError(f"{field} is longer than {MAX_FACT_CHARS} characters", code="fact_too_long", field=field)
    if _UNKEEPABLE.search(value):
        raise PayloadError(f"{field} holds NUL or a lone surrogate", code="fact_unkeepable", field=field)
    return value


def unnamed_conversation(session_id: int) -> str:
    """What stands for the conversation's id where an event names only its session."""
    return f"session-{session_id}"


def event_id(account_id: str, provider: str, scope: str, dedupe: tuple[str, ...]) -> str:
    """The id of an event: the same parts give the same id, so that a repeat is known by its id alone.

    `scope` is the source's id, or the route and template for CanaryLLM's routes. Parts are length-prefixed, so no
    two different lists of parts run together.
    """
    digest = _digest((account_id, provider, scope, *dedupe), size=16)
    return "evt_" + base64.b32encode(digest).decode("ascii").rstrip("=").lower()


def fetched_event_id(call: CallEvent, *, account_id: str) -> str | None:
    """The id of the event that completes a call's session, where it was not told but fetched; None for any other event.

    Whichever webhook tells of the same later is a repeat of it.
    """
    if call.event_class != "complete":
        return None
    return event_id(account_id, call.provider, "fetched", (call.conversation_id,))


def derived_session_id(account_id: str, provider: str, conversation_id: str) -> int:
    """The id of a session first seen in a webhook: 2**52 plus 52 bits of blake2b, hence a JSON-safe integer."""
    digest = _digest((account_id, provider, conversation_id), size=8)
    return DERIVED_SESSION_BASE + (int.from_bytes(digest, "big") >> 12)


def _digest(parts: tuple[str, ...], *, size: int) -> bytes:
    hasher = hashlib.blake2b(digest_size=size)
    for part in parts:
        raw = part.encode()
        hasher.update(len(raw).to_bytes(4, "big") + raw)
    return hasher.digest()
