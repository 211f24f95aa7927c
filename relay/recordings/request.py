"""What a customer hands in: whose call it was and where its recording is.

The address may carry a token and the description may say anything: both are content, sealed like a webhook's body.
"""

from __future__ import annotations

from typing import Final

import msgspec

from relay.calls import CallEvent, Facts, derived_session_id, event_id
from relay.content import Content
from relay.sealing import KeyRing, open_event, seal_event

PROVIDER: Final = "canonical"
# In place of a source's id: the account's key has proved it, whichever of its keys.
SCOPE: Final = "call"
CALL: Final = "call"


class Assistant(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The agent of a call, as the customer names it. Only its id is a fact."""

    id: str
    speaks_first: bool
    description: str | None = None

    def __repr__(self) -> str:
        return "<Assistant>"


class HandedIn(msgspec.Struct, frozen=True, rename="camel"):
    """A call whose recording waits at `location`."""

    assistant: Assistant
    location: str
    call_id: str

    def __repr__(self) -> str:
        return "<HandedIn>"

    def content(self) -> Content:
        """As JSON."""
        return Content(msgspec.json.encode(self))


def sealed(ring: KeyRing, handed_in: HandedIn, *, event_id: str, account_id: str) -> bytes:
    """A call as the outbox keeps it."""
    return seal_event(ring, handed_in.content().reveal(), event_id=event_id, account_id=account_id)


def opened(ring: KeyRing, sealed: bytes, *, event_id: str, account_id: str) -> HandedIn:
    """What was sealed. Raises UnsealError."""
    content = Content(open_event(ring, sealed, event_id=event_id, account_id=account_id))
    return msgspec.json.decode(content.reveal(), type=HandedIn)


def facts_of(handed_in: HandedIn, *, account_id: str, now_ms: int) -> Facts:
    """The facts of a call that is handed in now. The same account and call id are the same event."""
    call = CallEvent(
        provider=PROVIDER,
        kind=CALL,
        event_class="event",
        conversation_id=handed_in.call_id,
        dedupe=(CALL, handed_in.call_id),
        agent_id=handed_in.assistant.id,
    )
    return Facts(
        event_id=event_id(account_id, PROVIDER, SCOPE, call.dedupe),
        account_id=account_id,
        call=call,
        session_id=derived_session_id(account_id, PROVIDER, handed_in.call_id),
        accepted_at_ms=now_ms,
    )
