"""A receiver that can take tens of thousands of deliveries a second on a share of one core.

It keeps every request with its time of arrival and answers 200; nothing is judged before the run is over. For a load
that would not fit into memory it keeps only how often each `webhook-id` came.
Run as `python -m bench.receiver PORT FILE CORE all|ids`; SIGTERM writes what arrived to FILE.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

import msgspec

_ID: Final = re.compile(rb"\r\nwebhook-id: (evt_[a-z2-7]+)\r\n", re.IGNORECASE)
_LENGTH: Final = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: (\d+)\r\n")
_ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Arrival(msgspec.Struct, array_like=True):
    """One request: when its last byte came (CLOCK_MONOTONIC, ns), and all of it."""

    at_ns: int
    raw: bytes


def main() -> None:
    """Serve until SIGTERM."""
    port, path, core, kept = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
    os.sched_setaffinity(0, {core})
    signal.signal(signal.SIGTERM, _stop)
    arrivals: list[Arrival] = []
    ids: Counter[bytes] = Counter()

    def keep_all(data: bytes) -> None:
        arrivals.append(Arrival(time.monotonic_ns(), data))

    def keep_id(data: bytes) -> None:
        found = _ID.search(data)
        ids[found[1] if found else b""] += 1

    with contextlib.suppress(KeyboardInterrupt):
        _serve(port, keep_all if kept == "all" else keep_id)
    with open(path, "wb") as out:  # noqa: PTH123
        out.write(msgspec.msgpack.encode(arrivals if kept == "all" else Counter(ids.values())))


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def _serve(port: int, keep: Callable[[bytes], None]) -> None:
    listener = socket.create_server(("127.0.0.1", port), backlog=4096)
    listener.setblocking(False)
    epoll = select.epoll()
    epoll.register(listener, select.EPOLLIN)
    connections: dict[int, socket.socket] = {}
    partial: dict[int, bytes] = {}
    own = listener.fileno()
    while True:
        for descriptor, _ in epoll.poll():
            if descriptor == own:
                connection, _ = listener.accept()
                connection.setblocking(False)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connections[connection.fileno()] = connection
                epoll.register(connection, select.EPOLLIN)
                continue
            connection = connections[descriptor]
            try:
                data = connection.recv(262144)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if not data:
                epoll.unregister(descriptor)
                connections.pop(descriptor).close()
                partial.pop(descriptor, None)
                continue
            if descriptor in partial:
                data = partial.pop(descriptor) + data
            end = data.find(b"\r\n\r\n")
            length = _LENGTH.search(data, 0, end + 2) if end >= 0 else None
            if length is None or len(data) < end + 4 + int(length[1]):
                partial[descriptor] = data
                continue
            keep(data)
            connection.send(_ANSWER)


if __name__ == "__main__":
    main()
