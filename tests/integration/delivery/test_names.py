"""The transport and names: resolved apart from deliveries, so that names that hang delay no other."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from relay.delivery.retry import AttemptResult, Failure
from relay.delivery.transport import Finished, Transport
from tests.raw_server import LOOPBACK, OK, Serve, close, hang, post, request_to, saying

DELIVERED = AttemptResult(status=200)


class Names:
    """Name servers in memory: some names hang until they are let go, some have no address."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.addresses: tuple[str, ...] = ("127.0.0.1",)
        self.let_go = threading.Event()

    def __call__(self, host: str) -> tuple[str, ...]:
        self.asked.append(host)
        if host.startswith("hanging"):
            assert self.let_go.wait(30)
        return () if host.startswith("unknown") else self.addresses


@pytest.fixture
def names() -> Iterator[Names]:
    """Name servers that answer in the end."""
    it = Names()
    yield it
    it.let_go.set()


@pytest.fixture
def naming(names: Names) -> Iterator[Transport]:
    """A transport that asks these name servers."""
    it = Transport(allow=LOOPBACK, user_agent="Switchhook/test", lookup=names)
    yield it
    close(it)


def test_names_that_hang_delay_no_other(serve: Serve, naming: Transport) -> None:
    """A thousand endpoints whose name servers never answer, and one that is well."""
    server = serve(saying(OK))
    for number in range(1000):
        naming.start(request_to(f"http://hanging{number}.example/", deadline_ms=20_000), number)
    naming.start(request_to(server.url), "address")
    assert [finished.ticket for finished in step_until(naming, 1)] == ["address"]
    assert naming.in_flight == 1000


def test_a_name_that_answered_is_used_again_beside_names_that_hang(
    serve: Serve, naming: Transport, names: Names
) -> None:
    """It was resolved once; whatever happens to name servers then, its connection is there."""
    server = serve(saying(OK))
    url = f"http://good.example:{server.port}/"
    assert post(naming, url).result == DELIVERED
    for number in range(1000):
        naming.start(request_to(f"http://hanging{number}.example/", deadline_ms=20_000), number)
    naming.start(request_to(url), "good")
    assert [finished.ticket for finished in step_until(naming, 1)] == ["good"]
    assert names.asked.count("good.example") == 1


def test_a_name_that_hangs_ends_by_the_deadline(naming: Transport) -> None:
    """Tenants see the same as for an unknown name; nobody is told what a name server did."""
    began = time.monotonic()
    naming.start(request_to("http://hanging.example/", deadline_ms=300), "late")
    naming.start(request_to("http://hanging.example/", deadline_ms=20_000), "later")
    [finished] = step_until(naming, 1)
    assert finished.ticket == "late"
    assert finished.result == AttemptResult(failure=Failure.DNS_FAILED)
    assert 0.3 <= time.monotonic() - began < 0.8
    assert 300 <= finished.duration_ms < 800
    assert naming.in_flight == 1
    assert naming.abort() == ["later"]


def test_the_time_for_a_name_is_part_of_the_deadline(serve: Serve, naming: Transport, names: Names) -> None:
    """A name that took most of it leaves the rest."""
    server = serve(hang)
    began = time.monotonic()
    naming.start(request_to(f"http://hanging.example:{server.port}/", deadline_ms=2_000), "slow")
    threading.Timer(1.0, names.let_go.set).start()
    [finished] = step_until(naming, 1)
    assert finished.result == AttemptResult(failure=Failure.TIMED_OUT)
    assert 2.0 <= time.monotonic() - began < 3.0  # a deadline that began with the connection would end then


def test_an_unknown_name_is_a_failure_and_asked_for_again(naming: Transport, names: Names) -> None:
    """It costs this attempt, and may be known at the next."""
    for _ in range(2):
        assert post(naming, "http://unknown.example/").result == AttemptResult(failure=Failure.DNS_FAILED)
    assert names.asked == ["unknown.example"] * 2


def test_a_name_whose_address_fails_is_asked_for_anew(serve: Serve, naming: Transport, names: Names) -> None:
    """The customer moved: the next attempt goes to the new address."""
    server = serve(saying(OK))
    names.addresses = ("127.0.0.9",)  # nobody listens there
    url = f"http://moving.example:{server.port}/"
    assert post(naming, url).result == AttemptResult(failure=Failure.CONNECT_FAILED)
    names.addresses = ("127.0.0.1",)
    assert post(naming, url).result == DELIVERED


def test_a_name_that_turns_private_is_refused_at_the_next_attempt(serve: Serve, names: Names) -> None:
    """Each connection is judged on its own address, whatever the name was before."""
    server = serve(saying(OK))
    transport = Transport(allow=(ipaddress.ip_network("127.0.0.1/32"),), user_agent="Switchhook/test", lookup=names)
    url = f"http://rebinding.example:{server.port}/"
    names.addresses = ("127.0.0.2",)
    assert post(transport, url).result == AttemptResult(failure=Failure.TARGET_REFUSED)
    names.addresses = ("127.0.0.1",)
    assert post(transport, url).result == DELIVERED
    close(transport)


def test_what_libcurl_does_not_take_ends_alone(serve: Serve, naming: Transport, names: Names) -> None:
    """It is a failure of its own, also when it had to wait for its name beside others."""
    server = serve(saying(OK))
    bad: Any = 7  # no header line
    for host in ("hanging.example", "127.0.0.1"):
        naming.start(replace(request_to(f"http://{host}:{server.port}/"), headers=[bad]), "bad")
        naming.start(request_to(f"http://{host}:{server.port}/"), "good")
    names.let_go.set()
    ended = step_until(naming, 4)
    assert sorted((finished.ticket, finished.result.failure) for finished in ended) == [
        ("bad", Failure.UNSENDABLE),
        ("bad", Failure.UNSENDABLE),
        ("good", None),
        ("good", None),
    ]
    assert naming.in_flight == 0


def step_until(transport: Transport, count: int) -> list[Finished]:
    """Step until so many have ended, while others hang."""
    finished: list[Finished] = []
    until = time.monotonic() + 18  # less than those that hang may take
    while len(finished) < count and time.monotonic() < until:
        finished += transport.step(0.1)
    return finished
