"""What an idle worker asks: whether a claim may find something."""

from __future__ import annotations

import time

import fakeredis
import pytest
import redis

from relay.errors import Unavailable
from relay.outbox import Admission, Outbox, Room, Unit, keys


@pytest.fixture
def client() -> redis.Redis:
    """A Redis of its own."""
    return fakeredis.FakeRedis(version=(6, 2))


@pytest.fixture
def outbox(client: redis.Redis) -> Outbox:
    """An outbox that has claimed before, and so knows Redis' clock."""
    outbox = Outbox(client)
    for lane in ("relay", "billing"):
        outbox.claim(lane, Room(10), alone=False, content=False)
    return outbox


def look(outbox: Outbox) -> int:
    """Claim from the relay lane; how many units that found."""
    return len(outbox.claim("relay", Room(10), alone=False, content=False).units)


def accept(outbox: Outbox) -> None:
    """Commit an event for an endpoint."""
    admission = Admission("evt_1", "acct_1", b"f", b"sealed", 60_000, 60_000, 1 << 20, (Unit("relay", "ep_1"),))
    outbox.accept([admission])


def test_an_empty_lane_is_not_due(outbox: Outbox) -> None:
    """And what another lane holds does not matter."""
    accept(outbox)
    assert outbox.is_due("relay")
    assert not outbox.is_due("billing")


def test_a_lane_is_due_when_its_first_key_is(outbox: Outbox, client: redis.Redis) -> None:
    """By Redis' clock, not before."""
    seconds, micros = client.time()
    now_ms = seconds * 1000 + micros // 1000
    client.zadd(keys.due("relay"), {"ep_1": now_ms + 5_000})
    assert not outbox.is_due("relay")
    client.zadd(keys.due("relay"), {"ep_2": now_ms})
    assert outbox.is_due("relay")


def test_a_suspect_makes_a_lane_due(outbox: Outbox, client: redis.Redis) -> None:
    """It stands in no line; the claim before has seen it."""
    client.zadd(keys.suspects("relay"), {"ep_1 evt_1": 1})
    look(outbox)
    assert outbox.is_due("relay")
    assert not outbox.is_due("billing")


def test_a_host_whose_clock_jumps_misses_nothing(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its wall clock is not asked."""
    wall = time.time()
    monkeypatch.setattr("relay.outbox.time.time", lambda: wall - 3600)
    accept(outbox)
    assert outbox.is_due("relay")


def test_who_does_not_know_the_clock_looks(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its first look, and when it last claimed half a minute ago."""
    outbox = Outbox(client)
    assert outbox.is_due("relay")
    look(outbox)
    assert not outbox.is_due("relay")
    later = time.monotonic() + 31
    monkeypatch.setattr("relay.outbox.time.monotonic", lambda: later)
    assert outbox.is_due("relay")


def test_a_redis_that_is_away_is_told(outbox: Outbox, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by every other method."""

    def gone(*_: object, **__: object) -> None:
        raise redis.ConnectionError

    monkeypatch.setattr(client, "zrange", gone)
    with pytest.raises(Unavailable):
        outbox.is_due("relay")
