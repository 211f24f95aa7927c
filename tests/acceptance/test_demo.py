"""The demo plays its round, accounts for all of it, repeats no word of it, and leaves nothing behind."""

from __future__ import annotations

import json
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import psutil
import pytest
from click.testing import CliRunner

from relay.cli import main
from relay.demo import stage
from relay.demo.embedded import EmbeddedUnavailable
from tests.scanner import Scanner
from tests.waiting import eventually

SECONDS: Final = 60.0
COLUMNS: Final = 100
LAST_LINE: Final = "demo: 6 accepted, 6 delivered, 3 charged, 0 lost"
PARTS: Final = ("relay web", "relay worker", "relay beat", "postgres -D", "redis-server")


class Demo:
    """A running `python -m relay demo`, and every process that was seen below it."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self._out, self._err = directory / "out", directory / "err"
        self._seen: dict[psutil.Process, str] = {}
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.child = subprocess.Popen(
                [sys.executable, "-m", "relay", "demo", *arguments], cwd=directory, stdout=out, stderr=err
            )

    @property
    def out(self) -> str:
        """Its standard output so far."""
        return self._out.read_text(encoding="utf-8")

    @property
    def err(self) -> str:
        """Its standard error so far."""
        return self._err.read_text(encoding="utf-8")

    def end(self) -> int:
        """Its exit code, once it has ended."""
        self.await_that(lambda: self.child.poll() is not None, "the demo ends")
        return self.child.wait()

    def await_that(self, is_so: Callable[[], bool], what: str) -> None:
        """Wait until it is so, looking at the processes meanwhile."""

        def look() -> bool:
            self._look()
            return is_so()

        eventually(look, within_seconds=SECONDS, what=what)

    def await_up(self) -> None:
        """Wait until it says that it stays."""
        self.await_that(lambda: "Ctrl-C stops" in self.out or self.child.poll() is not None, "the demo stays up")
        assert self.child.poll() is None, self.err

    def process(self, part: str) -> psutil.Process:
        """The topmost process whose command line has this part."""
        return next(process for process, command in self._seen.items() if part in command)

    def assert_nothing_remains(self) -> None:
        """What was killed may take a moment to be gone."""
        eventually(lambda: self.remains() == [], within_seconds=5, what="nothing left of the demo")

    def remains(self) -> list[str]:
        """What was seen of it and still exists: processes by their command lines, directories by their paths."""
        directories = {path for command in self._seen.values() for path in re.findall(r"/tmp/sw-\w+", command)}
        assert len(directories) == 1
        assert not [part for part in PARTS if not any(part in command for command in self._seen.values())]
        processes = [command for process, command in self._seen.items() if _is_alive(process)]
        return processes + [path for path in directories if Path(path).exists()]

    def _look(self) -> None:
        with suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self.child.pid).children(recursive=True):
                with suppress(psutil.Error):
                    # A fork shows its parent's command line until it runs its own: the last look counts.
                    self._seen[process] = " ".join(process.cmdline()) or self._seen.get(process, "")


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    """Starts a demo in an empty directory; it is ended with the test."""
    started: list[Demo] = []

    def begin(*arguments: str) -> Demo:
        demo = Demo(tmp_path, *arguments)
        started.append(demo)
        return demo

    yield begin
    for demo in started:
        if demo.child.poll() is None:
            demo.child.terminate()
            demo.child.wait(SECONDS)


@pytest.fixture(scope="module")
def conversations() -> Scanner:
    """Finds what is said in the sample payloads: every text of theirs that is more than a word."""
    payloads = [path for path in (files("relay.demo") / "payloads").iterdir() if path.name.endswith(".json")]
    texts = {text for path in payloads for text in _texts(json.loads(path.read_text(encoding="utf-8"))) if " " in text}
    assert len(payloads) == 6
    assert len(texts) > 6
    return Scanner(texts)


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield from node.splitlines()
    elif isinstance(node, dict | list):
        for item in node.values() if isinstance(node, dict) else node:
            yield from _texts(item)


def test_one_round_is_accounted_for_and_leaves_nothing(start: Callable[..., Demo], conversations: Scanner) -> None:
    """`demo --once` ends with its tally and exit code 0; no process, no directory, no word of a call remains."""
    demo = start("--once")
    assert demo.end() == 0, demo.err
    assert demo.out.splitlines()[-1] == LAST_LINE
    assert demo.err == ""
    assert "\x1b" not in demo.out
    assert max(map(len, demo.out.splitlines())) <= COLUMNS
    assert conversations.found_in(demo.out.encode()) == set()
    demo.assert_nothing_remains()


def test_demo_stays_up_for_a_look_inside_until_interrupted(start: Callable[..., Demo], conversations: Scanner) -> None:
    """The command line works against it as it says; none of its files holds a word of a call; Ctrl-C ends it."""
    demo = start()
    demo.await_up()
    assert LAST_LINE in demo.out.splitlines()
    directory = Path(re.findall(r"removes (/tmp/sw-\w+)", demo.out)[0])
    assert f". {directory}/environment" in demo.out
    assert directory.joinpath("environment").stat().st_mode & 0o077 == 0
    assert [row["status"] for row in _listed("deliveries", directory / "environment")] == ["delivered"] * 6
    assert [row["kind"] for row in _listed("charges", directory / "environment")] == ["charge"] * 3
    assert {path.name for path in directory.joinpath("logs").iterdir()} == {"web.log", "worker.log", "beat.log"}
    assert conversations.found_in_all(_contents(directory)) == set()
    demo.child.send_signal(signal.SIGINT)
    assert demo.end() == 0
    assert demo.err == ""
    demo.assert_nothing_remains()


def test_process_that_dies_is_named_with_the_end_of_its_log(start: Callable[..., Demo]) -> None:
    """A worker that is killed ends the demo with exit code 1; the rest is stopped and removed as ever."""
    demo = start()
    demo.await_up()
    demo.process("relay worker").kill()
    assert demo.end() == 1
    assert '"worker_ready"' in demo.err
    said = "Error: worker ended by SIGKILL; the end of its log is above [demo_process_failed]"
    assert demo.err.splitlines()[-1] == said
    assert "Traceback" not in demo.err
    demo.assert_nothing_remains()


def test_port_that_is_taken_is_refused_before_anything_starts() -> None:
    """The demo does not share a port with what listens there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result = CliRunner().invoke(main, ["demo", "--once", "--port", str(port)])
    assert result.exit_code == 1
    said = f"Error: port {port} is taken; stop what listens there, or choose another --port [settings_invalid]\n"
    assert result.stderr == said


def test_missing_server_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Redis is not installed the demo says what to install, without a traceback."""

    def missing(*_: object) -> None:
        raise EmbeddedUnavailable("Redis is not installed: install it")

    monkeypatch.setattr(stage, "start_redis", missing)
    result = CliRunner().invoke(main, ["demo", "--once"])
    assert result.exit_code == 1
    assert result.stderr == "Error: Redis is not installed: install it [embedded_unavailable]\n"


def _listed(what: str, environment: Path) -> list[dict[str, Any]]:
    """What the command line lists in a shell that has read the demo's environment file."""
    command = f". {shlex.quote(str(environment))} && {shlex.quote(sys.executable)} -m relay {what} --json"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, check=True, timeout=SECONDS)
    listed: list[dict[str, Any]] = json.loads(done.stdout)
    return listed


def _contents(directory: Path) -> Iterator[tuple[str, bytes]]:
    """Every file of a directory: logs, what Redis appends to, what Postgres stores."""
    for path in directory.rglob("*"):
        # The servers remove files while we look.
        with suppress(FileNotFoundError):
            if path.is_file():
                yield str(path.relative_to(directory)), path.read_bytes()
