"""The resolver: who waits for whom, and how long an answer is used."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from relay.delivery import resolver
from relay.delivery.resolver import Addresses, Resolver
from tests.waiting import eventually

ADDRESS = ("192.0.2.1",)


class NameServers:
    """Answers every name at once, except those that hang until they are let go."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.unknown: set[str] = set()
        self._let_go = threading.Event()

    def __call__(self, host: str) -> Addresses:
        self.asked.append(host)
        if host.startswith("hanging"):
            assert self._let_go.wait(30)
        return () if host in self.unknown else ADDRESS

    def let_go(self) -> None:
        """Answer what hangs."""
        self._let_go.set()


@contextmanager
def resolving() -> Iterator[tuple[Resolver, NameServers]]:
    """A resolver whose name servers are in memory."""
    servers = NameServers()
    it = Resolver(servers)
    try:
        yield it, servers
    finally:
        servers.let_go()
        it.close()


def answers(it: Resolver, *hosts: str) -> dict[str, Addresses]:
    """Wait for the answers of these names."""
    found: dict[str, Addresses] = {}

    def all_answered() -> bool:
        found.update(it.answered())
        return found.keys() >= set(hosts)

    eventually(all_answered, within_seconds=20, what=f"answers for {hosts}")
    return found


def test_an_answer_is_known_afterwards() -> None:
    """A name has to be asked for once."""
    with resolving() as (it, servers):
        assert it.known("one.example") is None
        it.ask("one.example")
        assert answers(it, "one.example") == {"one.example": ADDRESS}
        assert it.known("one.example") == ADDRESS
        assert servers.asked == ["one.example"]


def test_a_name_is_asked_for_once_however_many_wait() -> None:
    """A crowd behind one hanging name takes one thread."""
    with resolving() as (it, servers):
        for _ in range(100):
            it.ask("hanging.example")
        it.ask("other.example")
        answers(it, "other.example")
        servers.let_go()
        answers(it, "hanging.example")
        assert servers.asked.count("hanging.example") == 1


def test_an_unknown_name_is_asked_for_again() -> None:
    """It may be registered in the next minute."""
    with resolving() as (it, servers):
        servers.unknown.add("new.example")
        it.ask("new.example")
        assert answers(it, "new.example") == {"new.example": ()}
        assert it.known("new.example") is None
        servers.unknown.clear()
        it.ask("new.example")
        assert answers(it, "new.example") == {"new.example": ADDRESS}


def test_names_that_hang_leave_threads_to_names_that_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many names hang, one that answered before is asked for at once."""
    monkeypatch.setattr(resolver, "_FRESH_SECONDS", 0.0)
    with resolving() as (it, servers):
        it.ask("good.example")
        answers(it, "good.example")
        for number in range(1000):
            it.ask(f"hanging{number}.example")
        assert it.known("good.example") == ADDRESS  # stale: it is asked for anew
        answers(it, "good.example")
        assert servers.asked.count("good.example") == 2


def test_names_that_were_slow_leave_threads_to_new_ones() -> None:
    """Who did not answer the last time waits behind who was never asked."""
    with resolving() as (it, servers):
        servers.unknown |= {f"dead{number}.example" for number in range(100)}
        for host in servers.unknown:
            it.ask(host)
        answers(it, *servers.unknown)
        slow = [f"dead{number}.example" for number in range(100)]
        hanging = threading.Event()
        servers_answer = servers.__call__

        def hang_if_slow(host: str) -> Addresses:
            if host in slow:
                assert hanging.wait(30)
            return servers_answer(host)

        it._lookup = hang_if_slow
        for host in slow:
            it.ask(host)
        it.ask("new.example")
        answers(it, "new.example")
        hanging.set()


def test_a_thread_that_was_woken_is_not_counted_on() -> None:
    """One is idle when several names are asked for at once: the others get threads of their own."""
    with resolving() as (it, _):
        it.ask("first.example")
        answers(it, "first.example")
        for host in ("hanging.example", "good.example", "better.example"):
            it.ask(host)
        answers(it, "good.example", "better.example")


def test_one_slow_answer_is_forgiven(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that was quick before stands with the new ones, not behind those that always hang."""
    monkeypatch.setattr(resolver, "_FRESH_SECONDS", 0.0)
    monkeypatch.setitem(resolver._SHARES, resolver._Standing.SLOW, 0)
    with resolving() as (it, servers):
        it.ask("good.example")
        answers(it, "good.example")
        servers.unknown.add("good.example")
        it.ask("good.example")
        assert answers(it, "good.example") == {"good.example": ()}
        servers.unknown.clear()
        it.ask("good.example")
        assert answers(it, "good.example") == {"good.example": ADDRESS}


def test_a_failed_answer_leaves_the_one_before_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that fails for a moment stops no delivery to a name that it has answered before."""
    with resolving() as (it, servers):
        it.ask("good.example")
        answers(it, "good.example")
        monkeypatch.setattr(resolver, "_FRESH_SECONDS", 0.0)
        servers.unknown.add("good.example")
        assert it.known("good.example") == ADDRESS
        assert answers(it, "good.example") == {"good.example": ()}
        assert it.known("good.example") == ADDRESS


def test_goes_on_where_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container has as many as it may: the name is asked for as soon as one can be had."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with resolving() as (it, _):
        with monkeypatch.context() as scarce:
            scarce.setattr(threading.Thread, "start", refuse)
            it.ask("good.example")
        it.ask("good.example")
        assert answers(it, "good.example") == {"good.example": ADDRESS}


def test_an_error_of_the_lookup_is_an_unknown_name() -> None:
    """And its thread goes on: without threads no name would ever be asked for again."""
    it = Resolver(fail)
    for number in range(100):
        it.ask(f"{number}.example")
    assert set(answers(it, *(f"{number}.example" for number in range(100))).values()) == {()}
    it.close()


def fail(host: str) -> Addresses:
    """Raise what nobody expects of a resolver."""
    raise RuntimeError(host)


def test_an_old_answer_is_used_while_it_is_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that stands still does not stop what is known; for ever it is not."""
    with resolving() as (it, servers):
        it.ask("moving.example")
        answers(it, "moving.example")
        monkeypatch.setattr(resolver, "_FRESH_SECONDS", 0.0)
        assert it.known("moving.example") == ADDRESS
        answers(it, "moving.example")
        assert len(servers.asked) == 2
        monkeypatch.setattr(resolver, "_STALE_SECONDS", 0.0)
        assert it.known("moving.example") is None


def test_a_forgotten_name_is_asked_for_anew() -> None:
    """A connection to its address could not be made."""
    with resolving() as (it, _):
        it.ask("moved.example")
        answers(it, "moved.example")
        it.forget("moved.example")
        assert it.known("moved.example") is None


def test_closing_waits_for_nobody() -> None:
    """A worker that stops does not wait for a name server."""
    with resolving() as (it, _):
        it.ask("hanging.example")
        it.close()
        it.ask("late.example")
        assert it.answered() == []


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", ("127.0.0.1",)),
        ("::1", ("::1",)),
        ("fe80::1%lo", ("fe80::1",)),  # the scope is cut off: libcurl could not read it
        ("no such name", ()),
        ("a" * 64 + ".example", ()),  # getaddrinfo raises UnicodeError
    ],
)
def test_asks_the_system(host: str, expected: Addresses) -> None:
    """What the system's resolver says, without its exceptions."""
    assert resolver.system_lookup(host) == expected
