"""Receivers that answer with more than anybody would hold: the worker's memory does not follow."""

from __future__ import annotations

import itertools
import socket
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from tests.customers import Customer
from tests.payloads import retell_event, retell_headers
from tests.raw_server import Server
from tests.stack import Stack
from tests.waiting import eventually

MIB: Final = 1024 * 1024
# The first events make the worker make whatever it makes once; what comes after them must add nothing. Fewer than ten
# for each endpoint in all, so that no breaker opens before the last.
WARM_UP, EVENTS, ENDPOINTS = 2, 7, 4
MOST_GROWTH_BYTES: Final = 8 * MIB
OK: Final = b"HTTP/1.1 200 OK\r\n"
PIECE: Final = bytes(65_536)


@cache
def bomb() -> bytes:
    """200 MB of nothing, compressed to less than one."""
    packer, piece = zlib.compressobj(level=1, wbits=31), bytes(MIB)
    return b"".join(packer.compress(piece) for _ in range(200)) + packer.flush()


def gigabyte() -> Iterator[bytes]:
    return itertools.repeat(PIECE, 1024 * MIB // len(PIECE))


def plain() -> Iterator[bytes]:
    yield OK + b"Content-Length: 1073741824\r\n\r\n"
    yield from gigabyte()


def in_chunks() -> Iterator[bytes]:
    yield OK + b"Transfer-Encoding: chunked\r\n\r\n"
    for piece in gigabyte():
        yield b"%x\r\n%b\r\n" % (len(piece), piece)


def compressed() -> Iterator[bytes]:
    yield OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb())
    yield bomb()


def long_header() -> Iterator[bytes]:
    yield OK + b"X-Long: " + b"x" * MIB + b"\r\nContent-Length: 0\r\n\r\n"


def many_headers() -> Iterator[bytes]:
    yield OK + b"X-Many: 1\r\n" * 10_000 + b"Content-Length: 0\r\n\r\n"


def long_trailer() -> Iterator[bytes]:
    yield OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-Long: " + b"x" * MIB + b"\r\n\r\n"


def interim_answers() -> Iterator[bytes]:
    yield b"HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n" * 20_000
    yield OK + b"Content-Length: 0\r\n\r\n"


# What each receiver says -> whether that is a delivery: a 2xx whose headers ended, however long its body.
ANSWERS: Final[dict[Callable[[], Iterable[bytes]], bool]] = {
    plain: True,
    in_chunks: True,
    compressed: True,
    long_header: False,
    many_headers: False,
    long_trailer: False,
    interim_answers: False,
}


def saying(answer: Callable[[], Iterable[bytes]]) -> Callable[[socket.socket], None]:
    """Read a POST, say all of the answer or as much as is listened to, and hang up."""

    def serve(connection: socket.socket) -> None:
        head, _, body = connection.recv(65_536).partition(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:"))
        while len(body) < length:
            body += connection.recv(65_536)
        for piece in answer():
            connection.sendall(piece)

    return serve


@pytest.fixture
def hostile() -> Iterator[dict[Server, bool]]:
    """A server for each of these answers."""
    with ExitStack() as stack:
        servers = {}
        for answer, is_delivery in ANSWERS.items():
            server = Server(saying(answer), context=None, host="127.0.0.1", port=0)
            stack.callback(server.close)
            servers[server] = is_delivery
        yield servers


def peak_bytes(pid: int) -> int:
    """The most memory that a process ever had (VmHWM)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def test_hostile_answers_do_not_grow_the_worker(stack: Stack, customer: Customer, hostile: dict[Server, bool]) -> None:
    """F14: a gigabyte, a bomb of 200 MB, a header of 1 MB, 10,000 headers: at most 8 MB more, at any moment."""
    source = customer.source("retell")
    expected = {
        customer.endpoint(server.url, source_id=source.id).id: is_delivery
        for server, is_delivery in hostile.items()
        for _ in range(ENDPOINTS)
    }
    worker = stack.processes[1]
    bomb()

    def send(numbers: range) -> None:
        for number in numbers:
            body = retell_event("call_started", f"call_{number}")
            assert stack.post(source.url, body, retell_headers(body, source.secret)).status_code == 200

        def attempted() -> bool:
            found = stack.deliveries(customer)
            return len(found) == numbers.stop * len(expected) and all(one.history for one in found)

        eventually(attempted, within_seconds=30, what="an attempt at each")

    send(range(WARM_UP))
    before = peak_bytes(worker.pid)
    send(range(WARM_UP, EVENTS))
    grown = peak_bytes(worker.pid) - before

    for one in stack.deliveries(customer):
        first = one.history[0]
        assert (first.code is None) is expected[one.endpoint_id]
        assert first.code in (None, "truncated")
    assert grown <= MOST_GROWTH_BYTES
