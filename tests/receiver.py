"""A customer's server: records every POST, and answers, hangs, resets or echoes as a test tells it."""

from __future__ import annotations

import hashlib
import socket
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Literal

from tests.waiting import eventually

# A status to answer, a JSON body to answer 200 with, or what to do instead once the POST was read and recorded.
Reply = int | bytes | Literal["hang", "reset", "echo"]

# SO_LINGER on with zero seconds: close sends RST, as a server that crashes does.
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Post:
    """One POST as it arrived. Header names are in lower case; `at` is `time.monotonic()` when its body was read."""

    path: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    at: float

    @property
    def event_id(self) -> str:
        """Its `webhook-id`."""
        return self.headers["webhook-id"]

    @property
    def sha256(self) -> str:
        """The hash of its body."""
        return hashlib.sha256(self.body).hexdigest()


class Receiver:
    """An HTTP server on a free loopback port. It answers 200 unless told otherwise."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._posts: list[Post] = []
        self._next: deque[Reply] = deque()
        self._usual: Reply = 200
        self._delay_seconds = 0.0
        self._released = threading.Event()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="receiver", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where to deliver."""
        return f"http://127.0.0.1:{self._server.server_port}/hook"

    @property
    def posts(self) -> list[Post]:
        """Every POST so far, in the order of arrival."""
        with self._lock:
            return list(self._posts)

    def next_replies(self, *replies: Reply) -> None:
        """What to do with the next POSTs; afterwards as usual."""
        with self._lock:
            self._next.extend(replies)

    def usual_reply(self, reply: Reply, *, delay_seconds: float = 0.0) -> None:
        """What to do with every POST from now on, and after how long."""
        with self._lock:
            self._usual, self._delay_seconds = reply, delay_seconds

    def of(self, event_id: str) -> list[Post]:
        """The POSTs of one event."""
        return [post for post in self.posts if post.event_id == event_id]

    def per_event(self) -> Counter[str]:
        """How many POSTs each event took."""
        return Counter(post.event_id for post in self.posts)

    def await_posts(self, count: int, *, within_seconds: float = 10.0) -> list[Post]:
        """Wait for so many POSTs, and return all that came."""

        def enough() -> bool:
            return len(self.posts) >= count

        eventually(enough, within_seconds=within_seconds, what=f"{count} POSTs")
        return self.posts

    def close(self) -> None:
        """Stop listening and let go of every connection."""
        self._released.set()
        self._server.shutdown()
        self._server.close_connections()
        self._server.server_close()
        self._thread.join()

    def take(self, post: Post) -> Reply:
        """Record a POST and decide on it."""
        with self._lock:
            self._posts.append(post)
            reply = self._next.popleft() if self._next else self._usual
            delay_seconds = self._delay_seconds
        if delay_seconds:
            self._released.wait(delay_seconds)
        if reply == "hang":
            self._released.wait()
        return reply


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver for as long as the block lasts."""
    receiver = Receiver()
    try:
        yield receiver
    finally:
        receiver.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self._connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._connections.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A sender that was killed leaves a broken connection: nothing to print."""

    def close_connections(self) -> None:
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        body = self.rfile.read(length)
        if len(body) < length:
            return  # the sender was killed while it wrote: this is no POST
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.server.receiver.take(Post(self.path, headers, body, time.monotonic()))
        if reply in ("reset", "hang"):
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.connection.close()
            return
        self.send_response(reply if isinstance(reply, int) else 200)
        answer = body if reply == "echo" else b""
        if isinstance(reply, bytes):
            answer = reply
            self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class's name
        """Say nothing."""
