"""A server of recordings: it answers ranges, or does what servers do that do not, or that lie about them."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Literal

Manner = Literal[
    "ranges",  # RFC 9110, 14
    "whole",  # 200 for everything
    "whole, no length",  # the same, and the end of the connection is the end
    "endless",  # a body without an end
    "endless range",  # 206 with a body that goes past its range
    "wrong range",  # 206 with another range than was asked for
    "no total",  # 206 of a file whose size it does not tell
    "short",  # a body that ends before its length
    "once",  # a range the first time, the whole file from then on
    "changing",  # another size with each answer
    "gzip",  # compressed, whatever was asked for
    "redirect",
    "hang",  # headers, and then nothing
    "missing",  # 404 with an endless page
    "empty range",  # 416
]

_RANGE: Final = re.compile(r"bytes=([0-9]+)-([0-9]+)")
_PIECE: Final = bytes(64 * 1024)


class RecordingServer:
    """Serves one file at every path of a free loopback port, and remembers the headers of each request."""

    def __init__(self, file: bytes, manner: Manner = "ranges") -> None:
        self.file = file
        self.manner: Manner = manner
        self.requests: list[dict[str, str]] = []
        self.released = threading.Event()
        self.target = ""
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="recordings", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where the file is."""
        return f"http://127.0.0.1:{self._server.server_port}/recording"

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.server_port

    @property
    def ranges(self) -> list[str | None]:
        """The `Range` of each request, None for none."""
        return [headers.get("range") for headers in self.requests]

    def close(self) -> None:
        """Let go of whoever waits, and stop listening."""
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def recording(file: bytes, manner: Manner = "ranges") -> Iterator[RecordingServer]:
    """A server for as long as the block lasts."""
    server = RecordingServer(file, manner)
    try:
        yield server
    finally:
        server.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, owner: RecordingServer) -> None:
        self.owner = owner
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever has seen enough closes the connection: nothing to print."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        owner = self.server.owner
        owner.requests.append({name.lower(): value for name, value in self.headers.items()})
        asked = _RANGE.fullmatch(self.headers.get("Range", ""))
        span = None if asked is None else (int(asked[1]), min(int(asked[2]) + 1, len(owner.file)))
        manner, file = owner.manner, owner.file
        if manner == "redirect":
            self._say(302, b"", Location=owner.target)
        elif manner == "missing":
            self._stream(404)
        elif manner == "endless":
            self._stream(200)
        elif manner == "empty range":
            self._say(416 if span else 200, b"" if span else file, **{"Content-Range": f"bytes */{len(file)}"})
        elif manner == "gzip":
            self._say(200, b"\x1f\x8b\x08\x00" + file, **{"Content-Encoding": "gzip"})
        elif manner == "hang":
            self._headers(200, **{"Content-Length": str(len(file))})
            owner.released.wait(30)
        elif manner == "whole, no length":
            self._headers(200, Connection="close")
            self.wfile.write(file)
            self.close_connection = True
        elif manner == "short" and not span:
            self._headers(200, **{"Content-Length": str(len(file) + 1)})
            self.wfile.write(file)
            self.close_connection = True
        elif span is None or manner == "whole" or (manner == "once" and len(owner.requests) > 1):
            self._say(200, file)
        else:
            self._part(manner, file, *span)

    def _part(self, manner: Manner, file: bytes, first: int, end: int) -> None:
        total: int | str = len(file) + (len(self.server.owner.requests) if manner == "changing" else 0)
        if manner == "no total":
            total = "*"
        shift = int(manner == "wrong range")
        self._headers(
            206,
            **{
                "Content-Range": f"bytes {first + shift}-{end - 1 + shift}/{total}",
                "Content-Length": str(end - first + (1 if manner == "short" else 0)),
            }
            if manner != "endless range"
            else {"Content-Range": f"bytes {first}-{end - 1}/{total}", "Connection": "close"},
        )
        self.wfile.write(file[first:end])
        while manner == "endless range":
            self.wfile.write(_PIECE)
        self.close_connection = manner == "short"

    def _stream(self, status: int) -> None:
        self._headers(status, Connection="close")
        self.wfile.write(self.server.owner.file[:1024])
        while True:
            self.wfile.write(_PIECE)

    def _say(self, status: int, body: bytes, **headers: str) -> None:
        self._headers(status, **headers, **{"Content-Length": str(len(body))})
        self.wfile.write(body)

    def _headers(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class's name
        """Say nothing."""
