"""A server of raw bytes, for answers that no HTTP library would give; and requests to it, sent to their end."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Final

from relay.content import Content
from relay.delivery.transport import Finished, Request, Transport

Answer = Callable[[socket.socket], None]
Serve = Callable[..., "Server"]

LOOPBACK: Final = (ipaddress.ip_network("127.0.0.0/8"),)
BODY: Final = b'{"said":"hello"}'
OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
# Generous: a transfer that ends by itself ends long before.
_PATIENT_MS: Final = 15_000


class Server:
    """Listens on loopback and hands every connection to `answer`, each in a thread of its own."""

    def __init__(self, answer: Answer, *, context: ssl.SSLContext | None, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=64)
        self._answer = answer
        self._context = context
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self.closing = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"{'https' if self._context else 'http'}://127.0.0.1:{self.port}/hook"

    def close(self) -> None:
        """Wait until every connection has ended; more than once does no harm."""
        if self.closing.is_set():
            return
        self.closing.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                thread = threading.Thread(target=self._serve, args=(connection,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with ExitStack() as stack:
            stack.enter_context(connection)
            stack.enter_context(suppress(OSError))
            connection.settimeout(10)
            if self._context is not None:
                connection = stack.enter_context(self._context.wrap_socket(connection, server_side=True))
            self._answer(connection)


def read_request(connection: socket.socket) -> bytes:
    """One request with its body; empty when the client has gone."""
    received = b""
    while not received.endswith(BODY):
        piece = connection.recv(65536)
        if not piece:
            return b""
        received += piece
    return received


def saying(*pieces: bytes) -> Answer:
    """Read the request, send the pieces, close the connection."""

    def answer(connection: socket.socket) -> None:
        read_request(connection)
        for piece in pieces:
            connection.sendall(piece)

    return answer


def hang(connection: socket.socket) -> None:
    """Take in everything, say nothing, until the client leaves."""
    while connection.recv(65536):
        pass


def close(transport: Transport) -> None:
    transport.abort()
    transport.close()


def request_to(url: str, *, deadline_ms: int = _PATIENT_MS) -> Request:
    headers = (b"Content-Type: application/json", b"webhook-id: evt_1", b"Expect:")
    return Request(url=url, headers=headers, body=Content(BODY), deadline_ms=deadline_ms)


def post(transport: Transport, url: str, *, deadline_ms: int = _PATIENT_MS) -> Finished:
    """Send one request and wait for its end."""
    transport.start(request_to(url, deadline_ms=deadline_ms), "ticket")
    return finish(transport)[0]


def finish(transport: Transport) -> list[Finished]:
    """Step until nothing is in flight."""
    finished: list[Finished] = []
    while transport.in_flight:
        finished += transport.step(1.0)
    return finished
