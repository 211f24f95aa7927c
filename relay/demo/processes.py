"""The processes of the Procfile as children: started, watched, and stopped before the servers they need."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from relay.demo.embedded import Scratch
from relay.demo.procfile import Entry
from relay.errors import SwitchhookError

# A worker finishes or releases what is in flight within 25 s of SIGTERM.
STOP_SECONDS: Final = 28.0
TAIL_LINES: Final = 12
_POLL_SECONDS: Final = 0.02
# The directory that `relay` is imported from: there `-m relay` finds this very code, wherever the demo was started.
_ROOT: Final = Path(__file__).resolve().parents[2]
# What the interpreter itself needs. Nothing else of ours reaches the processes: a developer's settings stay out.
_INHERITED: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


class ProcessFailed(SwitchhookError):
    """A process of the Procfile ended or did not become ready; the end of its log says why."""

    code = "demo_process_failed"

    def __init__(self, name: str, what: str, *, tail: tuple[str, ...]) -> None:
        super().__init__(f"{name} {what}; the end of its log is above")
        self.name = name
        self.tail = tail


@dataclass(frozen=True, slots=True)
class _Running:
    entry: Entry
    child: subprocess.Popen[bytes]
    log: Path


class Processes:
    """The running processes, each in a session of its own: a terminal's Ctrl-C reaches the demo alone.

    `stop` is called by the scratch's end; `hurried` set makes it a short one. Not for use from several threads.
    """

    def __init__(self, scratch: Scratch, environment: Mapping[str, str], *, hurried: threading.Event) -> None:
        self._scratch = scratch
        self._environment = _inherited() | dict(environment)
        self._hurried = hurried
        self._running: list[_Running] = []
        self.logs = scratch.directory / "logs"
        self.logs.mkdir(mode=0o700)
        scratch.exits.callback(self.stop)

    def start(self, entries: Iterable[Entry]) -> None:
        """Start all of them and return at once."""
        for entry in entries:
            path = self.logs / f"{entry.name}.log"
            with path.open("ab") as log:
                child = subprocess.Popen(
                    [sys.executable, "-m", "relay", *entry.arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=_ROOT,
                    env=self._environment,
                    start_new_session=True,
                )
            self._running.append(_Running(entry, child, path))
            self._scratch.watchdog.add([child.pid])

    def check(self) -> None:
        """Raises ProcessFailed naming a process that has ended."""
        for one in self._running:
            code = one.child.poll()
            if code is not None:
                how = f"with exit code {code}" if code >= 0 else f"by {signal.Signals(-code).name}"
                raise ProcessFailed(one.entry.name, f"ended {how}", tail=_tail(one.log))

    def await_ready(self, is_web_ready: Callable[[], bool], *, within_seconds: float) -> None:
        """Wait until web answers and every worker has said that it is ready. Raises ProcessFailed."""
        deadline = time.monotonic() + within_seconds
        for one in self._running:
            while not (is_web_ready() if one.entry.command == "web" else _is_ready(one)):
                self.check()
                if time.monotonic() > deadline:
                    raise ProcessFailed(
                        one.entry.name, f"was not ready within {within_seconds:.0f} s", tail=_tail(one.log)
                    )
                time.sleep(_POLL_SECONDS)

    def tails(self) -> dict[str, tuple[str, ...]]:
        """The last lines of every process' log."""
        return {one.entry.name: _tail(one.log) for one in self._running}

    def stop(self) -> None:
        """SIGTERM to all, SIGKILL to what is left after 28 s or when hurried. Nothing they started remains."""
        for one in self._running:
            if one.child.poll() is None:
                one.child.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        while any(one.child.poll() is None for one in self._running):
            if time.monotonic() > deadline or self._hurried.wait(_POLL_SECONDS):
                break
        for one in self._running:
            # The whole session: a web process that was killed leaves the children that serve for it.
            with suppress(ProcessLookupError):
                os.killpg(one.child.pid, signal.SIGKILL)
            one.child.wait()
            self._scratch.watchdog.discard([one.child.pid])
        self._running.clear()


def _inherited() -> dict[str, str]:
    return {
        name: value for name, value in os.environ.items() if name in _INHERITED or name.startswith(("PYTHON", "LC_"))
    }


def _is_ready(one: _Running) -> bool:
    """A worker logs that it is; of the others nothing is waited for."""
    return one.entry.command != "worker" or b'"worker_ready"' in one.log.read_bytes()


def _tail(log: Path) -> tuple[str, ...]:
    return tuple(log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:])
