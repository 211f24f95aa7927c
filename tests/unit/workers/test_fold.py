"""Outcomes folded into rows: each key once, the newest entry of a delivery wins."""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec.structs import replace

from relay.calls import CallEvent, Ending, Facts
from relay.outbox.outcomes import AcceptedOutcome, AttemptOutcome, StreamEntry
from workers.record import fold, gone_endpoints

NOON_MS = int(datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp() * 1000)


def facts(event_id: str = "evt_1", *, ending: Ending | None = None, livemode: bool = True) -> Facts:
    """The facts of an event."""
    call = CallEvent(
        provider="retell",
        kind="call_started",
        event_class="event",
        conversation_id="call_1",
        dedupe=("call_started", "call_1"),
        ending=ending,
        livemode=livemode,
    )
    return Facts(event_id=event_id, account_id="acc_1", call=call, session_id=7, accepted_at_ms=NOON_MS)


def accepted(stream_id: str, what: Facts, *endpoints: str) -> StreamEntry:
    """An accepted event."""
    return StreamEntry(stream_id, AcceptedOutcome(what, endpoints, 4096))


def attempt(stream_id: str, number: int, status: str, **more: object) -> StreamEntry:
    """One attempt at evt_1 for ep_1."""
    fields = {"event_id": "evt_1", "endpoint_id": "ep_1", "account_id": "acc_1", "accepted_ms": NOON_MS}
    return StreamEntry(stream_id, AttemptOutcome(**fields, number=number, status=status, **more))  # type: ignore[arg-type]


def test_accepted_event_becomes_event_deliveries_and_an_active_session() -> None:
    """Every endpoint has a pending delivery on the event's own day."""
    folded = fold([accepted(f"{NOON_MS}-0", facts(), "ep_1", "ep_2")])
    assert [event.id for event in folded.events] == ["evt_1"]
    assert {key: row.status for key, row in folded.deliveries.items()} == {
        ("evt_1", "ep_1"): "pending",
        ("evt_1", "ep_2"): "pending",
    }
    (session,) = folded.sessions.values()
    assert (session.status, session.id) == ("active", 7)
    assert {row.day.isoformat() for row in folded.deliveries.values()} == {"2026-11-20"}


def test_two_attempts_in_one_batch_are_one_delivery_row_and_two_attempts() -> None:
    """Two rows of one key in a statement would fail it; the newest says how the delivery stands."""
    folded = fold(
        [
            accepted(f"{NOON_MS}-0", facts(), "ep_1"),
            attempt(f"{NOON_MS + 10}-0", 1, "pending", code="http_500", http_status=500, retry_in_ms=5000),
            attempt(f"{NOON_MS + 5010}-0", 2, "delivered", http_status=200),
        ]
    )
    (delivery,) = folded.deliveries.values()
    assert (delivery.status, delivery.attempts, delivery.next_attempt_at) == ("delivered", 2, None)
    assert sorted(folded.attempts) == [("evt_1", "ep_1", 1), ("evt_1", "ep_1", 2)]


def test_acceptance_read_after_its_attempt_does_not_undo_it() -> None:
    """Another reader may have left the acceptance behind: the delivery stays delivered."""
    folded = fold([attempt(f"{NOON_MS + 10}-0", 1, "delivered"), accepted(f"{NOON_MS}-0", facts(), "ep_1")])
    assert [row.status for row in folded.deliveries.values()] == ["delivered"]


def test_session_that_billing_ends_is_left_to_billing() -> None:
    """A terminal event writes no session here, unless it is test traffic that billing never sees."""
    ending = Ending(status="completed", duration_seconds="91")
    assert fold([accepted("1-0", facts(ending=ending))]).sessions == {}
    (session,) = fold([accepted("1-0", facts(ending=ending, livemode=False))]).sessions.values()
    assert session.status == "completed"


def test_beginning_is_told_with_its_own_moment_or_that_of_its_acceptance() -> None:
    """A provider that says when the call began is believed; who only tells of a running call is timed by us."""
    told = replace(facts(), call=replace(facts().call, begins=True))
    timed = replace(told, call=replace(told.call, occurred_at_ms=NOON_MS - 4000))
    folded = fold([accepted("1-0", told), accepted("2-0", timed), accepted("3-0", facts())])
    assert [(row.id, row.at.timestamp() * 1000) for row in folded.beginnings] == [(7, NOON_MS), (7, NOON_MS - 4000)]


def test_settlement_without_a_request_is_no_attempt() -> None:
    """A disabled endpoint's delivery ends dead with its code, and nothing is said to have been sent."""
    folded = fold([attempt("1-0", 0, "dead", attempted=False, code="endpoint_disabled")])
    (delivery,) = folded.deliveries.values()
    assert (delivery.status, delivery.code, delivery.attempts) == ("dead", "endpoint_disabled", 0)
    assert folded.attempts == {}


def test_gone_endpoints_are_those_that_answered_410() -> None:
    """Only an answer of 410 disables an endpoint, not every dead delivery."""
    entries = [
        attempt("1-0", 1, "dead", http_status=410, code="endpoint_gone"),
        attempt("2-0", 0, "dead", attempted=False, code="endpoint_gone"),
        accepted("3-0", facts(), "ep_9"),
    ]
    assert gone_endpoints(entries) == {("acc_1", "ep_1")}
