"""Publishing samples: where they are left, for how long, how many are shown, and what an outage costs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import fakeredis
import pytest
import redis
from redis.client import Pipeline

from relay.errors import Unavailable
from relay.telemetry import logs, samples
from relay.telemetry.exchange import INDEX, LIFETIME, MOST_SHOWN, Exchange, key
from relay.telemetry.publisher import Publisher
from relay.telemetry.samples import Sample, SampleSet
from tests.waiting import eventually

ONE = SampleSet((("attempts_total", ()),), (Sample(0, (), 1.0),))
WORKER, BEAT, WEB = "worker@host:2", "beat@host:3", "web@host:1"


@pytest.fixture
def client() -> redis.Redis:
    return fakeredis.FakeRedis(server=fakeredis.FakeServer())


@pytest.fixture
def exchange(client: redis.Redis) -> Exchange:
    return Exchange(client)


def publish(exchange: Exchange, *processes: str) -> None:
    for process in processes:
        exchange.publish(process, samples.encode(ONE))


def test_shows_what_the_others_published(exchange: Exchange) -> None:
    """Whoever asks counts live and is not among them."""
    publish(exchange, WORKER, BEAT, WEB)
    found = exchange.others(WEB)
    assert found.shown == {BEAT: ONE, WORKER: ONE}
    assert found.names == (BEAT, WORKER)


def test_a_process_that_stopped_publishing_is_forgotten(exchange: Exchange, client: redis.Redis) -> None:
    """Its samples end by themselves, and its name leaves the index with the next scrape."""
    publish(exchange, WORKER, BEAT)
    assert 0 < client.pttl(key(WORKER)) <= LIFETIME.total_seconds() * 1000
    client.delete(key(WORKER))

    assert exchange.others(WEB).names == (BEAT,)
    assert client.zrange(INDEX, 0, -1) == [BEAT.encode()]


def test_one_page_has_room_for_64_processes(exchange: Exchange) -> None:
    """The same ones at every scrape, so that no series comes and goes; all of them are counted."""
    publish(exchange, *(f"worker@host-{number:03}:1" for number in range(MOST_SHOWN + 6)))
    found = exchange.others(WEB)
    assert list(found.shown) == [f"worker@host-{number:03}:1" for number in range(MOST_SHOWN - 1)]
    assert len(found.names) == MOST_SHOWN + 6


def test_the_index_is_kept_small_where_nobody_scrapes(exchange: Exchange, client: redis.Redis) -> None:
    """A worker that dies at every start leaves no more than 128 names behind; the newest stay."""
    publish(exchange, *(f"worker@host:{pid}" for pid in range(140)))
    exchange.tidy()
    assert client.zcard(INDEX) == 128
    assert client.zrange(INDEX, -1, -1) == [b"worker@host:139"]


def test_what_is_no_process_is_not_shown(exchange: Exchange, client: redis.Redis) -> None:
    """Neither under an odd name, nor with samples that are none, nor with more than a process may have."""
    publish(exchange, 'x"} 1\n', WORKER)
    client.set(key(WORKER), b"\x93")
    client.zadd(INDEX, {BEAT: 1.0})
    client.set(key(BEAT), b" " * (samples.MOST_BYTES + 1))
    found = exchange.others(WEB)
    assert found.shown == {}
    assert found.names == (BEAT, WORKER)


def test_publishing_takes_two_commands(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one round trip: three idle processes cost Redis 72 commands a minute."""
    sent: list[int] = []
    execute = Pipeline.execute

    def count(self: Pipeline, *arguments: Any, **options: Any) -> Any:
        sent.append(len(self.command_stack))
        return execute(self, *arguments, **options)

    monkeypatch.setattr(Pipeline, "execute", count)
    publish(exchange, WORKER)
    assert sent == [2]


class ScriptedExchange(Exchange):
    """Fails while `is_down`; says when it was asked."""

    def __init__(self) -> None:
        self.is_down = False
        self.asked = threading.Semaphore(0)
        self.published = 0
        self.refused = 0

    def tidy(self) -> None:
        """Nothing to do."""

    def publish(self, process: str, encoded: bytes) -> None:  # noqa: ARG002  what is asked, not with what
        self.asked.release()
        if self.is_down:
            self.refused += 1
            raise Unavailable
        self.published += 1

    def await_publishes(self, count: int) -> None:
        for _ in range(count):
            assert self.asked.acquire(timeout=30)

    def await_outcome(self, *, is_down: bool) -> None:
        """Be down, or not, until publishes have ended so: of the last one the publisher may not know yet."""
        self.is_down = is_down

        def ended() -> int:
            return self.refused if is_down else self.published

        before = ended()
        eventually(lambda: ended() >= before + 3, within_seconds=30, what="publishes that end so")


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The events of warnings."""
    found: list[str] = []
    monkeypatch.setattr(logs, "warning", lambda event, **_: found.append(event))
    return found


@pytest.fixture
def scripted() -> ScriptedExchange:
    return ScriptedExchange()


@pytest.fixture
def publisher(scripted: ScriptedExchange) -> Iterator[Publisher]:
    """One that publishes all the time."""
    it = Publisher(scripted, WORKER, period_seconds=0.001)
    yield it
    it.stop()


def test_publishes_at_once_again_and_again_and_at_the_end(scripted: ScriptedExchange) -> None:
    """What a worker counted while it finished is seen by one more scrape."""
    publisher = Publisher(scripted, WORKER, period_seconds=3600)
    publisher.start()
    scripted.await_publishes(1)
    publisher.stop()
    scripted.await_publishes(1)
    assert scripted.published == 2


def test_a_process_that_starts_cuts_the_index(exchange: Exchange, client: redis.Redis) -> None:
    """Once, before its own name is added: idle processes cost Redis no more."""
    publish(exchange, *(f"worker@host:{pid}" for pid in range(140)))
    publisher = Publisher(exchange, WEB, period_seconds=3600)
    publisher.start()
    publisher.stop()
    assert client.zcard(INDEX) == 128 + 1
    assert client.zrange(INDEX, -1, -1) == [WEB.encode()]


def test_an_outage_is_told_once(publisher: Publisher, scripted: ScriptedExchange, warnings: list[str]) -> None:
    """And the next one again."""
    scripted.is_down = True
    publisher.start()
    for is_down in (True, False, True):
        scripted.await_outcome(is_down=is_down)
    publisher.stop()
    assert warnings == ["samples_not_published"] * 2


def test_stopping_what_was_never_started_is_harmless(scripted: ScriptedExchange) -> None:
    """As when a worker ends before it was ready."""
    Publisher(scripted, WORKER).stop()
    assert scripted.published == 0
