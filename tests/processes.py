"""One process of the Procfile, started, watched, stopped, killed and paused by its own pid."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from tests.waiting import eventually

ROOT: Final = Path(__file__).parents[1]
# An import of everything on a busy machine; a worker that drains has 25 s and says so.
READY_SECONDS: Final = 60.0
STOP_SECONDS: Final = 32.0
_numbers = itertools.count(1)


class ManagedProcess:
    """`python -m relay <command>` in a session of its own, its stdout and stderr in files of their own."""

    def __init__(self, *command: str, env: Mapping[str, str], logs: Path, descriptors: Collection[int] = ()) -> None:
        self.command = command
        name = f"{next(_numbers):02d}-{command[0]}"
        self.stdout, self.stderr = logs / f"{name}.log", logs / f"{name}.err"
        with self.stdout.open("wb") as out, self.stderr.open("wb") as err:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "relay", *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=ROOT,
                env=dict(env),
                start_new_session=True,
                pass_fds=tuple(descriptors),
            )

    @property
    def pid(self) -> int:
        """The id of the process, which is also that of its session."""
        return self._child.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self._child.poll() is None

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """The whole log lines so far, or those of one event."""
        whole, _, _ = self.stdout.read_text(encoding="utf-8").rpartition("\n")
        lines = [json.loads(line) for line in whole.splitlines() if line.startswith("{")]
        return [line for line in lines if name is None or line["event"] == name]

    def await_event(self, name: str, *, within_seconds: float = READY_SECONDS) -> dict[str, Any]:
        """The first log line of this event. Raises AssertionError when the process ends or time is up before it."""

        def seen() -> list[dict[str, Any]]:
            found = self.events(name)
            if not found and not self.is_running:
                raise AssertionError(f"{self.command[0]} ended with {self._child.returncode}: {self._last_words()}")
            return found

        return eventually(seen, within_seconds=within_seconds, what=f"{name} of {self.command[0]}")[0]

    def terminate(self) -> None:
        """Ask it to end (SIGTERM) and return at once."""
        self._child.send_signal(signal.SIGTERM)

    def wait(self, within_seconds: float = STOP_SECONDS) -> int:
        """Wait for its end; the exit code. Raises subprocess.TimeoutExpired."""
        return self._child.wait(within_seconds)

    def pause(self) -> None:
        """Make it stand still (SIGSTOP)."""
        self._child.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        """End it and what it started with SIGKILL, as the kernel's OOM killer would."""
        if self.is_running:
            os.killpg(self.pid, signal.SIGKILL)
        self._child.wait()

    def close(self) -> None:
        """Stop it in an orderly way. Raises AssertionError if that took force."""
        if self.is_running:
            self._child.send_signal(signal.SIGCONT)
            self.terminate()
            try:
                self.wait()
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"{self.command[0]} did not end in {STOP_SECONDS:.0f} s after SIGTERM") from None

    def _last_words(self) -> str:
        return self.stderr.read_text(encoding="utf-8", errors="replace")[-500:]


def switchhook(*arguments: str, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end. Raises subprocess.TimeoutExpired when it does not end."""
    return subprocess.run(
        [sys.executable, "-m", "relay", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        cwd=ROOT,
        env=dict(env),
        text=True,
        timeout=READY_SECONDS,
        check=False,
    )
