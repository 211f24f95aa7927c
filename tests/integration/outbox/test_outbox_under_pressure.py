"""The outbox on a Redis that is full, has forgotten the scripts, hangs or is gone."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from relay.connections import redis_client as connect_redis
from relay.demo.embedded import EmbeddedRedis, Scratch, start_redis
from relay.errors import Unavailable
from relay.outbox import Admission, Claim, Outbox, Readmission, Replay, Room, Settlement, Unit, Verb, Verdict, keys
from relay.settings import Settings

MAXMEMORY_MIB = 8
CONTENT_BYTES = 64 * 1024
# The client waits 2 s for Redis; whoever waits for the outbox must know by then.
PATIENCE_SECONDS = 2.5
_server_numbers = itertools.count(1)


@pytest.fixture
def small_redis(scratch: Scratch) -> Iterator[EmbeddedRedis]:
    """A Redis of the test's own that is soon full."""
    server = start_redis(scratch, name=f"small_{next(_server_numbers)}", maxmemory_mib=MAXMEMORY_MIB)
    yield server
    server.stop()


@pytest.fixture
def client(small_redis: EmbeddedRedis) -> Iterator[redis.Redis]:
    """A client of the small Redis, with the options of production."""
    with connect(small_redis) as client:
        yield client


@pytest.fixture
def outbox(client: redis.Redis) -> Outbox:
    return Outbox(client)


def connect(server: EmbeddedRedis) -> redis.Redis:
    return connect_redis(Settings(database_url="", redis_url=server.url, keys=""))


def event(number: int, *units: Unit, **changes: Any) -> Admission:
    """An event of 64 KB for eight endpoints in turn, and for billing."""
    values: dict[str, Any] = {
        "event_id": f"evt_{number}",
        "account_id": "acct_1",
        "facts": b"facts",
        "sealed": number.to_bytes(4, "big") * (CONTENT_BYTES // 4),
        "retention_ms": 3_600_000,
        "window_ms": 3_000_000,
        "quota_bytes": 10**9,
        "units": units or (Unit("relay", f"ep_{number % 8}"), Unit("billing", "acct_1")),
    }
    return Admission(**(values | changes))


def fill(outbox: Outbox, client: redis.Redis, **changes: Any) -> list[Admission]:
    """Accept until Redis refuses; return what it accepted. It stays full when the first of it are gone."""
    accepted: list[Admission] = []
    for number in range(1_000):
        item = event(number, **changes)
        (verdict,) = outbox.accept([item]).verdicts
        if verdict is Verdict.ERROR:
            client.config_set("maxmemory", f"{MAXMEMORY_MIB // 2}mb")
            return accepted
        assert verdict is Verdict.NEW
        accepted.append(item)
    raise AssertionError("Redis took 64 MB in 8 MiB")


def drain(outbox: Outbox, lane: str) -> list[Claim]:
    """Deliver all that waits in a lane, by the courier's calls; return what was claimed."""
    delivered: list[Claim] = []
    claims = outbox.claim(lane, Room(16), alone=True, content=True)
    while claims.units:
        delivered += claims.units
        done = [Settlement(unit, Verb.DONE, outcome=b"delivered") for unit in claims.units]
        verdicts, claims = outbox.settle_and_claim(lane, done, Room(16), alone=True)
        assert verdicts == ["ok"] * len(done)
    return delivered


def test_a_full_redis_refuses_events_and_evicts_nothing(outbox: Outbox, client: redis.Redis) -> None:
    """Every kind of new event is an error that leaves nothing behind; what was accepted is untouched."""
    accepted = fill(outbox, client)
    names = set(client.scan_iter(count=1_000))
    refused = [
        event(9_001),
        event(9_002, sealed=b"", units=(Unit("billing", "acct_1"),)),
        event(9_003, units=()),
        event(9_004, Unit("relay", "ep_new"), account_id="acct_new"),
    ]
    verdicts = outbox.accept([accepted[0], *refused, event(9_005, quota_bytes=1)]).verdicts
    assert verdicts == (Verdict.REPEAT, *[Verdict.ERROR] * len(refused), Verdict.QUOTA)
    assert set(client.scan_iter(count=1_000)) == names
    assert client.info("stats")["evicted_keys"] == 0
    assert client.get(keys.held_bytes("acct_1")) == str(len(accepted) * CONTENT_BYTES).encode()
    assert all(client.exists(keys.sealed(item.event_id)) for item in accepted)
    assert outbox.audit("relay").accepted == outbox.audit("relay").waiting == len(accepted)


def test_a_full_redis_drains(outbox: Outbox, client: redis.Redis) -> None:
    """Claims, retries, releases and sweeps work while nothing can be accepted; then events are accepted again."""
    accepted = fill(outbox, client, window_ms=1)
    retried, released, dead, *others = outbox.claim("relay", Room(16), alone=True, content=True).units
    settlements = [
        Settlement(retried, Verb.RETRY, delay_ms=3_600_000, attempted=True, outcome=b"failed"),
        Settlement(released, Verb.RELEASE),
        Settlement(dead, Verb.DEAD, outcome=b"dead"),
        *[Settlement(unit, Verb.RELEASE) for unit in others],
    ]
    for settlement in settlements:
        assert outbox.settle("relay", [settlement]) == ["ok"]
    assert outbox.sweep() == len(accepted) - 1  # their ends have come, and the retry is due at once
    assert outbox.accept([event(9_001)]).verdicts == (Verdict.ERROR,)

    contents = {item.event_id: item.sealed for item in accepted if item.event_id != dead.event_id}
    assert {unit.event_id: unit.sealed for unit in drain(outbox, "relay")} == contents
    assert len(drain(outbox, "billing")) == len(accepted)
    assert client.get(keys.held_bytes("acct_1")) == str(CONTENT_BYTES).encode()  # the dead one is kept
    assert (outbox.audit("relay").unaccounted, outbox.audit("billing").unaccounted) == (0, 0)
    assert outbox.accept([event(9_001)]).verdicts == (Verdict.NEW,)


def test_a_full_redis_takes_replays(outbox: Outbox, client: redis.Redis) -> None:
    """What died can go again while nothing can be accepted: its content is there already, and its delivery frees it."""
    accepted = fill(outbox, client)
    (dead,) = outbox.claim("relay", Room(1), alone=True, content=True).units
    assert outbox.settle("relay", [Settlement(dead, Verb.DEAD)]) == ["ok"]
    wish = Replay(dead.key, dead.event_id, None, 3_000_000, b"replayed")
    assert outbox.readmit([wish]) == [Readmission.READMITTED]
    assert outbox.accept([event(9_001)]).verdicts == (Verdict.ERROR,)
    assert len(drain(outbox, "relay")) == len(accepted)
    assert client.get(keys.held_bytes("acct_1")) == b"0"
    assert outbox.audit("relay").unaccounted == 0


def test_a_full_redis_answers_a_claim_that_finds_nothing(outbox: Outbox, client: redis.Redis) -> None:
    """An endpoint at its cap is looked at in vain: the index is written, though nothing was freed."""
    endpoint = Unit("relay", "ep_1")
    outbox.accept([event(number, endpoint) for number in range(1_000, 1_010)])
    assert len(outbox.claim("relay", Room(16), alone=True, content=False).units) == 8
    fill(outbox, client, units=(endpoint,))
    assert outbox.claim("relay", Room(16), alone=True, content=False).units == ()


def test_survives_that_redis_forgets_the_scripts(outbox: Outbox, client: redis.Redis) -> None:
    """Each call loads what is missing, even into a full Redis, and is done exactly once."""
    client.script_flush()
    count = len(fill(outbox, client))
    client.script_flush()
    units = outbox.claim("relay", Room(4), alone=True, content=True).units
    client.script_flush()
    assert outbox.settle("relay", [Settlement(units[0], Verb.DONE)]) == ["ok"]
    client.script_flush()
    done = [Settlement(unit, Verb.DONE) for unit in units[1:]]
    verdicts, claims = outbox.settle_and_claim("relay", done, Room(4), alone=True)
    assert (verdicts, len(claims.units)) == (["ok"] * 3, 4)
    client.script_flush()
    assert outbox.sweep() == 0
    client.script_flush()
    audit = outbox.audit("relay")
    assert (audit.waiting, audit.in_flight, audit.accepted, audit.delivered) == (count - 8, 4, count, 4)


@pytest.mark.parametrize("connected", [True, False])
@pytest.mark.parametrize("ending", ["pause", "kill"])
def test_a_redis_that_is_gone_is_known_in_time(small_redis: EmbeddedRedis, ending: str, connected: bool) -> None:
    """Every call raises Unavailable within its patience, without words about where Redis is, and works again later."""
    with connect(small_redis) as client:
        outbox = Outbox(client)
        outbox.accept([event(1)])
        unit = outbox.claim("relay", Room(1), alone=True, content=True).units[0]
        settlements = [Settlement(unit, Verb.DONE)]
        calls: list[Callable[[], object]] = [
            lambda: outbox.accept([event(2)]),
            lambda: outbox.claim("relay", Room(1), alone=True, content=True),
            lambda: outbox.settle("billing", settlements),
            lambda: outbox.settle_and_claim("billing", settlements, Room(1), alone=True),
            outbox.sweep,
            lambda: outbox.audit("relay"),
        ]
        with ThreadPoolExecutor(len(calls)) as threads:
            if connected:
                list(threads.map(lambda _: client.ping(), calls))
            else:
                client.connection_pool.disconnect()
            getattr(small_redis, ending)()
            answers = list(threads.map(_failure, calls))
        for error, seconds in answers:
            assert isinstance(error, Unavailable)
            assert seconds < PATIENCE_SECONDS
            assert str(small_redis.directory) not in str(error)
        small_redis.restart()
        assert outbox.settle("relay", settlements) == ["ok"]


def _failure(call: Callable[[], object]) -> tuple[Exception | None, float]:
    began = time.monotonic()
    try:
        call()
    except Exception as error:
        return error, time.monotonic() - began
    return None, time.monotonic() - began


def test_large_contents_are_claimed_within_the_byte_limit(outbox: Outbox) -> None:
    """A claim brings what fits and says that there is more; content that fits nowhere comes alone."""
    outbox.accept([event(number) for number in range(40)])
    claims = outbox.claim("relay", Room(100, 10 * CONTENT_BYTES + 1), alone=True, content=True)
    assert [len(unit.sealed or b"") for unit in claims.units] == [CONTENT_BYTES] * 10
    assert claims.more
    claims = outbox.claim("relay", Room(100, CONTENT_BYTES - 1), alone=True, content=True)
    assert (len(claims.units), claims.more) == (1, True)
    assert len(outbox.claim("relay", Room(100, 1), alone=True, content=False).units) == 29
