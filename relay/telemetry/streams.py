"""Standard output and standard error without buffers of our own.

What cannot be written to a full disk would stay in a buffer and fail whoever flushes it next: a fork does, and web
would not start; the end of a process does. A line that cannot be written is better lost.
"""

from __future__ import annotations

import contextlib
import io
import sys
from typing import Any


def unbuffer() -> None:
    """Replace both for this process, once. What somebody else has put in their place (a test, say) stays."""
    if sys.stdout is sys.__stdout__ and sys.stdout is not None:
        sys.stdout = _unbuffered(sys.stdout)
    if sys.stderr is sys.__stderr__ and sys.stderr is not None:
        sys.stderr = _unbuffered(sys.stderr)


def _unbuffered(stream: io.TextIOWrapper[Any]) -> io.TextIOWrapper[Any]:
    with contextlib.suppress(OSError):
        stream.flush()
    raw: Any = io.FileIO(stream.fileno(), "wb", closefd=False)
    # Each line goes out as it is written, in one piece.
    return io.TextIOWrapper(raw, encoding=stream.encoding, errors="backslashreplace", write_through=True)
