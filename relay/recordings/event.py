"""What becomes of a recording: the event `canonical.recording`, which ends its call. Pure.

It is charged by the duration that was measured. A recording that could not be measured ends its call as failed, with a
code and no duration, and is not charged.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec.structs import replace

from relay.calls import CallEvent, Ending, Facts, event_id
from relay.content import Content
from relay.recordings.measure import Measured
from relay.recordings.request import CALL, PROVIDER, SCOPE, Assistant

RECORDING: Final = "recording"


def facts_of(request: Facts, outcome: Measured | str, *, now_ms: int) -> Facts:
    """The facts of the event, from those of the call that was handed in. `outcome` is a code if it is not measured.

    The same call gives the same event id, so that it is charged and delivered once whatever dies in between. It
    occurred when it was handed in, as far as anybody knows: that chooses the rate card.
    """
    dedupe = (RECORDING, request.call.conversation_id)
    if isinstance(outcome, Measured):
        ending = Ending(status="completed", duration_seconds=str(outcome.seconds))
    else:
        ending = Ending(status="failed", code=outcome)
    call = CallEvent(
        provider=PROVIDER,
        kind=RECORDING,
        event_class="complete",
        conversation_id=request.call.conversation_id,
        dedupe=dedupe,
        agent_id=request.call.agent_id,
        occurred_at_ms=request.accepted_at_ms,
        ending=ending,
    )
    identity = event_id(request.account_id, PROVIDER, SCOPE, dedupe)
    return replace(request, event_id=identity, call=call, accepted_at_ms=now_ms)


def ids(account_id: str, call_id: str) -> tuple[str, str]:
    """The ids of a call that was handed in, and of the event that it becomes."""
    handed_in, measured = (event_id(account_id, PROVIDER, SCOPE, (kind, call_id)) for kind in (CALL, RECORDING))
    return handed_in, measured


def body_of(request: Facts, assistant: Assistant | None, outcome: Measured | str) -> Content:
    """What endpoints receive: metadata of our own making, as JSON.

    Without an assistant, whose description was lost with the content, only its id is told.
    """
    is_measured = isinstance(outcome, Measured)
    told: dict[str, Any] = {
        "event": RECORDING,
        "callId": request.call.conversation_id,
        "assistant": assistant or {"id": request.call.agent_id},
        "status": "completed" if is_measured else "failed",
        # As written, not as a float: 61.500 stays 61.500.
        "durationSeconds": msgspec.Raw(str(outcome.seconds).encode()) if isinstance(outcome, Measured) else None,
        "format": outcome.format if isinstance(outcome, Measured) else None,
        "code": outcome if isinstance(outcome, str) else None,
    }
    return Content(msgspec.json.encode(told))
