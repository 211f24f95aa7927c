"""Cleans up after this process, however it ends: even kill -9 leaves no server and no directory behind.

The watchdog is a shell that reads a pipe. The pipe closes when its writer, this process, ends. Linux's
PR_SET_PDEATHSIG is no substitute: it fires when the *thread* that started the child ends, and exists nowhere else.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final

# Each line read is the whole list of processes to stop. SIGINT is Redis's orderly and Postgres's fast shutdown;
# SIGCONT first, because a stopped process hears nothing else. After 5 s what is left is killed. The shell itself
# outlasts the signals that a platform sends to every process at once.
_SCRIPT: Final = """
trap '' HUP INT TERM
while read -r line; do pids=$line; done
alive() { for pid in $pids; do kill -0 "$pid" && return; done; return 1; }
alive && kill -CONT $pids; alive && kill -INT $pids
tries=0
while alive && [ $tries -lt 50 ]; do tries=$((tries + 1)); sleep 0.1; done
alive && kill -KILL $pids
rm -rf -- "$1"
"""


class Watchdog:
    """Stops `add`ed processes and removes `directory` once this process is gone or `close` was called."""

    def __init__(self, directory: Path) -> None:
        self._pids: set[int] = set()
        self._lock = threading.Lock()
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT, "sh", str(directory)],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )

    def __enter__(self) -> Watchdog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def add(self, pids: Iterable[int]) -> None:
        """These processes must not outlive this one."""
        with self._lock:
            self._pids.update(pids)
            self._tell()

    def discard(self, pids: Iterable[int]) -> None:
        """These processes have ended, and their numbers may soon be someone else's."""
        with self._lock:
            self._pids.difference_update(pids)
            self._tell()

    def close(self) -> None:
        """Let the watchdog do its work now, and wait for it."""
        if self._shell.stdin:
            self._shell.stdin.close()
        self._shell.wait()

    def _tell(self) -> None:
        # A watchdog that someone killed is no reason to fail: it is the second line of defence.
        with suppress(BrokenPipeError):
            if self._shell.stdin:
                self._shell.stdin.write(" ".join(map(str, sorted(self._pids))).encode() + b"\n")
