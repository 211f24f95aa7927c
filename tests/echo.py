"""Customers' servers that give the transcript back in every part of an HTTP answer, or in none at all."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, Final, Literal

Manner = Literal["take", "fail", "redirect", "informational", "garbage", "endless", "hang"]

_STATUS_LINES: Final[dict[Manner, bytes]] = {
    "take": b"HTTP/1.1 200 %b\r\n",
    "fail": b"HTTP/1.1 500 %b\r\n",
    "redirect": b"HTTP/1.1 302 %b\r\n",
    "informational": b"HTTP/1.1 103 %b\r\nLink: <%b>\r\n\r\nHTTP/1.1 422 %b\r\n",
    "garbage": b"%b\r\n",
    "endless": b"HTTP/1.1 429 %b\r\n",
}
# Headers that clients act upon, or quote when they complain.
_HEADERS: Final = (
    b"Retry-After", b"Location", b"Set-Cookie", b"Content-Type", b"Content-Encoding", b"WWW-Authenticate",
    b"Alt-Svc", b"Strict-Transport-Security", b"Date", b"Server", b"X-Echo",
)  # fmt: skip
_PART_BYTES: Final = 200


class Echo:
    """Answers every POST with what it was sent: in the reason, in each header, in the body."""

    def __init__(self, manner: Manner, token: str) -> None:
        self._manner = manner
        self._token = token.encode()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._lock = threading.Lock()
        self._connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, name=f"echo-{manner}")]
        self.posts = 0
        self._threads[0].start()

    @property
    def url(self) -> str:
        """Where to deliver."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/hook"

    def close(self) -> None:
        """Hang up on everyone and stop listening."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        with self._lock:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()
        for connection in (*self._connections, self._listener):
            connection.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(connection,))
                with self._lock:
                    self._connections.append(connection)
                    self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), connection.makefile("rb") as lines:
            while body := _body(lines):
                with self._lock:
                    self.posts += 1
                if self._manner == "hang":
                    connection.recv(1)  # until the sender loses patience
                    return
                connection.sendall(self._answer(body))
                if self._manner in ("garbage", "endless"):
                    connection.shutdown(socket.SHUT_WR)
                    return

    def _answer(self, body: bytes) -> bytes:
        at = max(0, body.find(self._token))
        part = body[at : at + _PART_BYTES].replace(b"\r", b" ").replace(b"\n", b" ")
        status = _STATUS_LINES[self._manner]
        head = status.replace(b"%b", part) + b"".join(b"%b: %b\r\n" % (name, part) for name in _HEADERS)
        if self._manner == "endless":
            # Chunks whose sizes, extensions and trailer say it too, and no end.
            return head + b"Transfer-Encoding: chunked\r\n\r\n%x;%b\r\n%b\r\n%b: %b\r\n" % (
                len(body),
                part,
                body,
                part,
                part,
            )
        return head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


@contextmanager
def echoing(manner: Manner, token: str) -> Iterator[Echo]:
    """An echo for as long as the block lasts. `token` is what it gives back of a body where there is little room."""
    echo = Echo(manner, token)
    try:
        yield echo
    finally:
        echo.close()


def _body(lines: BinaryIO) -> bytes:
    """The next request's body; empty at the end of the connection."""
    length = 0
    while (line := lines.readline()) not in (b"\r\n", b""):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return lines.read(length) if length else b""
