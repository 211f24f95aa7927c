"""A server as a child process that can be stopped, killed, paused and started again over the same data."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from relay.demo.embedded.binaries import EmbeddedUnavailable
from relay.demo.embedded.scratch import Scratch
from relay.errors import SwitchhookError

READY_SECONDS: Final = 30.0
STOP_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.005
_LOG_LINES: Final = 5
# Nothing of ours reaches the servers: PGDATA, PGPORT and their kin would change what they do.
_ENVIRONMENT: Final = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


class ServerFailed(SwitchhookError):
    """An embedded server did not start; the text ends with the last lines of its log."""

    code = "embedded_failed"


class ServerProcess(ABC):
    """One server, in a session of its own. Its data, socket and log are in `directory` for as long as the scratch is.

    Not for use from several threads at once.
    """

    def __init__(self, name: str, *, scratch: Scratch) -> None:
        self.directory = scratch.subdirectory(name)
        self._name = name
        self._scratch = scratch
        self._log = scratch.directory / f"{name}.log"
        self._child: subprocess.Popen[bytes] | None = None
        self._alive = -1
        scratch.exits.callback(self.stop)

    @abstractmethod
    def _command(self) -> Sequence[str]:
        """The program and its arguments; the same at every start."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether the server answers its clients now."""

    @property
    def pid(self) -> int:
        """The process id. Raises ServerFailed if it is not running."""
        if self._child is None:
            raise ServerFailed(f"{self._name} is not running")
        return self._child.pid

    def start(self) -> None:
        """Start and wait until it answers. Raises ServerFailed after 30 s, or when it ends instead."""
        if self._child and self._child.poll() is None:
            raise ServerFailed(f"{self._name} is running already")
        self._reap()
        self._child, self._alive = self._spawn(self._command())
        self._scratch.watchdog.add([self._child.pid])
        self._await_answer(self._child)

    def stop(self) -> None:
        """Shut down in an orderly way, by force after 10 s. Nothing happens if it is not running."""
        if self._child:
            self.resume()
            # Redis's orderly and Postgres's fast shutdown; Postgres would wait for its clients on SIGTERM.
            self._child.send_signal(signal.SIGINT)
            if not _is_closed(self._alive, within_seconds=STOP_SECONDS):
                self._child.kill()
            self._reap()

    def kill(self) -> None:
        """End it as a power cut would, with SIGKILL. Nothing happens if it is not running."""
        if self._child:
            self._child.kill()
            self._reap()

    def restart(self) -> None:
        """Stop it if it runs, then start it over the same data, at the same address."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Make it hang with its connections open, until `resume`, `stop` or `kill`."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def run(self, command: Sequence[str]) -> None:
        """Run a program of the server's to its end, as its user. Raises ServerFailed if it fails or takes 30 s."""
        child, alive = self._spawn(command)
        try:
            code = child.wait(READY_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if child.poll() is None:
                # All of its session: initdb forks servers, which would go on writing.
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
            _is_closed(alive, within_seconds=STOP_SECONDS)
            os.close(alive)
        if code != 0:
            raise ServerFailed(f"{Path(command[0]).name} failed: {self._last_words()}")

    def _spawn(self, command: Sequence[str]) -> tuple[subprocess.Popen[bytes], int]:
        """Start a program as the servers' user. The pipe that is returned closes when the last of it is gone."""
        user = self._scratch.user.popen_options() if self._scratch.user else {}
        reader, writer = os.pipe()
        try:
            with self._log.open("ab") as log:
                child = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=self.directory,
                    env=_ENVIRONMENT,
                    start_new_session=True,
                    # It and all that it forks hold the writing end.
                    pass_fds=(writer,),
                    **user,
                )
        except BaseException as error:
            os.close(reader)
            if isinstance(error, OSError):
                name = Path(command[0]).name
                raise EmbeddedUnavailable(f"{name} cannot be run here: {error.strerror}") from error
            raise
        finally:
            os.close(writer)
        return child, reader

    def _await_answer(self, child: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not self._answers():
            with suppress(subprocess.TimeoutExpired):
                child.wait(_POLL_SECONDS)
                self._reap()
                raise ServerFailed(f"{self._name} ended at start: {self._last_words()}")
            if time.monotonic() > deadline:
                self.kill()
                raise ServerFailed(f"{self._name} did not answer in {READY_SECONDS:.0f} s: {self._last_words()}")

    def _reap(self) -> None:
        """Wait for the server and for what it forked: Postgres's backends notice its death on their own."""
        if self._child:
            self._child.wait()
            _is_closed(self._alive, within_seconds=STOP_SECONDS)
            os.close(self._alive)
            self._scratch.watchdog.discard([self._child.pid])
            self._child = None

    def _last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return " | ".join(lines[-_LOG_LINES:])


def _is_closed(reader: int, *, within_seconds: float) -> bool:
    """Whether nobody holds the other end of a pipe, waiting for that so long."""
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    return bool(poll.poll(within_seconds * 1000))
