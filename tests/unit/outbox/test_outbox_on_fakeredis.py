"""The outbox's rules one by one, on a Redis in memory whose clock the test moves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import fakeredis
import pytest
import redis

from relay.outbox import (
    Admission,
    Audit,
    Claim,
    Claims,
    GateVerdict,
    Outbox,
    Room,
    Settlement,
    Unit,
    Verb,
    Verdict,
    keys,
)

LEASE_MS = 60_000
WINDOW_MS = 3_000_000
RETENTION_MS = 3_600_000
DAY_MS = 24 * 3_600_000
CAP_FIRST, CAP_MOST = 8, 64
FAILURES_TO_OPEN = 10
OPEN_FIRST_MS, OPEN_MOST_MS = 5_000, 45_000

# Written by relay.directory: the version of each account's configuration.
CONFIG_VERSIONS = "sw:config:versions"

EP1, EP2, BILL = Unit("relay", "ep_1"), Unit("relay", "ep_2"), Unit("billing", "acct_1")


class Clock:
    """The time that fakeredis sees. It stands still until it is moved."""

    def __init__(self) -> None:
        self.now_ms = 1_770_811_500_000

    def seconds(self) -> float:
        return self.now_ms / 1000

    def advance(self, ms: int) -> None:
        self.now_ms += ms


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("time.time", clock.seconds)
    return clock


@pytest.fixture
def client(clock: Clock) -> redis.Redis:
    return fakeredis.FakeRedis(server=fakeredis.FakeServer())


@pytest.fixture
def outbox(client: redis.Redis) -> Outbox:
    return Outbox(client, lease_ms=LEASE_MS)


def event(event_id: str, *units: Unit, **changes: Any) -> Admission:
    """An event of acct_1 for these units (ep_1 if none is named), with 100 sealed bytes."""
    values: dict[str, Any] = {
        "event_id": event_id,
        "account_id": "acct_1",
        "facts": b"facts of " + event_id.encode(),
        "sealed": b"s" * 100,
        "retention_ms": RETENTION_MS,
        "window_ms": WINDOW_MS,
        "quota_bytes": 1_000_000_000,
        "units": units or (EP1,),
    }
    return Admission(**(values | changes))


def accept(outbox: Outbox, *events: Admission) -> list[Verdict]:
    return list(outbox.accept(events).verdicts)


def fill(outbox: Outbox, count: int, unit: Unit = EP1, prefix: str = "evt") -> None:
    accept(outbox, *(event(f"{prefix}_{number:05}", unit) for number in range(count)))


def claim(
    outbox: Outbox, lane: str = "relay", *, most: int = 1000, alone: bool = False, most_bytes: int = 1 << 30
) -> Claims:
    return outbox.claim(lane, Room(most, most_bytes), alone=alone, content=True)


def the_only(claims: Claims) -> Claim:
    (unit,) = claims.units
    return unit


def settle(outbox: Outbox, units: Iterable[Claim], verb: Verb, lane: str = "relay", **changes: Any) -> list[str]:
    return outbox.settle(lane, [Settlement(unit, verb, **changes) for unit in units])


def fail(outbox: Outbox, times: int, **changes: Any) -> None:
    """Let attempts at ep_1 fail, as many at a time as its gate lets through."""
    while times:
        units = claim(outbox, most=times).units
        assert units, "the gate let nothing through"
        settle(outbox, units, Verb.RETRY, attempted=True, gate=GateVerdict.BAD, **changes)
        times -= len(units)


def held(client: redis.Redis, account_id: str = "acct_1") -> int:
    return int(client.get(keys.held_bytes(account_id)) or 0)


def outcomes(client: redis.Redis) -> list[Any]:
    """The entries of the outcomes stream."""
    return [fields for _, fields in client.xrange(keys.OUTCOMES) or ()]


def unaccounted(outbox: Outbox) -> tuple[int, int]:
    return outbox.audit("relay").unaccounted, outbox.audit("billing").unaccounted


# accept


def test_accepts_an_event_once_and_knows_its_repeats_for_a_day_after_it_is_settled(
    outbox: Outbox, clock: Clock
) -> None:
    """A repeat is known within the same group, while the event lives, and for 24 h after."""
    assert accept(outbox, event("evt_1"), event("evt_1")) == [Verdict.NEW, Verdict.REPEAT]
    settle(outbox, claim(outbox).units, Verb.DONE)
    clock.advance(DAY_MS - 1)
    assert accept(outbox, event("evt_1")) == [Verdict.REPEAT]
    clock.advance(2)
    assert accept(outbox, event("evt_1")) == [Verdict.NEW]


def test_refuses_events_over_the_quota_of_their_account_only(outbox: Outbox, client: redis.Redis) -> None:
    """A full account's event is refused and leaves nothing; a smaller one and other accounts pass."""
    first, second = event("evt_1", quota_bytes=250), event("evt_2", quota_bytes=250, sealed=b"s" * 151)
    third, other = event("evt_3", quota_bytes=250, sealed=b"s" * 150), event("evt_4", account_id="acct_2")
    verdicts = accept(outbox, first, second, third, other)
    assert verdicts == [Verdict.NEW, Verdict.QUOTA, Verdict.NEW, Verdict.NEW]
    assert (held(client), held(client, "acct_2")) == (250, 100)
    assert not client.exists(keys.event("evt_2"), keys.sealed("evt_2"))


def test_rings_a_lane_once_until_the_bell_has_faded(outbox: Outbox, clock: Clock) -> None:
    """Only the first accept in five seconds asks for a bell; a lane without new units asks for none."""
    assert outbox.accept([event("evt_1")]).rings == ("relay",)
    assert outbox.accept([event("evt_2")]).rings == ()
    assert outbox.accept([event("evt_3", BILL)]).rings == ("billing",)
    clock.advance(5_001)
    assert outbox.accept([event("evt_3", BILL)]).rings == ()
    assert outbox.accept([event("evt_4")]).rings == ("relay",)


def test_one_bad_event_does_not_fail_its_group(outbox: Outbox, client: redis.Redis) -> None:
    """Redis refuses a retention of zero: that event is an error without a trace, and its neighbours are accepted."""
    verdicts = accept(outbox, event("evt_1"), event("evt_2", retention_ms=0), event("evt_3"))
    assert verdicts == [Verdict.NEW, Verdict.ERROR, Verdict.NEW]
    assert held(client) == 200
    assert {unit.event_id for unit in claim(outbox).units} == {"evt_1", "evt_3"}
    assert unaccounted(outbox) == (0, 0)


def test_refuses_what_was_routed_by_an_outdated_configuration(outbox: Outbox, client: redis.Redis) -> None:
    """The account's newest version decides; 0 is not checked, and an account that is not mirrored is not either."""
    client.hset(CONFIG_VERSIONS, "acct_1", 7)
    verdicts = accept(
        outbox,
        event("evt_1", config_version=6),
        event("evt_2", config_version=7),
        event("evt_3"),
        event("evt_4", config_version=6, account_id="acct_2"),
        event("evt_1", config_version=7),
        event("evt_1", config_version=6),
    )
    assert verdicts == [Verdict.STALE, Verdict.NEW, Verdict.NEW, Verdict.NEW, Verdict.NEW, Verdict.REPEAT]


@pytest.mark.parametrize("units", [(), (BILL,)], ids=["no units", "billing only"])
def test_keeps_no_content_that_nobody_is_waiting_for(
    outbox: Outbox, client: redis.Redis, units: tuple[Unit, ...]
) -> None:
    """Without an endpoint nothing would ever shred the content, so it is not stored and counts for nothing."""
    assert accept(outbox, event("evt_1", units=units)) == [Verdict.NEW]
    assert accept(outbox, event("evt_1", units=units)) == [Verdict.REPEAT]
    assert not client.exists(keys.sealed("evt_1"))
    assert held(client) == 0


def test_an_endpoint_named_twice_gets_the_event_once(outbox: Outbox, client: redis.Redis) -> None:
    """The same unit twice in one event is one unit: it ends, and nothing is left over."""
    accept(outbox, event("evt_1", EP1, EP2, EP1))
    assert outbox.audit("relay").accepted == 2
    assert settle(outbox, claim(outbox).units, Verb.DONE) == ["ok", "ok"]
    assert client.type(keys.event("evt_1")) == b"string"
    assert unaccounted(outbox) == (0, 0)


def test_an_event_may_go_to_thousands_of_endpoints(outbox: Outbox, client: redis.Redis) -> None:
    """More units than Lua can unpack at once are accepted like two."""
    units = [Unit("relay", f"ep_{number}") for number in range(5_000)]
    assert accept(outbox, event("evt_1", *units)) == [Verdict.NEW]
    assert outbox.audit("relay")[:4] == (5_000, 0, 0, 5_000)
    assert client.hget(keys.event("evt_1"), "o") == b"5000"


@pytest.mark.parametrize("size", [99_999, 100_000, 1_000_000, 10_000_000])
def test_counts_large_contents_to_the_byte(outbox: Outbox, client: redis.Redis, size: int) -> None:
    """No size is written in scientific notation on its way through Lua."""
    accept(outbox, event("evt_1", sealed=b"s" * size))
    (accepted,) = outcomes(client)
    assert client.get(keys.held_bytes("acct_1")) == accepted[b"z"] == str(size).encode()
    settle(outbox, claim(outbox).units, Verb.DONE)
    assert held(client) == 0


# claim and settle


def test_a_claim_carries_what_was_accepted(outbox: Outbox, clock: Clock) -> None:
    """Facts, content, times and counts come back as they went in; content only if it is asked for."""
    accept(outbox, event("evt_1"))
    accepted_ms = clock.now_ms
    clock.advance(1_234)
    unit = the_only(outbox.claim("relay", Room(1), alone=False, content=False))
    assert unit == Claim(
        key="ep_1",
        event_id="evt_1",
        token=str(clock.now_ms + LEASE_MS).encode(),
        attempts=0,
        claims=1,
        accepted_ms=accepted_ms,
        end_ms=accepted_ms + WINDOW_MS,
        gate="",
        facts=b"facts of evt_1",
        sealed=None,
        is_on_probation=True,
        account_id="acct_1",
    )
    settle(outbox, [unit], Verb.RELEASE)
    assert the_only(claim(outbox)).sealed == b"s" * 100


def test_claims_no_more_than_asked_and_says_that_there_is_more(outbox: Outbox) -> None:
    """`more` is true only when the limit ended the claim."""
    fill(outbox, 5)
    first, second = claim(outbox, most=3), claim(outbox, most=3)
    assert (len(first.units), first.more) == (3, True)
    assert (len(second.units), second.more) == (2, False)


def test_claims_content_up_to_a_number_of_bytes_but_at_least_one_unit(outbox: Outbox) -> None:
    """Content that would pass the limit waits for the next claim, unless it is the only one."""
    fill(outbox, 5)
    claims = claim(outbox, most_bytes=299)
    assert (len(claims.units), claims.more) == (2, True)
    assert len(claim(outbox, most_bytes=1).units) == 1


def test_retry_counts_an_attempt_and_waits_while_release_does_neither(outbox: Outbox, clock: Clock) -> None:
    """A unit comes back when its delay is over, with the attempts that were made; claims begin anew."""
    accept(outbox, event("evt_1"))
    settle(outbox, claim(outbox).units, Verb.RETRY, attempted=True, delay_ms=5_000)
    clock.advance(4_999)
    assert not claim(outbox).units
    clock.advance(1)
    unit = the_only(claim(outbox))
    assert (unit.attempts, unit.claims) == (1, 1)
    settle(outbox, [unit], Verb.RELEASE)
    unit = the_only(claim(outbox))
    assert (unit.attempts, unit.claims) == (1, 1)


def test_a_lease_that_ran_out_is_claimed_again_and_its_token_is_stale(outbox: Outbox, clock: Clock) -> None:
    """The first claimant can neither retry, release, kill nor lose what now belongs to another."""
    accept(outbox, event("evt_1"))
    lost = the_only(claim(outbox))
    clock.advance(LEASE_MS - 1)
    assert not claim(outbox).units
    clock.advance(1)
    unit = the_only(claim(outbox))
    assert unit.claims == 2
    for verb in (Verb.RETRY, Verb.RELEASE, Verb.DEAD, Verb.LOST):
        assert settle(outbox, [lost], verb, outcome=b"stale") == ["stale"]
    assert settle(outbox, [unit], Verb.RETRY) == ["ok"]
    assert unaccounted(outbox) == (0, 0)


@pytest.mark.parametrize("then", ["in flight", "waiting", "suspect"])
def test_delivered_counts_wherever_the_unit_is_by_then(
    outbox: Outbox, client: redis.Redis, clock: Clock, then: str
) -> None:
    """What was delivered is delivered, even if the lease was lost: nobody sends it again, and it ends once."""
    accept(outbox, event("evt_1"))
    slow = the_only(claim(outbox))
    clock.advance(LEASE_MS)
    other = the_only(claim(outbox))
    if then == "waiting":
        settle(outbox, [other], Verb.RETRY)
    if then == "suspect":
        clock.advance(LEASE_MS)
        assert claim(outbox).drain
    assert settle(outbox, [slow, slow, other], Verb.DONE, outcome=b"done") == ["ok", "stale", "stale"]
    assert not claim(outbox, alone=True).units
    assert [fields.get(b"o") for fields in outcomes(client)] == [None, b"done"]
    assert outbox.audit("relay").delivered == 1
    assert unaccounted(outbox) == (0, 0)


def test_what_was_claimed_twice_without_a_settle_is_claimed_alone(outbox: Outbox, clock: Clock) -> None:
    """A suspect leaves its line until a claimant has nothing else in flight, and then comes without company."""
    accept(outbox, event("evt_1"))
    for _ in range(2):
        claim(outbox)
        clock.advance(LEASE_MS)
    accept(outbox, event("evt_2", EP2))
    claims = claim(outbox)
    assert [unit.event_id for unit in claims.units] == ["evt_2"]
    assert claims.drain
    accept(outbox, event("evt_3", EP2))
    claims = claim(outbox, alone=True)
    assert [(unit.event_id, unit.claims, unit.is_poison) for unit in claims.units] == [("evt_1", 3, False)]
    assert claims.more
    assert not claims.drain
    assert settle(outbox, claims.units, Verb.RETRY) == ["ok"]
    assert {unit.event_id for unit in claim(outbox).units} == {"evt_1", "evt_3"}
    assert unaccounted(outbox) == (0, 0)


def test_what_was_claimed_five_times_without_a_settle_is_poison(outbox: Outbox, clock: Clock) -> None:
    """The sixth claim says so, and the claimant sets the unit aside."""
    accept(outbox, event("evt_1"))
    seen: list[tuple[int, bool]] = []
    while len(seen) < 6:
        units = claim(outbox, alone=True).units or claim(outbox, alone=True).units
        seen += [(unit.claims, unit.is_poison) for unit in units]
        clock.advance(LEASE_MS)
    assert seen == [(1, False), (2, False), (3, False), (4, False), (5, False), (6, True)]
    assert settle(outbox, units, Verb.DEAD) == ["ok"]
    assert outbox.audit("relay")[:2] == (0, 0)
    assert unaccounted(outbox) == (0, 0)


# fairness


def test_shares_a_claim_between_the_keys_that_wait(outbox: Outbox) -> None:
    """Each endpoint gets its turn, whatever stands in line for the first; what is left over is not wasted."""
    fill(outbox, 50, EP1, "a")
    fill(outbox, 2, EP2, "b")
    assert Counter(unit.key for unit in claim(outbox, most=8).units) == {"ep_1": 6, "ep_2": 2}


def test_a_key_with_an_old_backlog_does_not_come_before_those_that_wait(outbox: Outbox, clock: Clock) -> None:
    """With more busy endpoints than one claim visits, a newcomer is served within one round of all of them."""
    for number in range(100):
        fill(outbox, 20, Unit("relay", f"old_{number:03}"), f"old_{number:03}")
    clock.advance(60_000)
    accept(outbox, event("evt_new", Unit("relay", "newcomer")))
    rounds = 0
    served: Counter[str] = Counter()
    while "newcomer" not in served:
        clock.advance(5)
        units = claim(outbox, most=10).units
        served.update(unit.key for unit in units)
        settle(outbox, units, Verb.DONE, gate=GateVerdict.OK)
        rounds += 1
        assert rounds <= 11, f"not served while others were served {max(served.values())} times"


def test_settling_does_not_push_back_a_key_that_waits(outbox: Outbox, clock: Clock) -> None:
    """An endpoint whose attempts end all the time keeps its place in the queue."""
    fill(outbox, 5, EP1, "a")
    units = claim(outbox, most=2).units
    clock.advance(1)
    fill(outbox, 5, EP2, "b")
    clock.advance(1)
    settle(outbox, units, Verb.DONE)
    assert [unit.key for unit in claim(outbox, most=1).units] == ["ep_1"]


def test_a_key_at_its_cap_wants_service_again_when_an_attempt_ends(
    outbox: Outbox, client: redis.Redis, clock: Clock
) -> None:
    """At its cap an endpoint sleeps until its first lease runs out; a new event does not wake it, a settle does."""
    fill(outbox, 10)
    units = claim(outbox).units
    assert len(units) == CAP_FIRST
    lease_end = clock.now_ms + LEASE_MS
    for _ in range(2):
        assert client.zscore(keys.due("relay"), "ep_1") == lease_end
        accept(outbox, event("evt_another"))
        assert not claim(outbox).units
    clock.advance(7)
    settle(outbox, units[:1], Verb.RELEASE, delay_ms=1_000)
    assert client.zscore(keys.due("relay"), "ep_1") == clock.now_ms
    assert len(claim(outbox).units) == 1


# the gate


def test_an_endpoint_earns_requests_in_flight_with_every_success(outbox: Outbox) -> None:
    """The cap doubles with each success up to 64, and halves with each failure down to one."""
    fill(outbox, 500)
    caps = []
    for _ in range(4):
        units = claim(outbox).units
        caps.append(len(units))
        settle(outbox, units[:1], Verb.DONE, gate=GateVerdict.OK)
        settle(outbox, units[1:], Verb.RELEASE)
    assert caps == [CAP_FIRST, 16, 32, CAP_MOST]
    units = claim(outbox).units
    settle(outbox, units[:3], Verb.RETRY, gate=GateVerdict.BAD)
    assert not claim(outbox).units
    settle(outbox, units[3:], Verb.RELEASE)
    assert len(claim(outbox).units) == CAP_MOST // 8


def test_a_failing_endpoint_is_left_alone_and_then_probed(outbox: Outbox, client: redis.Redis, clock: Clock) -> None:
    """After ten failures nothing is sent; then one probe at a time, after pauses that double up to 45 s."""
    fill(outbox, 30)
    fail(outbox, FAILURES_TO_OPEN, delay_ms=1)
    assert client.zscore(keys.due("relay"), "ep_1") == clock.now_ms + OPEN_FIRST_MS
    clock.advance(OPEN_FIRST_MS - 1)
    assert not claim(outbox).units
    clock.advance(1)
    for pause_ms in (10_000, 20_000, 40_000, OPEN_MOST_MS, OPEN_MOST_MS):
        probe = the_only(claim(outbox))
        assert probe.gate == "open"
        settle(outbox, [probe], Verb.RETRY, attempted=True, gate=GateVerdict.BAD, delay_ms=1)
        clock.advance(pause_ms - 1)
        assert not claim(outbox).units
        clock.advance(1)
    assert unaccounted(outbox) == (0, 0)


def test_what_was_in_flight_when_a_gate_opened_does_not_prolong_its_pause(outbox: Outbox, clock: Clock) -> None:
    """Only a probe speaks against an open gate."""
    fill(outbox, 30)
    first = claim(outbox).units
    settle(outbox, first[:1], Verb.DONE, gate=GateVerdict.OK)
    flying = [*first[1:], *claim(outbox).units]
    assert len(flying) > FAILURES_TO_OPEN
    settle(outbox, flying, Verb.RETRY, gate=GateVerdict.BAD)
    clock.advance(OPEN_FIRST_MS - 1)
    assert not claim(outbox).units
    clock.advance(1)
    assert the_only(claim(outbox)).gate == "open"


def test_a_probe_that_succeeds_releases_all_that_waited(outbox: Outbox, clock: Clock) -> None:
    """However long the retries' delays are, they are due at once, at the pace of the cap."""
    fill(outbox, 2_500)
    fail(outbox, FAILURES_TO_OPEN, delay_ms=DAY_MS)
    clock.advance(OPEN_FIRST_MS)
    probe = the_only(claim(outbox))
    waiting = outbox.audit("relay").waiting
    settle(outbox, [probe], Verb.DONE, gate=GateVerdict.OK)
    served = []
    while units := claim(outbox).units:
        served.append(len(units))
        assert {unit.gate for unit in units} == {""}
        settle(outbox, units, Verb.DONE, gate=GateVerdict.OK)
    assert served[:2] == [2, 8]
    assert sum(served) == waiting
    assert unaccounted(outbox) == (0, 0)


def test_an_endpoint_that_is_gone_stays_gone(outbox: Outbox) -> None:
    """Claims say so, so that the claimant settles them dead; no success of a late attempt reopens it."""
    fill(outbox, 3)
    first, second, third = claim(outbox).units
    settle(outbox, [first], Verb.DEAD, gate=GateVerdict.GONE)
    settle(outbox, [second], Verb.DONE, gate=GateVerdict.OK)
    settle(outbox, [third], Verb.RELEASE)
    assert the_only(claim(outbox)).gate == "gone"


def test_no_breaker_stands_before_the_billing_lane(outbox: Outbox) -> None:
    """A thousand of an account's bills may be in flight, however often some were released."""
    fill(outbox, 1_100, BILL)
    for _ in range(FAILURES_TO_OPEN):
        settle(outbox, claim(outbox, "billing", most=2).units, Verb.RELEASE, "billing")
    assert len(claim(outbox, "billing", most=2_000).units) == 1_000


# several units of one event


def test_each_endpoint_of_an_event_has_its_own_fate(outbox: Outbox, client: redis.Redis) -> None:
    """One endpoint's delivery leaves the others' and the content alone; the last one shreds it."""
    accept(outbox, event("evt_1", EP1, EP2))
    first, second = claim(outbox).units
    settle(outbox, [first], Verb.DONE)
    settle(outbox, [second], Verb.RETRY, attempted=True)
    unit = the_only(claim(outbox))
    assert (unit.key, unit.attempts, unit.sealed) == (second.key, 1, b"s" * 100)
    settle(outbox, [unit], Verb.DONE)
    assert not client.exists(keys.sealed("evt_1"), keys.facts("evt_1"), keys.ENDS)
    assert held(client) == 0


@pytest.mark.parametrize("first", ["relay", "billing"])
def test_the_last_delivery_shreds_the_content_whether_billed_or_not(
    outbox: Outbox, client: redis.Redis, first: str
) -> None:
    """Lanes do not wait for each other: content goes with its last delivery, the facts with the last unit."""
    accept(outbox, event("evt_1", EP1, BILL))
    units = {lane: claim(outbox, lane).units for lane in ("relay", "billing")}
    second = "billing" if first == "relay" else "relay"
    settle(outbox, units[first], Verb.DONE, first)
    assert client.exists(keys.sealed("evt_1")) == (second == "relay")
    assert held(client) == (100 if second == "relay" else 0)
    assert client.exists(keys.facts("evt_1"))
    settle(outbox, units[second], Verb.DONE, second)
    assert not client.exists(keys.sealed("evt_1"), keys.facts("evt_1"))
    assert held(client) == 0
    assert client.pttl(keys.event("evt_1")) == DAY_MS


# dead and lost


def test_a_dead_delivery_keeps_its_content_until_its_end(outbox: Outbox, client: redis.Redis, clock: Clock) -> None:
    """It can be replayed until its retention ends; then the sweep shreds it, gives the bytes back and forgets it."""
    accept(outbox, event("evt_1"))
    settle(outbox, claim(outbox).units, Verb.DEAD, attempted=True)
    assert client.hget(keys.event("evt_1"), "x:relay:ep_1") == b"1"
    assert accept(outbox, event("evt_1")) == [Verdict.REPEAT]
    clock.advance(RETENTION_MS - 1)
    assert outbox.sweep() == 0
    assert held(client) == 100
    clock.advance(1)
    assert outbox.sweep() == 1
    assert held(client) == 0
    assert not client.exists(keys.sealed("evt_1"), keys.event("evt_1"), keys.facts("evt_1"), keys.ENDS)


def test_a_dead_delivery_with_shred_keeps_nothing(outbox: Outbox, client: redis.Redis) -> None:
    """Where no content may be retained, giving up shreds it as delivering does."""
    accept(outbox, event("evt_1"))
    settle(outbox, claim(outbox).units, Verb.DEAD, shred=True)
    assert not client.exists(keys.sealed("evt_1"), keys.facts("evt_1"), keys.ENDS)
    assert held(client) == 0
    assert accept(outbox, event("evt_1")) == [Verdict.REPEAT]


@pytest.mark.parametrize("dead_first", [True, False])
def test_a_dead_bill_keeps_no_content(outbox: Outbox, client: redis.Redis, dead_first: bool) -> None:
    """Content is kept for the replay of a delivery; a bill needs none."""
    accept(outbox, event("evt_1", EP1, BILL))
    bill, delivery = claim(outbox, "billing").units, claim(outbox).units
    if dead_first:
        settle(outbox, bill, Verb.DEAD, "billing")
    settle(outbox, delivery, Verb.DONE)
    if not dead_first:
        settle(outbox, bill, Verb.DEAD, "billing")
    assert not client.exists(keys.sealed("evt_1"), keys.facts("evt_1"), keys.ENDS)
    assert held(client) == 0


@pytest.mark.parametrize("kept_first", [True, False])
def test_content_stays_while_one_of_two_dead_deliveries_keeps_it(
    outbox: Outbox, client: redis.Redis, clock: Clock, kept_first: bool
) -> None:
    """In either order: one endpoint's shredding does not take away the other's replay."""
    accept(outbox, event("evt_1", EP1, EP2))
    first, second = claim(outbox).units
    settle(outbox, [first], Verb.DEAD, shred=not kept_first)
    assert client.exists(keys.sealed("evt_1"))
    settle(outbox, [second], Verb.DEAD, shred=kept_first)
    assert client.exists(keys.sealed("evt_1"))
    clock.advance(RETENTION_MS)
    outbox.sweep()
    assert held(client) == 0
    assert not client.exists(keys.event("evt_1"))


def test_lost_content_is_known_and_the_event_may_come_again(outbox: Outbox, client: redis.Redis, clock: Clock) -> None:
    """Sealed content that ended early is claimed as None; after the settle the provider's resend is new."""
    accept(outbox, event("evt_1", retention_ms=1_000))
    clock.advance(1_001)
    unit = the_only(claim(outbox))
    assert unit.sealed is None
    settle(outbox, [unit], Verb.LOST)
    assert held(client) == 0
    assert outbox.audit("relay").lost == 1
    assert accept(outbox, event("evt_1")) == [Verdict.NEW]
    assert held(client) == 100


@pytest.mark.parametrize("lost_first", [True, False])
def test_an_event_lost_at_one_endpoint_ends_when_its_other_units_do(
    outbox: Outbox, client: redis.Redis, lost_first: bool
) -> None:
    """The other endpoint and the bill go on; a resend is a repeat until then and new afterwards."""
    accept(outbox, event("evt_1", EP1, EP2, BILL))
    bill = claim(outbox, "billing").units
    first, second = claim(outbox).units
    settle(outbox, [first], Verb.LOST if lost_first else Verb.DEAD)
    assert accept(outbox, event("evt_1")) == [Verdict.REPEAT]
    settle(outbox, [second], Verb.DEAD if lost_first else Verb.LOST)
    settle(outbox, bill, Verb.DONE, "billing")
    assert held(client) == 0
    assert not client.exists(keys.event("evt_1"), keys.sealed("evt_1"), keys.facts("evt_1"), keys.ENDS)
    assert accept(outbox, event("evt_1")) == [Verdict.NEW]
    assert unaccounted(outbox) == (0, 0)


@pytest.mark.parametrize("swept_first", [True, False])
def test_a_bill_that_outlasts_the_content_gives_its_bytes_back_once(
    outbox: Outbox, client: redis.Redis, clock: Clock, swept_first: bool
) -> None:
    """Content that a dead delivery kept has expired; the sweep comes before or after the last unit is settled."""
    accept(outbox, event("evt_1", EP1, BILL))
    bill = claim(outbox, "billing").units
    settle(outbox, claim(outbox).units, Verb.DEAD)
    clock.advance(RETENTION_MS)
    if swept_first:
        assert outbox.sweep() == 1
    settle(outbox, bill, Verb.DONE, "billing")
    assert outbox.sweep() == 0
    assert held(client) == 0
    assert not client.exists(keys.facts("evt_1"), keys.ENDS)
    assert accept(outbox, event("evt_1")) == [Verdict.REPEAT]


def test_a_sweep_that_comes_days_late_still_gives_the_bytes_back(
    outbox: Outbox, client: redis.Redis, clock: Clock
) -> None:
    """After a long weekend without workers no account is left with bytes that nobody holds."""
    accept(outbox, event("evt_1"))
    settle(outbox, claim(outbox).units, Verb.DEAD)
    clock.advance(RETENTION_MS + 3 * DAY_MS)
    outbox.sweep()
    assert held(client) == 0
    assert not client.exists(keys.event("evt_1"), keys.facts("evt_1"), keys.ENDS)


# ends


def test_a_unit_whose_end_has_come_gets_a_last_attempt_at_once(outbox: Outbox, clock: Clock) -> None:
    """A retry that was due later is claimed now; one in flight gets its last attempt half a minute after."""
    accept(outbox, event("evt_1", EP1, EP2))
    first, _ = claim(outbox).units
    settle(outbox, [first], Verb.RETRY, delay_ms=DAY_MS)
    clock.advance(WINDOW_MS - 1)
    assert outbox.sweep() == 0
    clock.advance(1)
    assert outbox.sweep() == 1
    urgent = {unit.key: unit for unit in claim(outbox).units}
    assert set(urgent) == {"ep_1", "ep_2"}  # the second's lease had run out
    settle(outbox, urgent.values(), Verb.RETRY, delay_ms=DAY_MS)
    assert outbox.sweep() == 0
    clock.advance(30_000)
    assert outbox.sweep() == 1
    assert len(settle(outbox, claim(outbox).units, Verb.DEAD)) == 2
    assert unaccounted(outbox) == (0, 0)


def test_last_attempts_pass_an_open_gate_a_few_at_a_time(outbox: Outbox, client: redis.Redis, clock: Clock) -> None:
    """No gate outlasts retention; but an endpoint that hangs cannot take every slot with its last attempts."""
    fill(outbox, 100)
    clock.advance(WINDOW_MS)
    fail(outbox, FAILURES_TO_OPEN, delay_ms=1)
    assert not claim(outbox).units
    assert outbox.sweep() == 100
    units = claim(outbox).units
    assert len(units) == CAP_FIRST
    assert {unit.gate for unit in units} == {"open"}
    assert client.zscore(keys.due("relay"), "ep_1") == clock.now_ms + LEASE_MS
    accept(outbox, event("evt_another"))
    assert not claim(outbox).units
    settle(outbox, units[:3], Verb.DEAD, gate=GateVerdict.BAD)
    assert len(claim(outbox).units) == 3
    assert unaccounted(outbox) == (0, 0)


def test_last_attempts_do_not_wait_for_a_probe(outbox: Outbox, clock: Clock) -> None:
    """While a probe is on its way nothing else passes an open gate, except what would end unsent."""
    fill(outbox, 30)
    fail(outbox, FAILURES_TO_OPEN, delay_ms=1)
    clock.advance(OPEN_FIRST_MS)
    assert len(claim(outbox).units) == 1
    accept(outbox, event("evt_another"))
    assert not claim(outbox).units
    clock.advance(LEASE_MS - 1)
    accept(outbox, *(event(f"last_{number:02}", window_ms=0) for number in range(20)))
    assert outbox.sweep() == 20
    assert [unit.event_id for unit in claim(outbox).units] == [f"last_{number:02}" for number in range(CAP_FIRST - 1)]


def test_an_audit_finds_every_unit_and_how_late_the_first_is(outbox: Outbox, clock: Clock) -> None:
    """Waiting, in flight, suspect or settled: every accepted unit is somewhere, and it is counted once."""
    accept(outbox, *(event(f"evt_{number}", EP1, EP2) for number in range(5)))
    settle(outbox, claim(outbox, most=1).units, Verb.RETRY, delay_ms=DAY_MS)
    for _ in range(2):
        assert len(claim(outbox, most=20).units) == 9
        clock.advance(LEASE_MS)
    assert claim(outbox).drain  # nine suspects leave their lines
    accept(outbox, *(event(f"more_{number}") for number in range(4)))
    clock.advance(1_234)
    done, dead, lost = claim(outbox, most=3).units
    settle(outbox, [done], Verb.DONE)
    settle(outbox, [dead], Verb.DEAD)
    settle(outbox, [lost], Verb.LOST)
    claim(outbox, alone=True)
    audit = outbox.audit("relay")
    assert audit == Audit(waiting=10, in_flight=1, late_ms=1_234, accepted=14, delivered=1, dead=1, lost=1, keys=1)
    assert audit.unaccounted == 0


def test_names_an_account_once_when_half_of_its_quota_is_filled(outbox: Outbox) -> None:
    """The crossing is told, not the state: an alarm rings once."""
    told = []
    for number in range(4):
        admission = Admission(
            f"evt_{number}", "acc_1", b"facts", b"x" * 30, 60_000, 50_000, 100, (Unit("relay", "ep_1"),)
        )
        told.append(outbox.accept([admission]).half_full)
    assert told == [(), ("acc_1",), (), ()]


# -- room


def test_endpoints_on_probation_share_what_is_left_for_them(outbox: Outbox) -> None:
    """One that has earned more is not held back by them."""
    fill(outbox, 1)
    settle(outbox, claim(outbox).units, Verb.DONE, gate=GateVerdict.OK)
    fill(outbox, 8, prefix="good")
    fill(outbox, 8, Unit("relay", "ep_new"), prefix="new")
    units = outbox.claim("relay", Room(100, probation_units=3), alone=False, content=True).units
    assert Counter(unit.key for unit in units) == {"ep_1": 8, "ep_new": 3}
    assert {unit.key: unit.is_on_probation for unit in units} == {"ep_1": False, "ep_new": True}


def test_a_large_unit_on_probation_goes_when_something_is_left_for_it(outbox: Outbox) -> None:
    """Else it would never go; but only one."""
    fill(outbox, 4)
    assert len(outbox.claim("relay", Room(100, probation_bytes=1), alone=False, content=True).units) == 1


def test_units_of_full_accounts_are_left_alone(outbox: Outbox) -> None:
    """The others go."""
    accept(outbox, event("evt_1", account_id="acct_full"), event("evt_2", Unit("relay", "ep_2")))
    units = outbox.claim("relay", Room(100, full_accounts=("acct_full",)), alone=False, content=True).units
    assert [unit.event_id for unit in units] == ["evt_2"]


def test_what_there_is_no_room_for_is_no_reason_to_look_again_at_once(outbox: Outbox) -> None:
    """And it stays due, for a worker that has room."""
    fill(outbox, 4)
    claims = outbox.claim("relay", Room(100, probation_units=0), alone=False, content=True)
    assert (claims.units, claims.more) == ((), False)
    assert len(claim(outbox).units) == 4


def test_keys_that_there_is_no_room_for_do_not_stand_in_front_of_others(outbox: Outbox, clock: Clock) -> None:
    """Keys are looked at in windows; those that fill one go behind, for a moment."""
    fill(outbox, 1, Unit("relay", "ep_good"))
    settle(outbox, claim(outbox).units, Verb.DONE, gate=GateVerdict.OK)
    for number in range(150):
        accept(outbox, event(f"evt_new_{number}", Unit("relay", f"ep_new_{number}")))
    fill(outbox, 1, Unit("relay", "ep_good"), prefix="good")
    found: list[str] = []
    for _ in range(3):
        claims = outbox.claim("relay", Room(100, probation_units=0), alone=False, content=True)
        found += [unit.key for unit in claims.units]
    assert found == ["ep_good"]
    clock.advance(100)
    assert len(claim(outbox).units) >= 60


def test_a_suspect_is_claimed_whatever_room_there_is(outbox: Outbox, clock: Clock) -> None:
    """It has left its line; held back it would be lost."""
    fill(outbox, 1)
    for _ in range(2):
        assert len(claim(outbox).units) == 1
        clock.advance(LEASE_MS)
    assert claim(outbox).units == ()
    room = Room(100, probation_units=0, full_accounts=("acct_1",))
    assert len(outbox.claim("relay", room, alone=True, content=True).units) == 1
