"""A12: bodies that are too large, endless, shorter or longer than they say, or compressed: 4xx, in little memory."""

from __future__ import annotations

import gzip
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain, repeat
from pathlib import Path

import psutil
import pytest

from tests.customers import Inlet
from tests.payloads import retell_event, retell_headers
from tests.stack import Stack

MIB = 1024 * 1024
LIMIT = 10 * MIB
# Enough to have a body read; it proves nothing.
PROOF = b"X-Retell-Signature: v=1,d=0\r\n"
CHUNK = b"100000\r\n" + b"x" * MIB + b"\r\n"


@pytest.fixture
def source(stack: Stack) -> Inlet:
    """A source without an endpoint, that web has heard of."""
    source = stack.customers.create().source("retell")
    body = retell_event("call_started", "call_1")
    assert stack.post(source.url, body, retell_headers(body, source.secret)).ok
    return source


@contextmanager
def in_memory_of(stack: Stack, most: int) -> Iterator[None]:
    """Fail if the server process, at any moment of the block, holds so much more than at its beginning."""
    proc = Path("/proc") / str(server_process(stack).pid)
    (proc / "clear_refs").write_text("5")  # the peak begins anew (proc(5))
    before = kilobytes(proc, "VmRSS")
    yield
    grown = (kilobytes(proc, "VmHWM") - before) * 1024
    assert grown < most, f"{grown / MIB:.1f} MiB"


def server_process(stack: Stack) -> psutil.Process:
    """The process of web that answers requests."""
    [web] = [process for process in stack.processes if process.command[0] == "web"]
    return max(psutil.Process(web.pid).children(recursive=True), key=lambda child: child.memory_info().rss)


def kilobytes(proc: Path, name: str) -> int:
    """One of the sizes of a process."""
    [size] = re.findall(rf"^{name}:\s+(\d+) kB$", (proc / "status").read_text(), re.MULTILINE)
    return int(size)


def answer(stack: Stack, source: Inlet, fields: bytes, body: Iterator[bytes], *, hang_up: bool = False) -> int:
    """Send until the body ends or nobody takes it any more; the status of the answer."""
    path = "/" + source.url.split("/", 3)[3]
    with socket.create_connection(("127.0.0.1", stack.settings.port), timeout=10) as connection:
        try:
            connection.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\n".encode() + PROOF + fields + b"\r\n")
            for piece in body:
                connection.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has answered already
        if hang_up:
            connection.shutdown(socket.SHUT_WR)
        received = connection.recv(65536)
    return int(received.split(b" ")[1])


def test_an_endless_body_is_refused_at_the_limit(stack: Stack, source: Inlet) -> None:
    """Chunked, without a length: what is past the limit is not taken in."""
    with in_memory_of(stack, 2 * LIMIT):
        assert answer(stack, source, b"Transfer-Encoding: chunked\r\n", repeat(CHUNK)) == 413


def test_a_body_that_says_it_is_too_large_is_not_read(stack: Stack, source: Inlet) -> None:
    """Its sender is refused before the first byte."""
    with in_memory_of(stack, MIB):
        for length in (LIMIT + 1, 10**12, 10**17):
            fields = b"Content-Length: %d\r\n" % length
            assert answer(stack, source, fields, iter(())) == 413


def test_a_body_of_the_limit_that_proves_nothing_is_let_go(stack: Stack, source: Inlet) -> None:
    """One after the other they take no more memory than one."""
    with in_memory_of(stack, 2 * LIMIT):
        for _ in range(8):
            fields = b"Content-Length: %d\r\n" % LIMIT
            assert answer(stack, source, fields, repeat(b"x" * MIB, LIMIT // MIB)) == 401


def test_memory_is_given_back_after_many_large_bodies_at_once(stack: Stack, source: Inlet) -> None:
    """A wave of them leaves little behind, however many threads it went through."""
    server = server_process(stack)
    before = server.memory_info().rss
    fields = b"Content-Length: %d\r\n" % LIMIT

    with ThreadPoolExecutor(12) as pool:
        sent = [pool.submit(answer, stack, source, fields, repeat(b"x" * MIB, LIMIT // MIB)) for _ in range(24)]

    assert [one.result() for one in sent] == [401] * 24
    assert (server.memory_info().rss - before) / MIB < 64


def test_a_body_that_ends_before_its_length_is_refused(stack: Stack, source: Inlet) -> None:
    """Memory follows what has come, not what was promised."""
    with in_memory_of(stack, MIB):
        fields = b"Content-Length: %d\r\n" % LIMIT
        assert answer(stack, source, fields, iter([b"x" * 1000]), hang_up=True) == 400


def test_a_body_goes_on_after_its_length_in_vain(stack: Stack, source: Inlet) -> None:
    """What follows is no part of it, nor is it a request."""
    with in_memory_of(stack, 2 * LIMIT):
        body = chain([b"{}"], repeat(b"x" * MIB, 3 * LIMIT // MIB))
        assert answer(stack, source, b"Content-Length: 2\r\n", body) == 401


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate", b"br", b"gzip, gzip"])
def test_a_compressed_body_is_not_unpacked(stack: Stack, source: Inlet, encoding: bytes) -> None:
    """A bomb of 200 MiB stays as small as it is."""
    bomb = BOMB
    with in_memory_of(stack, 2 * MIB):
        fields = b"Content-Encoding: %b\r\nContent-Length: %d\r\n" % (encoding, len(bomb))
        assert answer(stack, source, fields, iter([bomb])) == 415


def test_headers_without_end_are_refused(stack: Stack, source: Inlet) -> None:
    """A request line or a header of megabytes is not collected."""
    with in_memory_of(stack, 2 * MIB):
        fields = b"X-Long: " + b"x" * LIMIT + b"\r\n"
        assert answer(stack, source, fields, iter(())) == 431


BOMB = gzip.compress(bytes(200 * MIB), compresslevel=1)
