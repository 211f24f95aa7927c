"""Measuring a recording in a process of its own, which a hostile file may kill or hang without harm to this one.

The process gets the bytes that it asks for over a pipe, and has neither the network nor our environment.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import IO, Final

import msgspec

import relay
from relay.content import Content
from relay.recordings.child import LENGTH, SIZE
from relay.recordings.measure import Measured
from relay.recordings.ranges import Recording
from relay.recordings.unmeasured import NO_DURATION, NOT_AUDIO, Unmeasured

_ROOT: Final = str(Path(relay.__file__).parents[1])
# Isolated: neither the working directory nor the environment chooses what is imported.
_COMMAND: Final = (
    sys.executable,
    "-I",
    "-c",
    f"import sys; sys.path.insert(0, {_ROOT!r}); from relay.recordings.child import main; main()",
)
_MOST_LINE_BYTES: Final = 1024


class _Said(msgspec.Struct, frozen=True):
    """A line of the child: what it wants, or what it has found."""

    offset: int = -1
    size: int = 0
    code: str | None = None
    seconds: Decimal | None = None
    format: str = ""


def measured_apart(recording: Recording, *, ends_at: float) -> Measured:
    """Measure a recording, at most until `ends_at` of the monotonic clock.

    Raises Unmeasured and what `recording.read` raises. A process that was killed from outside, not for what it did, is
    `not_audio` and not permanent.
    """
    try:
        said, ran_too_long = _run(recording, ends_at)
    except OSError:
        said, ran_too_long = None, False  # it could not even start
    if said is not None and said.seconds is not None:
        return Measured(said.seconds, said.format)
    if said is not None:
        raise Unmeasured(NO_DURATION if said.code == NO_DURATION else NOT_AUDIO, permanent=True)
    raise Unmeasured(NOT_AUDIO, permanent=ran_too_long, detail_code="parser_hung" if ran_too_long else "parser_died")


def _run(recording: Recording, ends_at: float) -> tuple[_Said | None, bool]:
    """What the child says at its end, None if nothing; and whether it had to be ended."""
    with subprocess.Popen(
        _COMMAND,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={},
        start_new_session=True,
    ) as process:
        watch = _Watch(process, ends_at)
        try:
            said = _conversation(process, recording)
        except OSError:
            said = None  # it is gone, and its pipe with it
        finally:
            watch.end()
    return said, watch.has_killed or process.returncode == -signal.SIGXCPU


class _Watch:
    """Kills a process at a moment, unless it has ended by then; and in any case once nobody listens to it."""

    def __init__(self, process: subprocess.Popen[bytes], ends_at: float) -> None:
        self._process = process
        self.has_killed = False
        self._timer = threading.Timer(max(0.0, ends_at - time.monotonic()), self._kill)
        self._timer.daemon = True
        self._timer.start()

    def end(self) -> None:
        """Nothing more is expected of the process."""
        self._timer.cancel()
        with suppress(OSError):
            self._process.kill()
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()  # with what it did not take

    def _kill(self) -> None:
        self.has_killed = True
        self._process.kill()


def _conversation(process: subprocess.Popen[bytes], recording: Recording) -> _Said | None:
    """Answer what the child asks for until it has its result; None if it ends without one. Raises OSError."""
    source, sink = _pipes(process)
    sink.write(SIZE.pack(recording.size))
    sink.flush()
    while True:
        line = source.readline(_MOST_LINE_BYTES)
        try:
            said = msgspec.json.decode(line, type=_Said)
        except msgspec.MsgspecError:
            return None
        if said.offset < 0:
            return said
        piece: Content = recording.read(said.offset, said.size)
        sink.write(LENGTH.pack(len(piece)) + piece.reveal())
        sink.flush()


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    if process.stdout is None or process.stdin is None:
        raise OSError("a process without pipes")
    return process.stdout, process.stdin
