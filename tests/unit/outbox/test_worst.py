"""The endpoints that are furthest behind, and `switchhook top`, on a Redis in memory whose clock the test moves."""

from __future__ import annotations

import json
from typing import Any

import fakeredis
import pytest
import redis
from click.testing import CliRunner

from relay.cli import main, top
from relay.outbox import Admission, Backlog, Claim, GateVerdict, Outbox, Settlement, Unit, Verb, keys
from relay.outbox.units import Room

FAILURES_TO_OPEN, OPEN_FIRST_MS = 10, 5_000
ROOM = Room(1000, 1 << 30)


class Clock:
    """The time that fakeredis sees. It stands still until it is moved."""

    def __init__(self) -> None:
        self.now_ms = 1_770_811_500_000

    def advance(self, ms: int) -> None:
        self.now_ms += ms


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("time.time", lambda: clock.now_ms / 1000)
    return clock


@pytest.fixture
def client(clock: Clock) -> redis.Redis:
    return fakeredis.FakeRedis(server=fakeredis.FakeServer())


@pytest.fixture
def outbox(client: redis.Redis) -> Outbox:
    return Outbox(client)


def fill(outbox: Outbox, endpoint: str, count: int, account: str = "acct_1") -> None:
    """So many events for one endpoint."""
    units = (Unit("relay", endpoint), Unit("billing", account))
    names = [f"evt_{endpoint}_{number}" for number in range(count)]
    outbox.accept(
        [Admission(name, account, b"facts", b"sealed", 3_600_000, 3_000_000, 1 << 30, units) for name in names]
    )


def claim(outbox: Outbox) -> list[Claim]:
    return list(outbox.claim("relay", ROOM, alone=False, content=True).units)


def fail(outbox: Outbox, times: int, *, retry_ms: int = 300_000) -> None:
    """Let attempts fail, as many at a time as the gates let through."""
    while times > 0:
        units = claim(outbox)[:times]
        assert units, "the gates let nothing through"
        outbox.settle(
            "relay", [Settlement(u, Verb.RETRY, retry_ms, attempted=True, gate=GateVerdict.BAD) for u in units]
        )
        times -= len(units)


def test_an_empty_outbox_has_none(outbox: Outbox, clock: Clock) -> None:
    """Nothing waits, nothing was looked at."""
    worst = outbox.worst(20)
    assert (worst.now_ms, worst.endpoints, worst.looked_at, worst.backlogs) == (clock.now_ms, 0, 0, ())


def test_sorts_by_how_late_the_oldest_is_then_by_how_many_wait(outbox: Outbox, clock: Clock) -> None:
    """The limit cuts the end off, and the number of all is told."""
    fill(outbox, "ep_oldest", 1)
    clock.advance(60_000)
    fill(outbox, "ep_few", 2)
    fill(outbox, "ep_many", 5, account="acct_2")
    clock.advance(1_000)
    fill(outbox, "ep_newest", 9)

    worst = outbox.worst(3)

    assert [(one.endpoint_id, one.late_ms, one.waiting) for one in worst.backlogs] == [
        ("ep_oldest", 61_000, 1),
        ("ep_many", 1_000, 5),
        ("ep_few", 1_000, 2),
    ]
    assert [one.account_id for one in worst.backlogs] == ["acct_1", "acct_2", "acct_1"]
    assert (worst.endpoints, worst.looked_at) == (4, 4)


def test_finds_an_endpoint_whose_gate_is_open(outbox: Outbox, clock: Clock) -> None:
    """It is not due before its gate's next probe, and nobody waits longer."""
    fill(outbox, "ep_1", 30)
    fail(outbox, FAILURES_TO_OPEN)
    clock.advance(2_000)

    (one,) = outbox.worst(20).backlogs

    assert one == Backlog(
        endpoint_id="ep_1",
        account_id="acct_1",
        gate="open",
        waiting=30 - one.in_flight,
        in_flight=one.in_flight,
        late_ms=2_000,
        until_ms=clock.now_ms - 2_000 + OPEN_FIRST_MS,
        failures=FAILURES_TO_OPEN,
        cap=1,
    )


def test_what_is_in_flight_or_waits_for_its_retry_is_shown_and_not_late(outbox: Outbox, clock: Clock) -> None:
    """An endpoint is behind when something could be sent to it and is not."""
    fill(outbox, "ep_1", 2)
    first, second = claim(outbox)
    outbox.settle("relay", [Settlement(first, Verb.RETRY, 300_000, attempted=True, gate=GateVerdict.BAD)])
    clock.advance(10_000)
    (one,) = outbox.worst(20).backlogs
    assert (one.waiting, one.in_flight, one.late_ms, one.failures, one.gate) == (1, 1, 0, 1, "closed")

    outbox.settle("relay", [Settlement(second, Verb.DONE)])
    clock.advance(300_000)
    (one,) = outbox.worst(20).backlogs
    assert (one.waiting, one.in_flight, one.late_ms) == (1, 0, 10_000)


def test_a_unit_at_its_end_does_not_make_its_endpoint_50_years_late(outbox: Outbox, clock: Clock) -> None:
    """Its due time in 1970 is a mark, and the next one tells how late the endpoint is."""
    fill(outbox, "ep_1", 1)
    clock.advance(3_000_001)
    assert outbox.sweep() == 1
    assert outbox.worst(20).backlogs[0].late_ms == 0
    outbox.accept([Admission("evt_2", "acct_1", b"f", b"s", 3_600_000, 3_000_000, 1 << 30, (Unit("relay", "ep_1"),))])
    clock.advance(7)
    assert outbox.worst(20).backlogs[0].late_ms == 7


def test_an_endpoint_that_is_gone_is_called_so(outbox: Outbox, client: redis.Redis) -> None:
    """What waits for it is about to end as dead."""
    fill(outbox, "ep_1", 1)
    client.hset(keys.gate("ep_1"), "state", "gone")
    assert outbox.worst(20).backlogs[0].gate == "gone"


def test_looks_at_a_bounded_number_and_at_open_gates_among_them(
    outbox: Outbox, client: redis.Redis, clock: Clock
) -> None:
    """The script blocks Redis for everyone, so it leaves most of many thousands out, and says so."""
    fill(outbox, "ep_behind_its_gate", 30)
    fail(outbox, FAILURES_TO_OPEN)
    clock.advance(1_000)
    client.zadd(keys.due("relay"), {f"ep_{number:05}": 1 for number in range(5_000)})
    worst = outbox.worst(1)
    assert [one.endpoint_id for one in worst.backlogs] == ["ep_behind_its_gate"]
    assert (worst.endpoints, worst.looked_at) == (5_001, 2_001)


# -- the command


@pytest.fixture
def run(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `switchhook top` on this Redis."""
    monkeypatch.setattr(top, "redis_client", lambda _: client)
    env = {
        "DATABASE_URL": "postgres://nobody@localhost/nowhere",
        "REDIS_URL": "redis://localhost",
        "SWITCHHOOK_KEYS": "k" * 32,
    }

    def invoke(*arguments: str) -> str:
        result = CliRunner(env=env).invoke(main, ["top", *arguments], catch_exceptions=False)
        assert result.exit_code == 0
        return result.output

    return invoke


def test_top_shows_endpoints_and_lanes(outbox: Outbox, clock: Clock, run: Any) -> None:
    """In words that a person reads, and no URL."""
    fill(outbox, "ep_1", 30)
    fail(outbox, FAILURES_TO_OPEN)
    claim(outbox)
    clock.advance(2_000)
    fill(outbox, "ep_2", 1, account="acct_2")

    lines = run("--limit", "1").splitlines()

    assert lines[0].split("  ")[0] == "ENDPOINT"
    assert "ep_1" in lines[1]
    assert "open, probes in 3 s" in lines[1]
    assert lines[2] == "... of 2 endpoints that something waits for"
    assert [line.split()[0] for line in lines[3:] if line] == ["LANE", "relay", "billing", "recordings"]
    assert lines[-2].split() == ["billing", "2", "s", "31", "0", "31", "0", "0", "0", "0"]


def test_top_says_so_when_nothing_waits(run: Any) -> None:
    """And the totals are shown all the same."""
    shown = run()
    assert shown.startswith("nothing waits for any endpoint\n")
    assert "relay" in shown


def test_top_prints_one_line_of_json(outbox: Outbox, clock: Clock, run: Any) -> None:
    """With times in seconds and the moment of the next probe."""
    fill(outbox, "ep_1", 30)
    fail(outbox, FAILURES_TO_OPEN)
    clock.advance(1_500)

    (line,) = run("--json").splitlines()
    shown = json.loads(line)

    (one,) = shown["endpoints"]
    assert (one["endpointId"], one["accountId"], one["gate"], one["lateSeconds"]) == ("ep_1", "acct_1", "open", 1.5)
    assert one["openUntil"] == "2026-02-11T12:05:05Z"
    assert (shown["endpointsWaiting"], shown["unaccounted"]) == (1, 0)
    assert [lane["lane"] for lane in shown["lanes"]] == ["relay", "billing", "recordings"]


@pytest.mark.parametrize(
    ("ms", "shown"),
    [(-5, "0 s"), (0, "0 s"), (999, "0 s"), (1_000, "1 s"), (59_999, "59 s"), (60_000, "1 min"), (7_200_000, "2 h"),
     (200_000_000, "2 d")],
)  # fmt: skip
def test_durations_are_shown_in_their_largest_unit(ms: int, shown: str) -> None:
    """Whole ones: how late an endpoint is matters by its order of magnitude."""
    assert top.duration(ms) == shown


def test_top_watches_until_it_is_stopped(outbox: Outbox, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look each time, and Ctrl-C is its orderly end."""
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", sleep)
    assert len(run("--watch", "2.5", "--json").splitlines()) == 3
    assert waits == [2.5] * 3
