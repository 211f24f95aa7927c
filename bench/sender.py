"""A provider that posts prepared webhooks, as fast as they are answered or at a fixed rate of arrivals.

Run as `python -m bench.sender PORT REQUESTS RESULTS CORE CONNECTIONS RATE`; RATE 0 is as fast as answered. At a fixed
rate a request's time is the moment it was due, so that a slow server cannot slow its own test down.
"""

from __future__ import annotations

import os
import re
import select
import socket
import sys
import time
from collections import deque

import msgspec

_LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: (\d+)\r\n")


class Answer(msgspec.Struct, array_like=True):
    """One request: when it was due and when its answer came (CLOCK_MONOTONIC, ns), and the answer's raw bytes."""

    due_ns: int
    at_ns: int
    raw: bytes


def main() -> None:
    """Send everything, then write the answers."""
    port, requests_path, results_path = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    core, connections, rate = int(sys.argv[4]), int(sys.argv[5]), float(sys.argv[6])
    os.sched_setaffinity(0, {core})
    with open(requests_path, "rb") as file:  # noqa: PTH123
        requests: list[bytes] = msgspec.msgpack.decode(file.read(), type=list[bytes])
    answers = _send(port, requests, connections, rate)
    with open(results_path, "wb") as out:  # noqa: PTH123
        out.write(msgspec.msgpack.encode(answers))


def _send(port: int, requests: list[bytes], connections: int, rate: float) -> list[Answer]:
    epoll = select.epoll()
    sockets: dict[int, socket.socket] = {}
    for _ in range(connections):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setblocking(False)
        sockets[connection.fileno()] = connection
        epoll.register(connection, select.EPOLLIN)
    idle = deque(sockets)
    busy: dict[int, int] = {}
    partial: dict[int, bytes] = {}
    answers: list[Answer] = []
    began = time.monotonic_ns() + 100_000_000
    interval = 1e9 / rate if rate else 0.0
    sent = 0
    while len(answers) < len(requests):
        now = time.monotonic_ns()
        while idle and sent < len(requests):
            due = int(began + sent * interval) if rate else now
            if due > now:
                break
            descriptor = idle.popleft()
            sockets[descriptor].sendall(requests[sent])
            busy[descriptor] = due
            sent += 1
        wait = -1.0
        if rate and idle and sent < len(requests):
            wait = max(0.0, (began + sent * interval - time.monotonic_ns()) / 1e9)
        for descriptor, _ in epoll.poll(wait):
            raw = sockets[descriptor].recv(65536)
            if not raw:
                raise SystemExit("the server closed a connection")
            raw = partial.pop(descriptor, b"") + raw
            end = raw.find(b"\r\n\r\n")
            length = _LENGTH.search(raw) if end >= 0 else None
            if length is None or len(raw) < end + 4 + int(length[1]):
                partial[descriptor] = raw
                continue
            answers.append(Answer(busy.pop(descriptor), time.monotonic_ns(), raw))
            idle.append(descriptor)
    return answers


if __name__ == "__main__":
    main()
