"""Reading a request's body ourselves: up to a limit and one byte more, within what the process can hold.

Werkzeug's MAX_CONTENT_LENGTH silently truncates chunked bodies and answers 200; here a body is either whole or
refused.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from io import BytesIO
from types import TracebackType
from typing import Any, Final, Protocol

from relay.errors import BadRequest, BodiesFull, BodyTooLarge, EncodingRefused

AUDIO_LIMIT_BYTES: Final = 64 * 1024 * 1024
# Nearly every webhook is smaller than this; such a body asks nobody, and 256 threads hold at most 64 MiB of them.
FREE_BYTES: Final = 256 * 1024
# What all larger bodies of a process may hold beyond that: 256 MiB together.
BUDGET_BYTES: Final = 192 * 1024 * 1024
_PIECE_BYTES: Final = 256 * 1024
# ElevenLabs writes the type first; a body that hides it past this is held to the ordinary limit.
_AUDIO: Final = re.compile(rb'^\s*\{\s*"type"\s*:\s*"post_call_audio"')
_AUDIO_CHARS: Final = 256
_IS_READ: Final = "switchhook.body_is_read"


class Input(Protocol):
    """A WSGI input stream."""

    def read(self, size: int = ..., /) -> bytes:
        """At most `size` bytes; empty at the end."""
        ...


class BodyBudget:
    """How many bytes of large bodies a process may hold, each until it is committed or refused. Safe for threads."""

    def __init__(self, limit_bytes: int) -> None:
        self._left = limit_bytes
        self._lock = threading.Lock()

    def share(self) -> Share:
        """The share of one body: empty, and given back at the end of its `with` block."""
        return Share(self)

    def take(self, size: int) -> None:
        """Take bytes out. Raises BodiesFull if there are not as many."""
        with self._lock:
            if size > self._left:
                raise BodiesFull
            self._left -= size

    def give_back(self, size: int) -> None:
        """Put bytes back that were taken."""
        with self._lock:
            self._left += size


class Share:
    """What one body has of the budget."""

    __slots__ = ("_budget", "_held")

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self._held = 0

    def grow(self, size: int) -> None:
        """Take so much more. Raises BodiesFull."""
        self._budget.take(size)
        self._held += size

    def __enter__(self) -> Share:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._held:
            self._budget.give_back(self._held)


def read_body(
    environ: dict[str, Any], *, limit_bytes: int, audio: bool = False, grow: Callable[[int], None] = lambda _: None
) -> bytes:
    """The whole body. `audio` admits ElevenLabs' recordings up to 64 MB.

    `grow` is told of every further piece before it is read, so that it can refuse it: a declared length is a claim,
    memory follows what has come. Raises BodyTooLarge, EncodingRefused, BadRequest for a body that ended early, and
    what `grow` raises.
    """
    if environ.get("HTTP_CONTENT_ENCODING", "identity").strip().lower() not in ("", "identity"):
        raise EncodingRefused
    declared = _declared_length(environ)
    if declared is not None and declared > (max(limit_bytes, AUDIO_LIMIT_BYTES) if audio else limit_bytes):
        raise _too_large(limit_bytes)
    reading = _Reading(environ["wsgi.input"], declared, grow)
    reading.read(limit_bytes + 1)
    if reading.size > limit_bytes and audio and _AUDIO.match(reading.head):
        limit_bytes = max(limit_bytes, AUDIO_LIMIT_BYTES)
        reading.read(limit_bytes + 1)
    if reading.size > limit_bytes:
        raise _too_large(limit_bytes)
    if declared is not None and reading.size != declared:
        raise BadRequest("the body ended before its Content-Length", code="body_truncated")
    environ[_IS_READ] = True
    return reading.body()


def closing(environ: dict[str, Any]) -> dict[str, str]:
    """The header `Connection: close` for the answer to a request whose body was not read to its end, else nothing.

    The server closes such a connection. Untold, the sender would lose its next request (RFC 9112, 9.6).
    """
    has_body = environ.get("HTTP_TRANSFER_ENCODING") or environ.get("CONTENT_LENGTH", "") not in ("", "0")
    return {"Connection": "close"} if has_body and _IS_READ not in environ else {}


def _too_large(limit_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body is larger than the {limit_bytes} bytes that this route takes")


def _declared_length(environ: dict[str, Any]) -> int | None:
    if environ.get("HTTP_TRANSFER_ENCODING"):
        return None
    raw = environ.get("CONTENT_LENGTH") or ""
    if not raw:
        return None
    if not (raw.isascii() and raw.isdigit() and len(raw) < 19):
        raise BadRequest("Content-Length is not a number", code="content_length_invalid")
    return int(raw)


class _Reading:
    """A body on its way in. One that comes in one piece, as most do, is never copied; others are copied once."""

    def __init__(self, stream: Input, declared: int | None, grow: Callable[[int], None]) -> None:
        self._stream = stream
        self._declared = declared
        self._grow = grow
        self._allowed = FREE_BYTES
        self._first = b""
        self._rest: BytesIO | None = None
        self.size = 0

    @property
    def head(self) -> bytes:
        """Its first bytes, enough to see what it is."""
        return self._first[:_AUDIO_CHARS] if self._rest is None else self._rest.getbuffer()[:_AUDIO_CHARS].tobytes()

    def read(self, most: int) -> None:
        """Read on until it has `most` bytes or ends, and never past the declared end: servers may wait there."""
        if self._declared is not None:
            most = min(most, self._declared)
        while self.size < most:
            if self.size == self._allowed:
                more = min(most - self.size, _PIECE_BYTES)
                self._grow(more)
                self._allowed += more
            piece = self._stream.read(min(most, self._allowed) - self.size)
            if not piece:
                return
            self._append(piece)

    def body(self) -> bytes:
        """What was read."""
        # Not a copy: the buffer itself, cut to its size.
        return self._first if self._rest is None else self._rest.getvalue()

    def _append(self, piece: bytes) -> None:
        if not self.size:
            self._first = piece
        else:
            if self._rest is None:
                self._rest = BytesIO()
                self._rest.write(self._first)
                self._first = b""
            self._rest.write(piece)
        self.size += len(piece)
