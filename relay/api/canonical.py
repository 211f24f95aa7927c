"""Canonical.chat's intake for recordings: a call is handed in by the address of its recording."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import ConfigDict, Field

from relay.api.core.access import Access
from relay.api.core.families import CANONICAL
from relay.api.core.models import Input, Output
from relay.api.core.operations import Call, Group
from relay.calls import MAX_FACT_CHARS
from relay.delivery.url import MAX_URL_CHARS
from relay.recordings import request
from relay.recordings.request import HandedIn

group = Group(CANONICAL, tag="Canonical")

_MAX_DESCRIPTION_CHARS: Final = 2048
Fact = Annotated[str, Field(min_length=1, max_length=MAX_FACT_CHARS)]


class _Open(Input):
    """Canonical's schema does not close its objects: what it does not name is let through, and not kept."""

    model_config = ConfigDict(extra="ignore")


class Assistant(_Open):
    """The agent of a call: an id of the customer's choice, and whether it speaks first."""

    id: Fact
    speaks_first: bool
    description: Annotated[str, Field(max_length=_MAX_DESCRIPTION_CHARS)] = ""


class NewCall(_Open):
    """A call with the address of its recording, and the customer's own id for it."""

    assistant: Assistant
    location: Annotated[
        str,
        Field(min_length=1, max_length=MAX_URL_CHARS, examples=["https://customer.example/recordings/1.wav"]),
    ]
    call_id: Fact

    def handed_in(self) -> HandedIn:
        """What is sealed and committed."""
        assistant = self.assistant
        return HandedIn(
            assistant=request.Assistant(
                id=assistant.id, speaks_first=assistant.speaks_first, description=assistant.description or None
            ),
            location=self.location,
            call_id=self.call_id,
        )


class TakenCall(Output):
    """The caller's own id."""

    call_id: str


@group.operation("POST", "/api/v1/call", access=Access.WRITE, body=NewCall, answers={200: TakenCall})
def hand_in_call(call: Call[NewCall, None]) -> TakenCall:
    """Hand in a call by the address of its recording.

    The call is committed before the answer. A worker then fetches the recording, measures how long it lasts, charges
    the call once and tells the account's endpoints with an event `canonical.recording`; nothing of the recording is
    kept. The same `callId` again is the same call, however much later: it gets the same answer, and nothing more
    happens. Only one that failed is tried again, from a day after its event was delivered.
    """
    call.services.recordings.take(call.account_id, call.body.handed_in())
    return TakenCall(call_id=call.body.call_id)
