"""What is kept for `Idempotency-Key`: bounded for each answer and each account, and never forgotten while it runs."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from relay.api.core import allowance
from relay.api.core.allowance import Allowance, wait_seconds
from relay.api.core.idempotency import MAX_KEPT_BYTES, Idempotency, Kept
from relay.api.core.renewal import Renewal
from relay.errors import Conflict, KeyReused, RateLimited
from relay.sealing import KeyRing
from relay.settings import Settings
from tests.waiting import eventually

HOUR = 3600
# How soon a mark would end by itself, in tests that see it renewed; much less than what a renewed one has.
SOON_SECONDS = 20


@pytest.fixture
def idempotency(api_redis: redis.Redis, api_settings: Settings) -> Idempotency:
    """What remembers answers."""
    return Idempotency(api_redis, KeyRing(api_settings.keys))


@pytest.fixture
def caller() -> str:
    """An account that has nothing kept."""
    return f"acc_{uuid.uuid4().hex}"


def _answer(size: int) -> Kept:
    return Kept(b"f", 201, {"A": "b"}, b"x" * size)


def _kept_bytes(client: redis.Redis) -> int:
    names = client.scan_iter(match="sw:idempotency:*")
    return sum(int(client.strlen(name)) for name in names)


def test_an_answer_is_kept_up_to_its_limit(idempotency: Idempotency, caller: str) -> None:
    """64 KiB, and its repeat is the same."""
    whole = _answer(MAX_KEPT_BYTES)
    assert idempotency.once(caller, "k", b"f", lambda: whole) == (whole, False)
    assert idempotency.once(caller, "k", b"f", lambda: _answer(1)) == (whole, True)


def test_a_larger_answer_is_given_once_and_nothing_happens_twice(
    idempotency: Idempotency, caller: str, api_redis: redis.Redis
) -> None:
    """Its repeat is told that it was done; of the answer nothing stays in Redis."""
    before = _kept_bytes(api_redis)
    large = _answer(MAX_KEPT_BYTES + 1)
    assert idempotency.once(caller, "k", b"f", lambda: large) == (large, False)
    assert _kept_bytes(api_redis) - before < 500

    def never() -> Kept:
        raise AssertionError("it happened twice")

    with pytest.raises(Conflict) as caught:
        idempotency.once(caller, "k", b"f", never)
    assert caught.value.code == "answer_too_large_to_repeat"
    with pytest.raises(KeyReused):
        idempotency.once(caller, "k", b"another", never)


def test_an_account_may_have_so_much_kept(
    idempotency: Idempotency, caller: str, api_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond that a new key is 429 and nothing happens; repeats, and other accounts, go on."""
    monkeypatch.setattr(idempotency, "_allowance", Allowance(api_redis, most_bytes=100_000))
    done = []

    def once(key: str, who: str = caller) -> bool:
        def answer() -> Kept:
            done.append(key)
            return _answer(60_000)

        return idempotency.once(who, key, b"f", answer)[1]

    assert [once("a"), once("b")] == [False, False]
    for _ in range(2):
        with pytest.raises(RateLimited) as caught:
            once("c")
    assert caught.value.code == "idempotency_keys_spent"
    assert 23 * HOUR < (caught.value.retry_after_seconds or 0) <= 25 * HOUR
    assert once("a")
    assert not once("c", "acc_another")
    assert done == ["a", "b", "c"]


def test_a_small_answer_counts_as_its_key_does(api_redis: redis.Redis, caller: str) -> None:
    """Empty answers would fill Redis with names."""
    kept = Allowance(api_redis, most_bytes=3 * allowance.KEY_BYTES)
    for _ in range(3):
        kept.check(caller)
        kept.spend(caller, 0)
    with pytest.raises(RateLimited):
        kept.check(caller)
    names = list(api_redis.scan_iter(match=f"sw:idempotency-spent:{caller}:*"))
    assert [24 * HOUR < int(api_redis.ttl(name)) <= 25 * HOUR for name in names] == [True] * len(names)


@pytest.mark.parametrize(
    ("spent", "passed", "wait"),
    [
        ([0, 0, 0], 10.0, 0),
        ([9, 0, 0], 10.0, 0),
        ([10, 0, 0], 600.0, 3 * HOUR - 600),  # only when this hour has lapsed
        ([0, 0, 10], 600.0, HOUR - 600),  # the oldest lapses when this hour ends
        ([5, 0, 5], 600.0, HOUR - 600),
        ([5, 5, 5], 600.0, 2 * HOUR - 600),
        ([0, 20, 20], 0.0, 2 * HOUR),
    ],
)
def test_waits_until_enough_has_lapsed(spent: list[int], passed: float, wait: int) -> None:
    """Of ten bytes in three hours, the newest first."""
    assert wait_seconds(spent, passed, most=10) == wait


# While the first request runs


@pytest.fixture
def quick(api_redis: redis.Redis) -> Renewal:
    """Marks that are renewed all the time."""
    return Renewal(api_redis, every_seconds=0.01)


@pytest.fixture
def name(api_redis: redis.Redis) -> Iterator[str]:
    """A mark's name."""
    made = f"sw:idempotency:{uuid.uuid4().hex}"
    yield made
    api_redis.delete(made)


def test_a_mark_lasts_as_long_as_what_it_stands_for(quick: Renewal, api_redis: redis.Redis, name: str) -> None:
    """However slow the provider is; it would end by itself soon after."""
    assert quick.mark(name, b"mine")
    assert not quick.mark(name, b"theirs")
    with quick.renewed(name, b"mine"):
        for _ in range(2):
            api_redis.expire(name, SOON_SECONDS)
            eventually(lambda: _ttl(api_redis, name) > 50, within_seconds=SOON_SECONDS - 1, what="a renewed mark")
    eventually(lambda: not quick._has_thread, within_seconds=10, what="a thread that has nothing to do")
    assert _ttl(api_redis, name) <= 60
    with quick.renewed(name, b"mine"):
        api_redis.expire(name, SOON_SECONDS)
        eventually(lambda: _ttl(api_redis, name) > 50, within_seconds=SOON_SECONDS - 1, what="a renewed mark again")


def test_what_took_the_marks_place_is_left_alone(quick: Renewal, api_redis: redis.Redis, name: str) -> None:
    """An answer is kept for a day, not for a minute."""
    other = f"{name}:2"
    quick.mark(name, b"mine")
    quick.mark(other, b"mine")
    with quick.renewed(name, b"mine"), quick.renewed(other, b"mine"):
        api_redis.set(name, b"an answer", ex=1000)
        api_redis.expire(other, SOON_SECONDS)
        eventually(lambda: _ttl(api_redis, other) > 50, within_seconds=SOON_SECONDS - 1, what="a round")
        assert _ttl(api_redis, name) > 900
    api_redis.delete(other)


def test_a_request_keeps_its_key_while_it_runs(
    idempotency: Idempotency, quick: Renewal, caller: str, api_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second one is refused still when the mark should have ended long ago."""
    monkeypatch.setattr(idempotency, "_renewal", quick)
    before = set(api_redis.scan_iter(match="sw:idempotency:*"))

    def slow() -> Kept:
        (mark,) = set(api_redis.scan_iter(match="sw:idempotency:*")) - before
        api_redis.expire(mark, SOON_SECONDS)
        eventually(lambda: _ttl(api_redis, mark) > 50, within_seconds=SOON_SECONDS - 1, what="a renewed mark")
        with pytest.raises(Conflict) as caught:
            idempotency.once(caller, "k", b"f", lambda: _answer(1))
        assert caught.value.code == "idempotency_key_in_use"
        return _answer(2)

    assert idempotency.once(caller, "k", b"f", slow) == (_answer(2), False)
    assert idempotency.once(caller, "k", b"f", slow) == (_answer(2), True)


def test_without_a_thread_to_be_had_the_request_runs_all_the_same(
    quick: Renewal, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its mark ends by itself; the next one tries for a thread again."""

    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    with quick.renewed(name, b"mine"):
        assert not quick._has_thread


def _ttl(client: redis.Redis, name: Any) -> int:
    return int(client.ttl(name))
