"""Deliveries that come back with content that was fetched again, rule by rule."""

from __future__ import annotations

from typing import Any

import pytest

from relay.outbox import GateVerdict, Readmission, Replay, Restoration, Restore, Settlement, Shred, Verb, keys
from tests.outboxes import BILL, EP1, EP2, HOUR_MS, RETENTION_MS, WINDOW_MS, Bench

DAY_MS = 24 * HOUR_MS


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """An empty outbox."""
    return Bench(monkeypatch)


def again(bench: Bench, endpoint_id: str = "ep_1", *, attempts: int | None = 1, **changes: Any) -> Restoration:
    """Restore evt_1 for an endpoint, with 60 sealed bytes."""
    wish = Restore(
        replay=Replay(endpoint_id, "evt_1", attempts, WINDOW_MS, b"outcome"),
        account_id="acct_1",
        accepted_ms=1_770_000_000_000,
        retention_ms=RETENTION_MS,
        quota_bytes=10**9,
        found=bench.outbox.facts(["evt_1"])[0],
        facts=b"new facts",
        sealed=b"n" * 60,
    )
    return bench.outbox.restore(wish._replace(**changes))


@pytest.mark.parametrize("passed_ms", [0, DAY_MS - 1, DAY_MS + 1])
def test_a_delivered_event_comes_back_whether_or_not_it_is_remembered(bench: Bench, passed_ms: int) -> None:
    """With its facts, content and attempts; it counts as accepted once more, and leaves nothing when delivered."""
    bench.accept()
    bench.end(Verb.DONE)
    bench.clock.advance(passed_ms)
    assert again(bench) is Restoration.RESTORED
    assert bench.counts == (2, 1, 0, 1)
    assert bench.held == 60
    unit = bench.claim()
    assert (unit.attempts, unit.claims, unit.sealed, unit.facts) == (1, 1, b"n" * 60, b"new facts")
    assert (unit.is_replay, unit.account_id, unit.accepted_ms) == (True, "acct_1", 1_770_000_000_000)
    assert unit.end_ms == bench.clock.now_ms + WINDOW_MS
    bench.outbox.settle("relay", [Settlement(unit, Verb.DONE)])
    assert bench.left() == {keys.event("evt_1")}
    assert bench.client.get(keys.event("evt_1")) == b"1"
    assert (bench.held, bench.counts) == (0, (2, 2, 0, 0))


def test_while_it_is_back_the_providers_resend_is_a_repeat(bench: Bench) -> None:
    """However long it waits, and for a day after it was delivered."""
    bench.accept()
    bench.end(Verb.DONE)
    again(bench)
    bench.clock.advance(2 * DAY_MS)
    assert bench.accept() == "repeat"
    bench.end(Verb.DONE)
    bench.clock.advance(DAY_MS - 1)
    assert bench.accept() == "repeat"


def test_postgres_is_told_in_the_same_step(bench: Bench) -> None:
    """With the number of attempts that were made."""
    bench.accept()
    bench.end(Verb.DONE)
    again(bench, attempts=3)
    assert bench.last_outcomes(1) == [{b"o": b"outcome", b"n": b"3"}]


def test_billing_is_not_touched(bench: Bench) -> None:
    """A bill that is still due keeps the facts it has, and no second one is made."""
    bench.accept(EP1, BILL)
    bench.end(Verb.DONE)
    assert bench.held == 0
    assert again(bench, facts=b"facts, marked") is Restoration.RESTORED
    audit = bench.outbox.audit("billing")
    assert (audit.accepted, audit.waiting, audit.unaccounted) == (1, 1, 0)
    bench.end(Verb.DONE)
    assert bench.held == 0
    bench.bill()
    audit = bench.outbox.audit("billing")
    assert (audit.accepted, audit.delivered, audit.unaccounted) == (1, 1, 0)
    assert bench.client.get(keys.event("evt_1")) == b"1"


def test_a_second_wish_changes_nothing(bench: Bench) -> None:
    """Waiting or in flight, it has not ended."""
    bench.accept()
    bench.end(Verb.DONE)
    again(bench)
    bench.claim()
    before = bench.everything()
    assert again(bench) is Restoration.PENDING
    assert bench.everything() == before


def test_records_from_before_the_last_restore_start_no_other(bench: Bench) -> None:
    """It was delivered and forgotten before Postgres had caught up: the same wish again sends nothing twice."""
    bench.accept()
    bench.end(Verb.DONE)
    assert again(bench) is Restoration.RESTORED
    bench.end(Verb.DONE)
    before = bench.everything()
    assert again(bench) is Restoration.UNKNOWN
    assert bench.everything() == before
    assert again(bench, attempts=2) is Restoration.RESTORED


def test_without_records_nothing_is_restored(bench: Bench) -> None:
    """Only they can say that it has ended."""
    bench.accept()
    bench.end(Verb.DONE)
    assert again(bench, attempts=None) is Restoration.UNKNOWN


def test_content_that_is_here_is_not_replaced(bench: Bench) -> None:
    """It has the exact bytes: an ordinary replay is the better one."""
    bench.accept(EP1, EP2)
    bench.end(Verb.DONE, "ep_1")
    assert again(bench) is Restoration.KEPT
    bench.end(Verb.DEAD, "ep_2")
    assert again(bench) is Restoration.KEPT
    assert again(bench, "ep_2") is Restoration.KEPT
    assert bench.held == 100


def test_an_endpoint_that_is_gone_gets_nothing(bench: Bench) -> None:
    """It answered 410, and was not enabled again."""
    bench.accept(EP1, EP2)
    bench.end(Verb.DONE, "ep_2")
    bench.end(Verb.DEAD, "ep_1", gate=GateVerdict.GONE, shred=True)
    assert again(bench) is Restoration.CLOSED
    bench.outbox.reopen("relay", "ep_1")
    assert again(bench) is Restoration.RESTORED


@pytest.mark.parametrize(("quota", "verdict"), [(59, Restoration.QUOTA), (60, Restoration.RESTORED)])
def test_it_counts_against_the_quota(bench: Bench, quota: int, verdict: Restoration) -> None:
    """As what comes in does."""
    bench.accept()
    bench.end(Verb.DONE)
    assert again(bench, quota_bytes=quota) is verdict
    assert bench.held == (60 if verdict is Restoration.RESTORED else 0)


def test_facts_that_have_changed_are_looked_at_again(bench: Bench) -> None:
    """The provider's resend was accepted in between: nothing of it is overwritten."""
    bench.accept(EP1, BILL)
    bench.end(Verb.DONE)
    before = bench.everything()
    assert again(bench, found=b"") is Restoration.CHANGED
    assert bench.everything() == before
    assert again(bench) is Restoration.RESTORED


def test_what_has_died_after_it_came_back_is_kept_for_the_next_replay(bench: Bench) -> None:
    """Until its retention ends, measured from its return; then nothing of it is left."""
    bench.accept()
    bench.end(Verb.DONE)
    bench.clock.advance(2 * DAY_MS)
    again(bench)
    bench.end(Verb.DEAD)
    assert again(bench, attempts=2) is Restoration.KEPT
    assert bench.held == 60
    bench.clock.advance(RETENTION_MS - 1)
    assert bench.outbox.sweep() == 0
    bench.clock.advance(1)
    assert bench.outbox.sweep() == 1
    assert bench.left() == set()
    assert (bench.held, bench.counts) == (0, (2, 1, 1, 0))


@pytest.mark.parametrize("swept", [True, False])
def test_a_dead_one_whose_retention_has_ended_comes_back(bench: Bench, swept: bool) -> None:
    """Before the sweep has seen it and after; the bytes are counted once."""
    bench.accept()
    bench.end(Verb.RETRY)
    bench.end(Verb.DEAD)
    bench.clock.advance(RETENTION_MS)
    if swept:
        bench.outbox.sweep()
    assert again(bench, attempts=2) is Restoration.RESTORED
    assert bench.held == 60
    assert bench.claim().attempts == 2
    bench.clock.advance(60_001)
    bench.end(Verb.DONE)
    assert (bench.held, bench.counts) == (0, (2, 1, 1, 0))


def test_what_was_delivered_after_all_is_not_taken_for_dead(bench: Bench) -> None:
    """Its neighbour keeps the content; without records nobody may send the delivered one again."""
    bench.accept(EP1, EP2)
    bench.end(Verb.DEAD, "ep_1")
    bench.end(Verb.DEAD, "ep_2")
    bench.clock.advance(RETENTION_MS)
    assert again(bench) is Restoration.RESTORED
    bench.end(Verb.DONE)
    wish = Replay("ep_1", "evt_1", None, WINDOW_MS, b"")
    assert bench.outbox.readmit([wish]) == [Readmission.UNKNOWN]
    assert bench.held == 60


def test_what_had_died_before_an_erasure_keeps_nothing_afterwards(bench: Bench) -> None:
    """A bill kept the event: what comes back to it goes with its own delivery."""
    bench.accept(EP1, BILL)
    bench.end(Verb.DEAD)
    bench.outbox.shred([Shred("evt_1", b"erased")])
    assert again(bench) is Restoration.RESTORED
    bench.end(Verb.DONE)
    assert bench.held == 0
    assert not bench.client.exists(keys.sealed("evt_1"))


def test_what_was_lost_comes_back_for_the_others_too(bench: Bench) -> None:
    """They waited without content: they get the new one instead of being lost as well."""
    bench.accept(EP1, EP2)
    bench.client.delete(keys.sealed("evt_1"))
    bench.end(Verb.LOST, "ep_1")
    assert again(bench) is Restoration.RESTORED
    assert bench.held == 60
    assert {unit.sealed for unit in bench.claims()} == {b"n" * 60}


def test_the_end_of_its_neighbour_stays(bench: Bench) -> None:
    """The sweep comes for whichever ends first."""
    bench.accept(EP1, EP2, window_ms=HOUR_MS)
    bench.client.delete(keys.sealed("evt_1"))
    bench.end(Verb.LOST, "ep_1")
    end = bench.clock.now_ms + HOUR_MS
    again(bench)
    assert bench.client.zscore(keys.ENDS, "evt_1") == end


def test_what_was_shredded_in_flight_does_not_come_back(bench: Bench) -> None:
    """While another of its deliveries is under way, the outbox itself knows."""
    bench.accept(EP1, EP2)
    bench.end(Verb.DONE, "ep_1")
    bench.claim("ep_2")
    bench.outbox.shred([Shred("evt_1", b"erased")])
    before = bench.everything()
    assert again(bench) is Restoration.ERASED
    assert bench.everything() == before


def test_an_endpoint_that_is_new_gets_an_event_of_the_past(bench: Bench) -> None:
    """Nothing of it was ever here; that it may be sent there is for the caller to know."""
    assert again(bench, "ep_new", attempts=0) is Restoration.RESTORED
    assert bench.claim("ep_new").attempts == 0
