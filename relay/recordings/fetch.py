"""Fetching from an address that a customer chose, by the rules of deliveries, and within one deadline.

The name is resolved apart from libcurl and asked for once; every connection is judged on the address it goes to.
Nothing is decoded, followed or written anywhere.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import certifi
import pycurl

from relay.content import Content
from relay.delivery import USER_AGENT
from relay.delivery.handle import failure_of, guarded
from relay.delivery.resolver import Lookup, Resolver, system_lookup
from relay.delivery.retry import AttemptResult, Failure
from relay.delivery.transfer import HEADERS_CAP_BYTES, HEADERS_CAP_LINES
from relay.errors import BodiesFull
from relay.recordings.unmeasured import TOO_LARGE, Interrupted, Unmeasured
from relay.settings import Network

# Names and connections that take longer are given up; so is a server that sends less than a kilobyte a second.
_CONNECT_SECONDS: Final = 10
_SLOW_BYTES: Final = 1024
_SLOW_SECONDS: Final = 15
_LOOK_SECONDS: Final = 0.25
_PORTS: Final = {"http": 80, "https": 443}
_BLANK_LINES: Final = (b"\r\n", b"\n")
# RFC 9110, 14.4. Twenty digits are more than any file has.
_CONTENT_RANGE: Final = re.compile(rb"bytes ([0-9]{1,20})-([0-9]{1,20})/([0-9]{1,20})", re.IGNORECASE)
_CONTENT_LENGTH: Final = re.compile(rb"[0-9]{1,20}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Egress:
    """Where connections may go, and how names are asked for."""

    allow: tuple[Network, ...] = ()
    ca_file: str | None = None
    lookup: Lookup = system_lookup


class Span(NamedTuple):
    """Bytes `first` to `last`, both included."""

    first: int
    last: int


class Part(NamedTuple):
    """What one request brought: the whole file (`span` None), or a span of `total` bytes, if they were told rightly."""

    body: Content
    is_whole: bool
    span: Span | None = None
    total: int = 0


class Download:
    """The requests for one recording, one after the other over one connection, until a deadline that covers them all.

    `most_bytes` is the most of a whole file. `is_stopping` is asked all the time: when it says yes, Interrupted is
    raised. Belongs to one thread.
    """

    def __init__(
        self, url: str, egress: Egress, *, ends_at: float, most_bytes: int, is_stopping: Callable[[], bool]
    ) -> None:
        self._url = url
        self._egress = egress
        self._ends_at = ends_at
        self._most_bytes = most_bytes
        self._is_stopping = is_stopping
        self._refused = False
        self._curl = guarded(
            allow=egress.allow,
            ca_file=egress.ca_file or certifi.where(),
            user_agent=USER_AGENT,
            on_refused=self._on_refused,
        )
        for option, value in (
            (pycurl.HTTPGET, 1),
            (pycurl.LOW_SPEED_LIMIT, _SLOW_BYTES),
            (pycurl.LOW_SPEED_TIME, _SLOW_SECONDS),
            (pycurl.NOPROGRESS, 0),
            (pycurl.XFERINFOFUNCTION, lambda *_: int(is_stopping())),
        ):
            self._curl.setopt(option, value)
        self._is_resolved = False

    def __enter__(self) -> Download:
        return self

    def __exit__(self, *_: object) -> None:
        self._curl.close()

    def get(self, span: Span | None, *, grow: Callable[[int], None]) -> Part:
        """Ask for a span, or for the whole file; a server may answer with the whole in any case.

        `grow` is told of each piece of a whole file before it is kept, and may refuse it. Raises Unmeasured, with the
        code that a delivery would have; Interrupted; and BodiesFull if `grow` does.
        """
        if not self._is_resolved:
            self._resolve()
            self._is_resolved = True
        seen = _Seen(span, self._most_bytes, grow)
        headers = ["Accept-Encoding: identity"]
        if span is not None:
            headers.append(f"Range: bytes={span.first}-{span.last}")
        curl = self._curl
        left_ms = int(1000 * (self._ends_at - time.monotonic()))
        if left_ms < 1:
            raise _unreached(AttemptResult(failure=Failure.TIMED_OUT))
        curl.setopt(pycurl.URL, self._url)
        curl.setopt(pycurl.HTTPHEADER, headers)
        curl.setopt(pycurl.HEADERFUNCTION, seen.on_header)
        curl.setopt(pycurl.WRITEFUNCTION, seen.on_body)
        curl.setopt(pycurl.TIMEOUT_MS, left_ms)
        curl.setopt(pycurl.CONNECTTIMEOUT_MS, min(left_ms, _CONNECT_SECONDS * 1000))
        error = 0
        try:
            curl.perform()
        except pycurl.error as raised:
            error = raised.args[0]
        if error == pycurl.E_ABORTED_BY_CALLBACK or self._is_stopping():
            raise Interrupted
        return self._part(seen, error)

    def _part(self, seen: _Seen, error: int) -> Part:
        if seen.is_full:
            raise BodiesFull
        if seen.is_too_large:
            raise Unmeasured(TOO_LARGE, permanent=True)
        if seen.is_past_span:
            return Part(Content(b""), is_whole=False)
        if seen.has_ended and seen.status == 416:
            return Part(Content(b""), is_whole=False)
        if seen.has_ended and seen.status not in (200, 206):
            raise _unreached(AttemptResult(status=seen.status))
        failure = failure_of(self._curl, error, headers_ended=seen.has_ended, refused=self._refused)
        if failure is not None:
            raise _unreached(AttemptResult(failure=failure))
        return seen.part()

    def _resolve(self) -> None:
        parts = urlsplit(self._url)
        host = parts.hostname or ""
        if ":" in host or host.rpartition(".")[2].isdigit():
            return
        addresses = self._addresses(host)
        if not addresses:
            raise _unreached(AttemptResult(failure=Failure.DNS_FAILED))
        self._curl.setopt(pycurl.RESOLVE, [f"{host}:{parts.port or _PORTS[parts.scheme]}:{','.join(addresses)}"])

    def _addresses(self, host: str) -> tuple[str, ...]:
        answered = threading.Event()
        resolver = Resolver(self._egress.lookup, on_answer=answered.set)
        try:
            resolver.ask(host)
            ends_at = min(self._ends_at, time.monotonic() + _CONNECT_SECONDS)
            while not answered.wait(_LOOK_SECONDS) and time.monotonic() < ends_at:
                if self._is_stopping():
                    raise Interrupted
            return dict(resolver.answered()).get(host, ())
        finally:
            resolver.close()

    def _on_refused(self) -> None:
        self._refused = True


class _Seen:
    """What one answer brings, and whether it goes past a limit."""

    def __init__(self, span: Span | None, most_bytes: int, grow: Callable[[int], None]) -> None:
        self._span = span
        self._most_bytes = most_bytes
        self._grow = grow
        # Its value is not a copy.
        self._kept = BytesIO()
        self._size = self._header_bytes = self._header_lines = 0
        self._range: bytes = b""
        self.status = 0
        self.has_ended = self.is_too_large = self.is_past_span = self.is_full = False

    def part(self) -> Part:
        """What came. A span that is not the one that was asked for is none."""
        body = Content(self._kept.getvalue())
        if self.status == 200:
            return Part(body, is_whole=True)
        told = _CONTENT_RANGE.fullmatch(self._range)
        if self._span is None or told is None:
            return Part(Content(b""), is_whole=False)
        first, last, total = (int(number) for number in told.groups())
        wanted = min(self._span.last, total - 1)
        if (first, last) != (self._span.first, wanted) or len(body) != last - first + 1:
            return Part(Content(b""), is_whole=False)
        return Part(body, is_whole=False, span=Span(first, last), total=total)

    def on_header(self, line: bytes) -> int | None:
        """One line of the headers; -1 ends the transfer."""
        self._header_bytes += len(line)
        self._header_lines += 1
        if self._header_bytes > HEADERS_CAP_BYTES or self._header_lines > HEADERS_CAP_LINES:
            return -1
        name, _, value = line.partition(b":")
        if line in _BLANK_LINES:
            self.has_ended = True
        elif line[:5] == b"HTTP/":
            # An interim answer (100) may have come before.
            self.has_ended, self._range = False, b""
            with suppress(ValueError, IndexError):
                self.status = int(line.split(None, 2)[1])
        elif name.lower() == b"content-range":
            self._range = value.strip()
        elif name.lower() == b"content-length" and self.status == 200 and _CONTENT_LENGTH.fullmatch(value.strip()):
            self.is_too_large = int(value) > self._most_bytes
            return -1 if self.is_too_large else None
        return None

    def on_body(self, piece: bytes) -> int | None:
        """One piece of the body; -1 ends the transfer."""
        self._size += len(piece)
        if self.status == 200:
            self.is_too_large = self._size > self._most_bytes
            if self.is_too_large or not self._is_granted(len(piece)):
                return -1
            self._kept.write(piece)
            return None
        if self.status != 206:
            return -1  # what comes with an error is not wanted
        self.is_past_span = self._span is None or self._size > self._span.last - self._span.first + 1
        if self.is_past_span:
            return -1
        self._kept.write(piece)
        return None

    def _is_granted(self, size: int) -> bool:
        try:
            self._grow(size)
        except BodiesFull:
            self.is_full = True
        return not self.is_full


def _unreached(result: AttemptResult) -> Unmeasured:
    return Unmeasured(result.tenant_code, permanent=False, detail_code=result.operator_code)
