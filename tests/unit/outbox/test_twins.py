"""The same event that came in two ways, under two ids, is taken once."""

from __future__ import annotations

from collections.abc import Iterator

import fakeredis
import pytest
from msgspec.structs import replace

from relay.calls import CallEvent, fetched_event_id
from relay.outbox import Admission, Outbox, Room, Settlement, Unit, Verb, Verdict

UNIT = Unit("relay", "ep_1")


@pytest.fixture
def outbox() -> Iterator[Outbox]:
    """An empty one."""
    with fakeredis.FakeRedis(version=(6, 2)) as client:
        yield Outbox(client)


def accepted(outbox: Outbox, event_id: str, *, twin: str = "") -> Verdict:
    """What becomes of an event."""
    admission = Admission(event_id, "acc_1", b"f", b"sealed", 3_600_000, 3_000_000, 1 << 20, (UNIT,), 0, twin)
    return outbox.accept([admission]).verdicts[0]


@pytest.mark.parametrize("is_settled", [False, True])
def test_an_event_whose_twin_was_accepted_is_a_repeat(outbox: Outbox, is_settled: bool) -> None:
    """While the twin waits, and for as long as it is remembered afterwards; nothing more waits for it."""
    assert accepted(outbox, "evt_fetched") is Verdict.NEW
    if is_settled:
        (claim,) = outbox.claim("relay", Room(10), alone=False, content=False).units
        outbox.settle("relay", [Settlement(claim, Verb.DONE)])
    assert accepted(outbox, "evt_told", twin="evt_fetched") is Verdict.REPEAT
    assert outbox.audit("relay").accepted == 1


def test_an_event_whose_twin_never_came_is_new(outbox: Outbox) -> None:
    """And so is the next one without any."""
    assert accepted(outbox, "evt_told", twin="evt_fetched") is Verdict.NEW
    assert accepted(outbox, "evt_other") is Verdict.NEW


def test_only_what_completes_a_session_has_a_twin() -> None:
    """By account, provider and conversation, whatever it is called."""
    call = CallEvent(provider="retell", kind="call_analyzed", event_class="complete", conversation_id="call_1")
    ids = {
        fetched_event_id(call, account_id="acc_1"),
        fetched_event_id(call, account_id="acc_2"),
        fetched_event_id(replace(call, conversation_id="call_2"), account_id="acc_1"),
        fetched_event_id(replace(call, kind="call_ended"), account_id="acc_1"),
    }
    assert len(ids) == 3
    assert fetched_event_id(replace(call, event_class="event"), account_id="acc_1") is None
