"""What every fake of a provider is: an HTTP server on a free loopback port that answers JSON out of its memory."""

from __future__ import annotations

import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlsplit

# Answered instead of a status: the connection is closed without a word.
DROPPED: Final = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """One request. The names of headers are in lower case; a form is text, any other body is decoded JSON."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: Any

    @property
    def authorization(self) -> str | None:
        """The header of this name."""
        return self.headers.get("authorization")


class Fake(ABC):
    """A provider for as long as its `with` block lasts."""

    def __init__(self, name: str) -> None:
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name=name, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @abstractmethod
    def answer(self, seen: Seen) -> tuple[int, Any]:
        """The status and the JSON of an answer; None for an empty body. Called in a thread for each connection."""

    def more_headers(self, status: int) -> dict[str, str]:  # noqa: ARG002  (for who has some)
        """Headers of an answer with this status."""
        return {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, fake: Fake) -> None:
        self.fake = fake
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away: nothing to print."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # An answer in one packet: in two, the second would wait 40 ms for the first one's acknowledgement.
    wbufsize = -1
    server: _Server

    def _serve(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        is_form = headers.get("content-type") == "application/x-www-form-urlencoded"
        body = raw.decode() if is_form else json.loads(raw) if raw else None
        seen = Seen(self.command, parts.path, parse_qs(parts.query), headers, body)
        status, answer = self.server.fake.answer(seen)
        if status == DROPPED:
            self.close_connection = True
            return
        data = b"" if answer is None else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in self.server.fake.more_headers(status).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815  (the base class's names)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class's name
        """Say nothing."""
