"""A customer's server that answers questions in bytes of a test's choosing: whole, odd, cut off, or held back."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import BinaryIO

from tests.waiting import eventually


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it arrived. Header names are in lower case."""

    headers: dict[str, str]
    body: bytes = field(repr=False)


def answer(body: bytes = b"", *, status: str = "200 OK", content_type: str | None = None) -> bytes:
    """A whole answer in HTTP/1.1."""
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n"
    if content_type is not None:
        head += f"Content-Type: {content_type}\r\n"
    return head.encode("latin-1") + b"\r\n" + body


class Answering:
    """Listens on a free loopback port. While it holds, nobody is answered."""

    def __init__(self, raw: bytes, *, closes: bool = False) -> None:
        self.raw = raw
        self.asked: list[Asked] = []
        self.connections = 0
        self._closes = closes
        self._may_answer = threading.Event()
        self._may_answer.set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        """Where to ask."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/ask"

    def hold(self) -> None:
        """Answer nobody from now on."""
        self._may_answer.clear()

    def release(self) -> None:
        """Answer everybody who waits, and whoever comes."""
        self._may_answer.set()

    def await_asked(self, count: int) -> None:
        """Wait until so many requests have come."""
        eventually(lambda: len(self.asked) >= count, within_seconds=10, what=f"{count} questions")

    def close(self) -> None:
        """Stop, and wait until every connection has ended; more than once does no harm."""
        self.release()
        for taken in (self._listener, *self._open):
            with suppress(OSError):
                taken.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                self._open.append(connection)
                thread = threading.Thread(target=self._serve, args=(connection,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with ExitStack() as stack:
            stack.enter_context(suppress(OSError))
            file = stack.enter_context(connection.makefile("rb"))
            stack.enter_context(connection)
            while headers := _headers(file):
                self.asked.append(Asked(headers, file.read(int(headers["content-length"]))))
                self._may_answer.wait()
                connection.sendall(self.raw)
                if self._closes:
                    return


def _headers(file: BinaryIO) -> dict[str, str]:
    """The headers of the next request; none when the client has gone."""
    headers: dict[str, str] = {}
    if file.readline():
        while line := file.readline().strip():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
    return headers


@contextmanager
def answering(raw: bytes, *, closes: bool = False) -> Iterator[Answering]:
    """A server for as long as the block lasts. `closes`: it hangs up after each answer."""
    server = Answering(raw, closes=closes)
    try:
        yield server
    finally:
        server.close()
