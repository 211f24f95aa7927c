"""Content that is deleted on request, rule by rule: what waits for it ends, what is under way ends with its attempt."""

from __future__ import annotations

import pytest

from relay.outbox import Readmission, Replay, Room, Settlement, Shred, Shredded, Unit, Verb, keys
from relay.outbox.outcomes import AttemptOutcome, OutcomeReader, StreamEntry, encode_outcome
from tests.outboxes import BILL, EP1, EP2, HOUR_MS, MINUTE_MS, RETENTION_MS, WINDOW_MS, Bench

OUTCOME = AttemptOutcome(
    event_id="evt_1", endpoint_id="", account_id="acct_1", accepted_ms=7, number=0, status="dead", attempted=False,
    code="erased",
)  # fmt: skip
WISH = Shred("evt_1", encode_outcome(OUTCOME))


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """An empty outbox."""
    return Bench(monkeypatch)


def ends(bench: Bench) -> list[tuple[str, int]]:
    """The endpoints and attempts that the records are told to have ended as erased."""
    reader = OutcomeReader(bench.client, consumer="test")
    reader.read(most=1)
    entries = [entry.outcome for entry in reader.read(most=100) if isinstance(entry, StreamEntry)]
    told = [entry for entry in entries if isinstance(entry, AttemptOutcome) and entry.code == "erased"]
    assert all((entry.event_id, entry.status, entry.accepted_ms) == ("evt_1", "dead", 7) for entry in told)
    return [(entry.endpoint_id, entry.number) for entry in told]


def test_what_waits_ends_and_leaves_nothing(bench: Bench) -> None:
    """Due now or in hours: its content, facts and bytes are gone, and it is told as dead with its attempts."""
    bench.accept(EP1, EP2)
    bench.end(Verb.RETRY, "ep_2", delay_ms=HOUR_MS)
    assert bench.outbox.shred([WISH]) == [Shredded(had_content=True, ended=2, in_flight=0)]
    assert bench.left() == {keys.event("evt_1")}
    assert bench.client.get(keys.event("evt_1")) == b"1"
    assert (bench.held, bench.counts) == (0, (2, 0, 2, 0))
    assert not bench.client.exists(keys.due("relay"))
    assert ends(bench) == [("ep_1", 0), ("ep_2", 1)]


def test_the_providers_resend_is_a_repeat_for_a_day(bench: Bench) -> None:
    """It does not bring back what was erased."""
    bench.accept()
    bench.outbox.shred([WISH])
    bench.clock.advance(24 * HOUR_MS - 1)
    assert bench.accept() == "repeat"


def test_the_bill_is_due_all_the_same(bench: Bench) -> None:
    """With its facts, which hold nothing that was said."""
    bench.accept(EP1, BILL)
    assert bench.outbox.shred([WISH]) == [Shredded(had_content=True, ended=1, in_flight=0)]
    assert bench.left() == {keys.event("evt_1"), keys.facts("evt_1")}
    (unit,) = bench.claims("billing")
    assert (unit.facts, unit.sealed) == (b"facts", None)
    bench.outbox.settle("billing", [Settlement(unit, Verb.DONE)])
    assert bench.client.get(keys.event("evt_1")) == b"1"
    assert bench.outbox.audit("billing").unaccounted == 0
    assert (bench.held, bench.counts) == (0, (1, 0, 1, 0))


def test_content_that_was_kept_for_a_replay_goes(bench: Bench) -> None:
    """Its delivery had ended, and ends no second time; a replay finds nothing."""
    bench.accept()
    bench.end(Verb.DEAD)
    assert bench.outbox.shred([WISH]) == [Shredded(had_content=True, ended=0, in_flight=0)]
    assert bench.left() == {keys.event("evt_1")}
    assert (bench.held, bench.counts, ends(bench)) == (0, (1, 0, 1, 0), [])
    assert bench.outbox.readmit([Replay("ep_1", "evt_1", 1, WINDOW_MS, b"")]) == [Readmission.GONE]


@pytest.mark.parametrize("verb", [Verb.RETRY, Verb.RELEASE])
def test_an_attempt_under_way_is_the_last(bench: Bench, verb: Verb) -> None:
    """It is told as it went, then as the end."""
    bench.accept()
    unit = bench.claim()
    assert bench.outbox.shred([WISH]) == [Shredded(had_content=True, ended=0, in_flight=1)]
    assert (bench.held, bench.counts) == (0, (1, 0, 0, 1))
    is_tried = verb is Verb.RETRY
    settled = Settlement(unit, verb, delay_ms=HOUR_MS, attempted=is_tried, outcome=b"attempt")
    assert bench.outbox.settle("relay", [settled]) == ["ok"]
    assert bench.last_outcomes(2) == [
        {b"o": b"attempt"},
        {b"o": WISH.outcome, b"n": str(int(is_tried)).encode(), b"k": b"ep_1"},
    ]
    assert bench.left() == {keys.event("evt_1")}
    assert (bench.held, bench.counts) == (0, (1, 0, 1, 0))


@pytest.mark.parametrize(("verb", "counts"), [(Verb.DONE, (1, 1, 0, 0)), (Verb.DEAD, (1, 0, 1, 0))])
def test_an_attempt_under_way_may_end_by_itself(bench: Bench, verb: Verb, counts: tuple[int, ...]) -> None:
    """Delivered or dead, it is told so and nothing else; nothing is kept of it."""
    bench.accept()
    unit = bench.claim()
    bench.outbox.shred([WISH])
    bench.outbox.settle("relay", [Settlement(unit, verb, attempted=True, outcome=b"attempt")])
    assert bench.last_outcomes(1) == [{b"o": b"attempt"}]
    assert bench.left() == {keys.event("evt_1")}
    assert (bench.held, bench.counts) == (0, counts)


@pytest.mark.parametrize("crashes", [1, 2])
def test_what_a_dead_worker_had_is_known_as_erased(bench: Bench, crashes: int) -> None:
    """Its lease runs out and it is claimed again, alone if need be, without content, and told so."""
    bench.accept()
    for _ in range(crashes):
        bench.clock.advance(MINUTE_MS)
        bench.claim()
    bench.outbox.shred([WISH])
    bench.clock.advance(MINUTE_MS)
    bench.claims() if crashes > 1 else ()  # finds the suspect, and leaves it for whoever claims alone
    (unit,) = bench.outbox.claim("relay", Room(1), alone=True, content=True).units
    assert (unit.is_erased, unit.sealed) == (True, None)
    bench.outbox.settle("relay", [Settlement(unit, Verb.DEAD, shred=True)])
    assert bench.left() == {keys.event("evt_1")}
    assert (bench.held, bench.counts) == (0, (1, 0, 1, 0))


def test_a_suspect_that_waits_to_be_claimed_alone_ends_too(bench: Bench) -> None:
    """It waits elsewhere than in its line."""
    bench.accept()
    for _ in range(2):
        bench.claim()
        bench.clock.advance(MINUTE_MS)
    bench.claims()
    assert bench.client.exists(keys.suspects("relay"))
    assert bench.outbox.shred([WISH]) == [Shredded(had_content=True, ended=1, in_flight=0)]
    assert not bench.client.exists(keys.suspects("relay"))
    assert (bench.held, bench.counts) == (0, (1, 0, 1, 0))


def test_a_last_one_in_flight_leaves_nothing_behind(bench: Bench) -> None:
    """Others waited, one had died, one was under way: each ends once."""
    bench.accept(EP1, EP2, Unit("relay", "ep_3"))
    bench.end(Verb.DEAD, "ep_3")
    unit = bench.claim("ep_1")
    assert bench.outbox.shred([WISH]) == [Shredded(had_content=True, ended=1, in_flight=1)]
    bench.outbox.settle("relay", [Settlement(unit, Verb.DEAD, attempted=True)])
    bench.clock.advance(RETENTION_MS)
    bench.outbox.sweep()
    assert bench.left() <= {keys.event("evt_1")}
    assert (bench.held, bench.counts) == (0, (3, 0, 3, 0))


def test_a_second_wish_changes_nothing(bench: Bench) -> None:
    """Nor does one for what was never here."""
    bench.accept(EP1, EP2)
    bench.claim("ep_2")
    bench.outbox.shred([WISH])
    before = bench.everything()
    unheard = Shred("evt_unheard", WISH.outcome)
    assert bench.outbox.shred([WISH, unheard]) == [Shredded(False, 0, 1), Shredded(False, 0, 0)]
    assert bench.everything() == before


def test_a_broken_event_does_not_stop_its_neighbours(bench: Bench) -> None:
    """What a script cannot read is an error of its own."""
    bench.accept()
    bench.client.delete(keys.line("relay", "ep_1"))
    bench.client.set(keys.line("relay", "ep_1"), "not a line")
    whole = Shred("evt_2", WISH.outcome)
    assert bench.outbox.shred([WISH, whole]) == [None, Shredded(False, 0, 0)]
