"""The process that parses a recording: bounded in memory and time, without files, settings or keys.

It speaks lines of JSON on standard output: `{"offset":0,"size":65536}` asks for bytes, `{"seconds":"61.5",
"format":"wav"}` and `{"code":"not_audio"}` are the end. What it asks for comes on standard input behind its length,
four bytes in network order; first of all comes the size of the file, eight bytes.
"""

from __future__ import annotations

import io
import json
import resource
import struct
import sys
from typing import Any, BinaryIO, Final

from relay.recordings.measure import measured
from relay.recordings.unmeasured import NOT_AUDIO, Unmeasured

SIZE: Final = struct.Struct(">Q")
LENGTH: Final = struct.Struct(">I")
WINDOW_BYTES: Final = 64 * 1024
# The longest recordings that a parser reads whole take a second or two; what takes longer goes round in circles.
CPU_SECONDS: Final = 20
_MEMORY_BYTES: Final = 256 * 1024 * 1024


class RemoteFile(io.RawIOBase):
    """The file at the other end of two pipes, in windows of 64 KiB."""

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        super().__init__()
        self._source = source
        self._sink = sink
        (self._size,) = SIZE.unpack(self._exactly(SIZE.size))
        self._position = 0
        self._window, self._window_start = b"", 0

    def read(self, size: int = -1) -> bytes:
        """As of any file; what lies behind its end is not there, however much is asked for."""
        left = max(0, self._size - self._position)
        wanted = left if size < 0 else min(size, left)
        pieces = []
        while wanted:
            piece = self._piece(wanted)
            pieces.append(piece)
            self._position += len(piece)
            wanted -= len(piece)
        return b"".join(pieces)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As of any file. Raises OSError for a place before its beginning."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise OSError("before the beginning")
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        """The position."""
        return self._position

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def _piece(self, wanted: int) -> bytes:
        start = self._position - self._window_start
        if not 0 <= start < len(self._window):
            say(self._sink, offset=self._position, size=WINDOW_BYTES)
            (length,) = LENGTH.unpack(self._exactly(LENGTH.size))
            self._window, self._window_start, start = self._exactly(length), self._position, 0
        return self._window[start : start + wanted]

    def _exactly(self, size: int) -> bytes:
        found = self._source.read(size)
        if len(found) < size or not size:
            raise SystemExit(1)  # the other end is gone: nobody waits for an answer
        return found


def say(sink: BinaryIO, **fields: Any) -> None:
    """Say one line."""
    sink.write(json.dumps(fields).encode() + b"\n")
    sink.flush()


def confine() -> None:
    """Give up everything that parsing does not need. What was granted before stays: three pipes and the code."""
    for limit, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 0),
        (resource.RLIMIT_AS, _MEMORY_BYTES),
    ):
        resource.setrlimit(limit, (most, most))
    # The soft limit's signal tells why it died.
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 2))


def main() -> None:
    """Measure what the parent has."""
    confine()
    sink = sys.stdout.buffer
    try:
        found = measured(RemoteFile(sys.stdin.buffer, sink))  # type: ignore[arg-type]
    except Unmeasured as refusal:
        say(sink, code=refusal.code)
    except (Exception, MemoryError):
        say(sink, code=NOT_AUDIO)
    else:
        say(sink, seconds=str(found.seconds), format=found.format)
