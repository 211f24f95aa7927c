"""Replays in the outbox, rule by rule, on a Redis in memory whose clock the test moves."""

from __future__ import annotations

from typing import Any

import fakeredis
import pytest
import redis

from relay.outbox import (
    READMIT_MOST,
    Admission,
    Claim,
    GateVerdict,
    Outbox,
    Readmission,
    Replay,
    Room,
    Settlement,
    Unit,
    Verb,
    keys,
)

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
RETENTION_MS, WINDOW_MS = 96 * HOUR_MS, 95 * HOUR_MS
EP1, EP2, BILL = Unit("relay", "ep_1"), Unit("relay", "ep_2"), Unit("billing", "acct_1")


class Clock:
    """The time that fakeredis sees. It stands still until it is moved."""

    def __init__(self) -> None:
        self.now_ms = 1_770_811_500_000

    def advance(self, ms: int) -> None:
        self.now_ms += ms


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of this test's Redis."""
    clock = Clock()
    monkeypatch.setattr("time.time", lambda: clock.now_ms / 1000)
    return clock


@pytest.fixture
def client(clock: Clock) -> redis.Redis:
    """An empty Redis."""
    return fakeredis.FakeRedis(server=fakeredis.FakeServer())


@pytest.fixture
def outbox(client: redis.Redis) -> Outbox:
    """Its outbox."""
    return Outbox(client, lease_ms=MINUTE_MS)


def accept(outbox: Outbox, *units: Unit, retention_ms: int = RETENTION_MS, window_ms: int = WINDOW_MS) -> None:
    """Accept evt_1 for these units (ep_1 if none is named), with 100 sealed bytes."""
    admission = Admission("evt_1", "acct_1", b"facts", b"s" * 100, retention_ms, window_ms, 10**9, units or (EP1,))
    outbox.accept([admission])


def claims(outbox: Outbox) -> tuple[Claim, ...]:
    """Claim what is due."""
    return outbox.claim("relay", Room(1000), alone=False, content=True).units


def claim(outbox: Outbox, endpoint_id: str = "ep_1") -> Claim:
    """Claim the unit of this endpoint, which must be due. Others are given back."""
    units = {unit.key: unit for unit in claims(outbox)}
    outbox.settle("relay", [Settlement(unit, Verb.RELEASE) for key, unit in units.items() if key != endpoint_id])
    return units[endpoint_id]


def look(outbox: Outbox, endpoint_id: str = "ep_1") -> Claim:
    """What a claim of it says; it goes on waiting."""
    unit = claim(outbox, endpoint_id)
    outbox.settle("relay", [Settlement(unit, Verb.RELEASE)])
    return unit


def end(outbox: Outbox, verb: Verb, endpoint_id: str = "ep_1", **changes: Any) -> None:
    """Have the unit of an endpoint end after an attempt."""
    settlement = Settlement(claim(outbox, endpoint_id), verb, **({"attempted": True} | changes))
    assert outbox.settle("relay", [settlement]) == ["ok"]


def again(endpoint_id: str = "ep_1", *, attempts: int | None = None, window_ms: int = WINDOW_MS) -> Replay:
    """The wish to replay evt_1."""
    return Replay(endpoint_id, "evt_1", attempts, window_ms, b"outcome")


def held(client: redis.Redis) -> int:
    """The bytes that the account holds."""
    return int(client.get(keys.held_bytes("acct_1")) or 0)


def everything(client: redis.Redis) -> dict[bytes, bytes | None]:
    """All that Redis holds."""
    return {name: client.dump(name) for name in client.scan_iter()}


def test_a_dead_delivery_waits_again_with_the_attempts_that_it_had(
    outbox: Outbox, client: redis.Redis, clock: Clock
) -> None:
    """It is due now and counts as accepted once more; content and bytes are as they were, and go with its delivery."""
    accept(outbox)
    end(outbox, Verb.RETRY)
    end(outbox, Verb.DEAD)
    clock.advance(HOUR_MS)
    assert outbox.readmit([again()]) == [Readmission.READMITTED]
    audit = outbox.audit("relay")
    assert (audit.accepted, audit.dead, audit.waiting, audit.unaccounted) == (2, 1, 1, 0)
    assert held(client) == 100
    unit = claim(outbox)
    assert (unit.attempts, unit.claims, unit.sealed, unit.facts) == (2, 1, b"s" * 100, b"facts")
    assert unit.is_replay
    outbox.settle("relay", [Settlement(unit, Verb.DONE)])
    assert held(client) == 0
    assert client.get(keys.event("evt_1")) == b"1"
    assert not client.exists(keys.sealed("evt_1"), keys.facts("evt_1"), keys.ENDS)


def test_postgres_is_told_in_the_same_step(outbox: Outbox, client: redis.Redis) -> None:
    """With the attempts that the outbox knows of, which may be more than the records do."""
    accept(outbox)
    end(outbox, Verb.RETRY)
    end(outbox, Verb.DEAD)
    outbox.readmit([again(attempts=1)])
    entries: Any = client.xrevrange(keys.OUTCOMES, count=1)
    assert entries[0][1] == {b"o": b"outcome", b"n": b"2"}


def test_a_second_wish_changes_nothing(outbox: Outbox, client: redis.Redis) -> None:
    """Neither in the same call nor later, waiting or in flight: it has not ended."""
    accept(outbox)
    end(outbox, Verb.DEAD)
    assert outbox.readmit([again(), again()]) == [Readmission.READMITTED, Readmission.PENDING]
    claim(outbox)
    before = everything(client)
    assert outbox.readmit([again()]) == [Readmission.PENDING]
    assert everything(client) == before


def test_content_that_was_shredded_cannot_come_back(outbox: Outbox) -> None:
    """Whether its event is still known, or was never here."""
    accept(outbox)
    assert outbox.readmit([again()]) == [Readmission.PENDING]
    end(outbox, Verb.DONE)
    unheard = Replay("ep_1", "evt_unheard", 1, WINDOW_MS, b"")
    assert outbox.readmit([again(attempts=1), unheard]) == [Readmission.GONE, Readmission.GONE]
    assert outbox.audit("relay").unaccounted == 0


@pytest.mark.parametrize("swept", [True, False])
def test_content_whose_retention_has_ended_is_gone(outbox: Outbox, clock: Clock, swept: bool) -> None:
    """Before the sweep has seen it and after, also while a bill keeps the event."""
    accept(outbox, EP1, BILL)
    end(outbox, Verb.DEAD)
    clock.advance(RETENTION_MS)
    if swept:
        outbox.sweep()
    assert outbox.readmit([again()]) == [Readmission.GONE]


def test_what_was_lost_at_one_endpoint_is_gone_at_all(outbox: Outbox, client: redis.Redis) -> None:
    """A resend of the provider will be a new event; nothing must keep this one, not even while it has an open unit."""
    accept(outbox, EP1, EP2, Unit("relay", "ep_3"))
    end(outbox, Verb.DEAD, "ep_1")
    end(outbox, Verb.LOST, "ep_2")
    wishes = [again("ep_1"), again("ep_2", attempts=1)]
    assert outbox.readmit(wishes) == [Readmission.GONE, Readmission.GONE]
    end(outbox, Verb.DONE, "ep_3")
    assert outbox.readmit(wishes) == [Readmission.GONE, Readmission.GONE]
    assert held(client) == 0


def test_an_endpoint_that_is_gone_gets_nothing_until_it_is_enabled(outbox: Outbox) -> None:
    """A replay would end at once, unsent."""
    accept(outbox)
    end(outbox, Verb.DEAD, gate=GateVerdict.GONE)
    assert outbox.readmit([again()]) == [Readmission.CLOSED]
    outbox.reopen("relay", "ep_1")
    assert outbox.readmit([again()]) == [Readmission.READMITTED]


def test_behind_an_open_gate_a_replay_waits_for_the_probe(outbox: Outbox, clock: Clock) -> None:
    """It is not due before the gate lets one through, and then it is."""
    accept(outbox)
    for _ in range(9):
        end(outbox, Verb.RETRY, gate=GateVerdict.BAD)
    end(outbox, Verb.DEAD, gate=GateVerdict.BAD)
    assert outbox.readmit([again()]) == [Readmission.READMITTED]
    assert not claims(outbox)
    clock.advance(4_999)
    assert not claims(outbox)
    clock.advance(1)
    assert claim(outbox).gate == "open"


def test_a_delivered_one_goes_again_while_another_keeps_its_content(outbox: Outbox, client: redis.Redis) -> None:
    """Its attempts come from the caller's records; the dead one's content stays as it was."""
    accept(outbox, EP1, EP2)
    end(outbox, Verb.DONE, "ep_1")
    end(outbox, Verb.DEAD, "ep_2")
    assert outbox.readmit([again("ep_1", attempts=3)]) == [Readmission.READMITTED]
    assert look(outbox, "ep_1").attempts == 3
    end(outbox, Verb.DONE, "ep_1")
    assert held(client) == 100
    assert outbox.readmit([again("ep_2")]) == [Readmission.READMITTED]
    end(outbox, Verb.DONE, "ep_2")
    assert held(client) == 0
    assert outbox.audit("relay").unaccounted == 0


def test_without_records_nobody_knows_how_a_unit_ended(outbox: Outbox) -> None:
    """The content is here and the unit is not: only records can say that it was delivered, and how often tried."""
    accept(outbox, EP1, EP2)
    end(outbox, Verb.DONE, "ep_1")
    assert outbox.readmit([again("ep_1"), again("ep_3")]) == [Readmission.UNKNOWN, Readmission.UNKNOWN]


def test_records_from_before_the_last_replay_start_no_other(outbox: Outbox) -> None:
    """A command that is run again before Postgres has caught up sends nothing twice."""
    accept(outbox, EP1, EP2)
    end(outbox, Verb.DEAD, "ep_1")
    assert outbox.readmit([again("ep_1", attempts=1)]) == [Readmission.READMITTED]
    end(outbox, Verb.DONE, "ep_1")
    assert outbox.readmit([again("ep_1", attempts=1)]) == [Readmission.UNKNOWN]
    assert outbox.readmit([again("ep_1", attempts=2)]) == [Readmission.READMITTED]


@pytest.mark.parametrize(
    ("age_ms", "window_ms", "left_ms"),
    [
        (0, WINDOW_MS, WINDOW_MS),  # as an event that was accepted now
        (HOUR_MS, WINDOW_MS, 94 * HOUR_MS),  # an hour before its content ends
        (HOUR_MS, 23 * HOUR_MS, 23 * HOUR_MS),  # its endpoint asks for less
        (95 * HOUR_MS, WINDOW_MS, HOUR_MS // 2),  # an hour is left: half of it
        (RETENTION_MS - 1_000, WINDOW_MS, 500),
    ],
)
def test_a_replay_has_an_end_of_its_own(
    outbox: Outbox, clock: Clock, age_ms: int, window_ms: int, left_ms: int
) -> None:
    """What its endpoint lets any event have, and never past its content; the sweep comes then for the last attempt."""
    accept(outbox)
    end(outbox, Verb.DEAD)
    clock.advance(age_ms)
    outbox.readmit([again(window_ms=window_ms)])
    unit = claim(outbox)
    assert unit.end_ms == clock.now_ms + left_ms
    outbox.settle("relay", [Settlement(unit, Verb.RETRY, delay_ms=RETENTION_MS)])
    clock.advance(left_ms - 1)
    assert outbox.sweep() == 0
    clock.advance(1)
    assert outbox.sweep() == 1
    assert claim(outbox).end_ms == clock.now_ms


@pytest.mark.parametrize("replay_first", [True, False])
def test_the_end_of_a_replay_is_not_that_of_its_neighbour(
    outbox: Outbox, client: redis.Redis, clock: Clock, replay_first: bool
) -> None:
    """Whichever comes first gets its last attempt then; the other one goes on waiting for its own."""
    accept(outbox, EP1, EP2, window_ms=10 * HOUR_MS)
    end(outbox, Verb.DEAD, "ep_1")
    end(outbox, Verb.RETRY, "ep_2", delay_ms=RETENTION_MS)
    window_ms = HOUR_MS if replay_first else 20 * HOUR_MS
    outbox.readmit([again("ep_1", window_ms=window_ms)])
    end(outbox, Verb.RETRY, "ep_1", delay_ms=RETENTION_MS)
    ends = sorted([("ep_1", window_ms), ("ep_2", 10 * HOUR_MS)], key=lambda pair: pair[1])
    passed_ms = 0
    for endpoint_id, end_ms in ends:
        clock.advance(end_ms - passed_ms - 1)
        outbox.sweep()
        assert not claims(outbox)
        clock.advance(1)
        assert outbox.sweep() == 1
        end(outbox, Verb.DEAD, endpoint_id)
        passed_ms = end_ms
    clock.advance(RETENTION_MS)
    outbox.sweep()
    assert not client.exists(keys.event("evt_1"), keys.sealed("evt_1"), keys.ENDS)
    assert held(client) == 0


def test_after_a_replay_that_dies_content_is_kept_as_before(outbox: Outbox, client: redis.Redis, clock: Clock) -> None:
    """Until its retention ends, and no longer; it can be replayed until then as often as one likes."""
    accept(outbox)
    end(outbox, Verb.DEAD)
    for number in range(1, 4):
        clock.advance(HOUR_MS)
        assert outbox.readmit([again()]) == [Readmission.READMITTED]
        assert look(outbox).attempts == number
        end(outbox, Verb.DEAD)
    assert client.zscore(keys.ENDS, "evt_1") == clock.now_ms + RETENTION_MS - 3 * HOUR_MS
    assert held(client) == 100
    assert outbox.audit("relay").unaccounted == 0


def test_a_dry_run_answers_and_changes_nothing(outbox: Outbox, client: redis.Redis) -> None:
    """The same verdicts; not a byte in Redis is another."""
    accept(outbox, EP1, EP2)
    end(outbox, Verb.DEAD, "ep_1")
    before = everything(client)
    wishes = [again("ep_1"), again("ep_2"), again("ep_3")]
    said = outbox.readmit(wishes, dry_run=True)
    assert said == [Readmission.READMITTED, Readmission.PENDING, Readmission.UNKNOWN]
    assert everything(client) == before


def test_a_broken_event_does_not_stop_its_neighbours(outbox: Outbox, client: redis.Redis) -> None:
    """What a script cannot read is an error of its own, and is not counted."""
    accept(outbox, EP1, EP2)
    end(outbox, Verb.DEAD, "ep_1")
    end(outbox, Verb.DEAD, "ep_2")
    client.set(keys.line("relay", "ep_1"), "not a line")
    client.set(keys.gate("ep_1"), "not a gate")
    assert outbox.readmit([again("ep_1"), again("ep_2")]) == [Readmission.ERROR, Readmission.READMITTED]
    assert outbox.audit("relay").accepted == 3


def test_a_call_is_bounded(outbox: Outbox) -> None:
    """Redis serves nobody else while a script runs."""
    with pytest.raises(ValueError, match=str(READMIT_MOST)):
        outbox.readmit([again()] * (READMIT_MOST + 1))
