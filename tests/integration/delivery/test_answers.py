"""Answers of every status, and such as break off: what the courier makes of them over real sockets."""

from __future__ import annotations

import itertools
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Final

import pytest
import redis

from relay.delivery.retry import AttemptResult, Failure
from relay.delivery.transport import Transport
from tests.couriers import BODY as RELAYED
from tests.couriers import Relay
from tests.raw_server import OK, Answer, Serve, Server, post, read_request, saying

# A Retry-After header -> the hint that is read from it, in seconds.
HINTS: Final = {b"": None, b"120": 120, b"-1": None, b"1e9": None, b"1000000000": 86_400, b"soon": None}
LOCATIONS: Final = (
    "{other}",
    "{other_without_scheme}",
    "/elsewhere",
    "elsewhere",
    "?again",
    "http://127.0.0.1:{own_port}/elsewhere",
    "https://127.0.0.1:{other_port}/",
    "http://169.254.169.254/latest/meta-data/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:{other_port}/_POST",
    "",
)


def answering(answers: Iterator[bytes]) -> Answer:
    """Answer each request of a connection with the next of these."""

    def answer(connection: socket.socket) -> None:
        while read_request(connection):
            connection.sendall(next(answers))

    return answer


def test_every_status_is_read_as_it_was_sent(serve: Serve, transport: Transport) -> None:
    """F20: 200 to 599 and 999, with Retry-After in every form; only 2xx are deliveries."""
    cases = list(zip((*range(200, 600), 999), itertools.cycle(HINTS), strict=False))
    head = "HTTP/1.1 {} Whatever\r\nContent-Length: 0\r\nRetry-After: "
    server = serve(answering(head.format(status).encode() + hint + b"\r\n\r\n" for status, hint in cases))
    for status, hint in cases:
        result = post(transport, server.url).result
        assert result == AttemptResult(status=status, retry_after_seconds=HINTS[hint])
        assert result.is_delivered == (200 <= status <= 299)
    assert server.connections == 1


@pytest.mark.parametrize("status", [100, 101, 102, 103, 150, 199])
def test_an_interim_answer_alone_is_no_answer(serve: Serve, transport: Transport, status: int) -> None:
    """F20: 1xx announces another answer; when none comes nothing was delivered."""
    result = post(transport, serve(saying(f"HTTP/1.1 {status} Wait\r\n\r\n".encode())).url).result
    assert not result.is_delivered
    assert result in (AttemptResult(failure=Failure.TRUNCATED), AttemptResult(status=101))


@pytest.mark.parametrize("location", LOCATIONS)
def test_no_redirect_makes_a_second_connection(serve: Serve, transport: Transport, location: str) -> None:
    """A4: 300 to 308, wherever they point; one connection, one request, and the status is the outcome."""
    other = serve(saying(OK))
    requests: list[bytes] = []
    statuses = range(300, 309)
    servers: list[Server] = []

    def answer(connection: socket.socket) -> None:
        requests.append(read_request(connection))
        to = location.format(
            other=other.url,
            other_without_scheme=other.url.removeprefix("http:"),
            other_port=other.port,
            own_port=servers[0].port,
        )
        head = f"HTTP/1.1 {statuses[len(requests) - 1]} Elsewhere\r\nLocation: {to}\r\nContent-Length: 0\r\n"
        connection.sendall(head.encode() + b"Connection: close\r\n\r\n")

    servers.append(serve(answer))
    results = [post(transport, servers[0].url).result for _ in statuses]
    assert results == [AttemptResult(status=status) for status in statuses]
    assert (servers[0].connections, len(requests), other.connections) == (len(statuses), len(statuses), 0)
    assert {request.split(b"\r\n")[0] for request in requests} == {b"POST /hook HTTP/1.1"}


@pytest.fixture
def relay(redis_client: redis.Redis) -> Iterator[Relay]:
    """A courier that runs."""
    relay = Relay(redis_client)
    relay.start()
    yield relay
    relay.close()


def cutting(sent: bytes, *, with_reset: bool = False) -> Callable[[socket.socket], None]:
    """Send this much, then close or reset the connection."""

    def cut(connection: socket.socket) -> None:
        connection.sendall(sent)
        if with_reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return cut


CUTS: Final = {
    "a status line and FIN": cutting(b"HTTP/1.1 200 OK\r\n"),
    "half a header": cutting(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "a reset after the status line": cutting(b"HTTP/1.1 200 OK\r\n", with_reset=True),
    "a short body": cutting(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"),
    "a cut chunk": cutting(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"),
}


@pytest.mark.parametrize("cut", CUTS)
def test_an_answer_that_breaks_off_is_retried(serve: Serve, relay: Relay, cut: str) -> None:
    """F12: it counts as failed although it began with 200, and the retry is the same event with the same bytes."""
    requests: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        requests.append(_whole(connection))
        if len(requests) == 1:
            CUTS[cut](connection)
        else:
            connection.sendall(OK)

    endpoint_id = relay.endpoint_at(serve(answer).url)
    event_id = relay.accept(endpoint_id)
    first = relay.await_outcome(event_id)
    assert (first.status, first.code, first.attempted) == ("pending", "truncated", True)
    assert first.retry_in_ms is not None
    assert 4_000 <= first.retry_in_ms <= 6_000
    relay.make_due(endpoint_id, event_id)
    assert relay.await_outcome(event_id, number=2).status == "delivered"
    assert [request.endswith(RELAYED) for request in requests] == [True, True]
    assert [f"webhook-id: {event_id}".encode() in request for request in requests] == [True, True]


def _whole(connection: socket.socket) -> bytes:
    received = b""
    while not received.endswith(RELAYED):
        received += connection.recv(65_536)
    return received
