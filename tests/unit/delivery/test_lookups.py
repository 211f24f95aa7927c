"""Names of customers' URLs: whoever asks waits a bounded time, and name servers that are silent hold a bounded part."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from relay.delivery.guard import resolve_checked
from relay.delivery.lookups import Lookups
from relay.errors import Unavailable
from tests.waiting import eventually

ADDRESSES = ("8.8.8.8",)


class NameServers:
    """Answer names at once, and names of the zone `silent` when they are told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.speak = threading.Event()

    def __call__(self, host: str) -> tuple[str, ...]:
        self.asked.append(host)
        if host.endswith(".silent"):
            self.speak.wait(10)
        if host == "broken":
            raise RuntimeError
        return ADDRESSES


@pytest.fixture
def servers() -> Iterator[NameServers]:
    """Name servers that speak at the end."""
    made = NameServers()
    yield made
    made.speak.set()


def test_a_name_is_resolved(servers: NameServers) -> None:
    """As the system says it."""
    assert Lookups(servers).of("acc_a")("a.example") == ADDRESSES


def test_nobody_waits_longer_than_the_deadline(servers: NameServers) -> None:
    """503 that says what to look at; the name itself is not in it."""
    lookups = Lookups(servers, seconds=0.05)
    began = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        resolve_checked("https://a.silent/hook", field="relayUrl", lookup=lookups.of("acc_a"))
    assert time.monotonic() - began < 5
    assert (caught.value.status, caught.value.code, caught.value.field) == (503, "name_unanswered", "relayUrl")
    assert "silent" not in caught.value.detail


def test_silent_names_of_one_account_leave_room_for_others(servers: NameServers) -> None:
    """Its share is taken until the names are answered, however long ago those who asked went away."""
    lookups = Lookups(servers, seconds=0.01, most=3, each=2)
    for number in range(2):
        with pytest.raises(Unavailable):
            lookups.of("acc_a")(f"{number}.silent")
    with pytest.raises(Unavailable) as caught:
        lookups.of("acc_a")("a.example")
    assert (caught.value.code, caught.value.retry_after_seconds) == ("names_busy", 5)
    assert "a.example" not in servers.asked
    with pytest.raises(Unavailable):
        lookups.of("acc_b")("b.silent")
    with pytest.raises(Unavailable):
        lookups.of("acc_c")("c.example")

    servers.speak.set()
    eventually(lambda: lookups.waiting == 0, within_seconds=10, what="room again")


def test_a_lookup_that_breaks_counts_as_no_address_and_leaves_its_place(servers: NameServers) -> None:
    """Nobody waits for it, and the next one has room."""
    lookups = Lookups(servers, most=1, each=1)
    assert lookups.of("acc_a")("broken") == ()
    eventually(lambda: lookups.waiting == 0, within_seconds=10, what="room again")
    assert lookups.of("acc_a")("a.example") == ADDRESSES


def test_without_a_thread_to_be_had_nobody_waits(servers: NameServers, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that may have no more threads: 503, and the place is free again."""
    lookups = Lookups(servers, most=1, each=1)

    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        with pytest.raises(Unavailable) as caught:
            lookups.of("acc_a")("a.example")
    assert caught.value.code == "names_busy"
    assert lookups.of("acc_a")("a.example") == ADDRESSES
