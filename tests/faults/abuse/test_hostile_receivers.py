"""Receivers that answer with more than anybody would hold: the worker's memory does not follow."""

from __future__ import annotations

import itertools
import socket
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from relay.store.deliveries import Delivery
from tests.customers import Customer
from tests.payloads import retell_event, retell_headers
from tests.raw_server import Server
from tests.stack import Stack
from tests.waiting import eventually

MIB: Final = 1024 * 1024
# So many events are answered as usual first: the worker makes whatever ordinary traffic makes it make once. Then as
# many meet the hostile answers, the first of which must add as little as the last. Fewer than ten for each endpoint, so
# that no breaker opens before the last.
EVENTS, ENDPOINTS = 7, 4
MOST_GROWTH_BYTES: Final = 8 * MIB
OK: Final = b"HTTP/1.1 200 OK\r\n"
ORDINARY: Final = OK + b"Connection: close\r\nContent-Length: 11\r\n\r\n" + b'{"ok":true}'
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


class Receivers:
    """A server for each of these answers, well-behaved until told otherwise."""

    def __init__(self) -> None:
        self._are_hostile = threading.Event()
        self.expected = {
            Server(self._saying(answer), context=None, host="127.0.0.1", port=0): is_delivery
            for answer, is_delivery in ANSWERS.items()
        }

    def turn_hostile(self) -> None:
        """From now on each says its own answer."""
        self._are_hostile.set()

    def close(self) -> None:
        for server in self.expected:
            server.close()

    def _saying(self, answer: Callable[[], Iterable[bytes]]) -> Callable[[socket.socket], None]:
        def serve(connection: socket.socket) -> None:
            head, _, body = connection.recv(65_536).partition(b"\r\n\r\n")
            length = next(int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:"))
            while len(body) < length:
                body += connection.recv(65_536)
            # All of it, or as much as is listened to.
            for piece in answer() if self._are_hostile.is_set() else (ORDINARY,):
                connection.sendall(piece)

        return serve


@pytest.fixture
def receivers() -> Iterator[Receivers]:
    """Customers' servers."""
    it = Receivers()
    yield it
    it.close()


def forget_peak(pid: int) -> None:
    """Have the peak be what the process has now (proc(5), clear_refs): earlier tests may have had it higher."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_bytes(pid: int) -> int:
    """The most memory that a process had since (VmHWM)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def test_hostile_answers_do_not_grow_the_worker(stack: Stack, customer: Customer, receivers: Receivers) -> None:
    """F14: a gigabyte, a bomb of 200 MB, a header of 1 MB, 10,000 headers: at most 8 MB more, at any moment."""
    source = customer.source("retell")
    expected = {
        customer.endpoint(server.url, source_id=source.id).id: is_delivery
        for server, is_delivery in receivers.expected.items()
        for _ in range(ENDPOINTS)
    }
    worker = stack.processes[1]
    bomb()

    def attempts_at(numbers: range) -> list[Delivery]:
        """Send these; what became of them once each was tried."""
        sent = set()
        for number in numbers:
            body = retell_event("call_started", f"call_{number}")
            answer = stack.post(source.url, body, retell_headers(body, source.secret))
            assert answer.status_code == 200
            sent.add(answer.json()["id"])

        def attempted() -> list[Delivery]:
            found = [one for one in stack.deliveries(customer) if one.event_id in sent and one.history]
            return found if len(found) == len(sent) * len(expected) else []

        return eventually(attempted, within_seconds=30, what="an attempt at each")

    assert {one.history[0].code for one in attempts_at(range(EVENTS))} == {None}
    forget_peak(worker.pid)
    before = peak_bytes(worker.pid)
    receivers.turn_hostile()
    met = attempts_at(range(EVENTS, 2 * EVENTS))
    grown = peak_bytes(worker.pid) - before

    for one in met:
        assert one.history[0].code == (None if expected[one.endpoint_id] else "truncated")
    assert grown <= MOST_GROWTH_BYTES
