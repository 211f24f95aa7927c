"""One libcurl handle: how it is set up, and what is seen of an answer.

A delivery counts only if curl ended without error, the blank line after the headers was seen (libcurl reports 200
for `HTTP/1.1 200 OK\\r\\n` and FIN) and the status is 2xx. Where it may go and what it does not follow is `handle`'s;
bodies are neither decoded nor kept unless asked for.
"""

from __future__ import annotations

import time
from typing import Final

import pycurl

from relay.content import Content
from relay.delivery.exchange import Begun, Finished, Reply
from relay.delivery.handle import failure_of, guarded
from relay.delivery.retry import AttemptResult, parse_retry_after
from relay.settings import Network

# What is read of an answer before the transfer is cut off; a 2xx counts all the same.
BODY_CAP_BYTES: Final = 64 * 1024
# All header lines of an answer together; servers in the field stay below 16 KiB.
HEADERS_CAP_BYTES: Final = 64 * 1024
# And how many, for libcurl keeps each with some hundred bytes of its own until the handle's next request. Python's own
# client takes 100 in an answer.
HEADERS_CAP_LINES: Final = 512
# A line feed alone ends a line too (RFC 9112, 2.2), and small servers write it.
_BLANK_LINES: Final = (b"\r\n", b"\n")


class Transfer:
    """One reusable easy handle and what has been seen of its answer. A body is kept only where it was asked for."""

    __slots__ = (
        "_body_bytes",
        "_header_bytes",
        "_header_lines",
        "_headers_ended",
        "_kept",
        "_refused",
        "_retry_after",
        "curl",
        "host",
    )

    def __init__(self, allow: tuple[Network, ...], ca_file: str, user_agent: str) -> None:
        self.host = ""
        self._refused = False
        self.curl = curl = guarded(allow=allow, ca_file=ca_file, user_agent=user_agent, on_refused=self._on_refused)
        for option, value in (
            (pycurl.POST, 1),
            (pycurl.HEADERFUNCTION, self._on_header),
            (pycurl.WRITEFUNCTION, self._on_body),
        ):
            curl.setopt(option, value)

    def prepare(self, begun: Begun, host: str, resolve: list[str]) -> None:
        """Set the handle up for a request, with libcurl's RESOLVE entries for its host (none for an address)."""
        request = begun.request
        self.host = host
        self._headers_ended = self._refused = False
        self._body_bytes = self._header_bytes = self._header_lines = 0
        self._retry_after: bytes | None = None
        self._kept: list[bytes] | None = [] if request.keep_reply else None
        curl = self.curl
        curl.setopt(pycurl.URL, request.url)
        curl.setopt(pycurl.HTTPHEADER, request.headers)
        curl.setopt(pycurl.POSTFIELDS, request.body.reveal())
        left_ms = request.deadline_ms
        if resolve:
            curl.setopt(pycurl.RESOLVE, resolve)
            # Nothing is no deadline at all to libcurl.
            left_ms = max(1, left_ms - begun.spent_ms)
        curl.setopt(pycurl.TIMEOUT_MS, left_ms)
        curl.setopt(pycurl.CONNECTTIMEOUT_MS, left_ms)

    def clear(self) -> None:
        """Let go of the content; the handle keeps only its connection."""
        self._kept = None
        self.curl.setopt(pycurl.POSTFIELDS, b"")

    def finished(self, begun: Begun, error: int) -> Finished:
        """What came of `begun`, which this handle was prepared for. `error` is libcurl's."""
        curl = self.curl
        status = curl.getinfo(pycurl.RESPONSE_CODE)
        if error == pycurl.E_WRITE_ERROR and self._headers_ended and self._body_bytes > BODY_CAP_BYTES:
            error = 0
        failure = failure_of(curl, error, headers_ended=self._headers_ended, refused=self._refused)
        hint = parse_retry_after(self._retry_after, time.time()) if self._retry_after and failure is None else None
        return Finished(
            ticket=begun.ticket,
            result=AttemptResult(status=status if failure is None else None, failure=failure, retry_after_seconds=hint),
            duration_ms=begun.spent_ms,
            response_bytes=self._body_bytes,
            reply=None if self._kept is None or failure is not None else self._reply(status, self._kept),
        )

    def _reply(self, status: int, kept: list[bytes]) -> Reply:
        content_type: bytes | None = self.curl.getinfo_raw(pycurl.CONTENT_TYPE)
        return Reply(
            status=status,
            content_type=None if content_type is None else content_type.decode("latin-1"),
            body=Content(b"".join(kept)[:BODY_CAP_BYTES]),
            is_whole=self._body_bytes <= BODY_CAP_BYTES,
        )

    def _on_header(self, line: bytes) -> int | None:
        self._header_bytes += len(line)
        self._header_lines += 1
        if self._header_bytes > HEADERS_CAP_BYTES or self._header_lines > HEADERS_CAP_LINES:
            return -1
        if line in _BLANK_LINES:
            self._headers_ended = True
        elif line[:5] == b"HTTP/":
            self._headers_ended = False  # an interim answer (100) came before
            self._retry_after = None
        elif line[:12].lower() == b"retry-after:":
            self._retry_after = line[12:].strip()
        return None

    def _on_body(self, chunk: bytes) -> int | None:
        self._body_bytes += len(chunk)
        if self._kept is not None:
            self._kept.append(chunk)
        return -1 if self._body_bytes > BODY_CAP_BYTES else None

    def _on_refused(self) -> None:
        self._refused = True
