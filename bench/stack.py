"""The processes under test, each pinned to a core: embedded servers, web, workers, a receiver."""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bench.load import SECRET, Route
from bench.receiver import Arrival
from bench.sender import Answer
from relay.connections import redis_client
from relay.demo.embedded import scratch_directory, start_postgres, start_redis
from relay.outbox import Outbox, keys
from relay.provisioning import Provisioning
from relay.sealing import KeyRing
from relay.settings import Settings
from relay.store.migrating import migrate

# The measured process has a core for itself; everything else shares the other one.
MEASURED_CORE = 0
OTHER_CORE = 1
_ENDPOINTS = 8
_MAXMEMORY_MIB = 6144


@dataclass(slots=True)
class Stack:
    """Embedded servers, settings that point at them, and routes to a receiver."""

    settings: Settings
    environ: dict[str, str]
    directory: Path
    receiver_port: int
    routes: list[Route]
    signing_secrets: dict[str, str]
    redis_pid: int
    postgres_pid: int

    @property
    def outbox(self) -> Outbox:
        return Outbox(redis_client(self.settings, timeout_seconds=30))

    @property
    def ring(self) -> KeyRing:
        return KeyRing(self.settings.keys)

    def await_recorded(self, *, within_seconds: float) -> None:
        """Wait until every outcome is in Postgres."""
        client = redis_client(self.settings, timeout_seconds=30)
        until = time.monotonic() + within_seconds
        while client.xlen(keys.OUTCOMES):
            if time.monotonic() > until:
                raise RuntimeError(f"{client.xlen(keys.OUTCOMES)} outcomes are not recorded")
            time.sleep(0.05)


@contextmanager
def stack() -> Iterator[Stack]:
    """Servers as durable as production (`appendfsync always`, fsync on), pinned to the other core with all the rest."""
    os.sched_setaffinity(0, {OTHER_CORE})
    with scratch_directory() as scratch:
        redis = start_redis(scratch, maxmemory_mib=_MAXMEMORY_MIB)
        postgres = start_postgres(scratch, fsync=True, shared_buffers_mib=256)
        pin(redis.pid, OTHER_CORE)
        pin(postgres.pid, OTHER_CORE)
        receiver_port = free_port()
        environ = {
            "DATABASE_URL": postgres.url,
            "REDIS_URL": redis.url,
            "SWITCHHOOK_KEYS": "k1:" + base64.b64encode(os.urandom(32)).decode(),
            "SWITCHHOOK_ALLOW_HTTP": "1",
            "SWITCHHOOK_EGRESS_ALLOW": "127.0.0.0/8",
            "SWITCHHOOK_ACCOUNT_QUOTA": str(1 << 40),
            "HOST": "127.0.0.1",
            "PORT": str(free_port()),
            "LOG_LEVEL": "WARNING",
        }
        settings = Settings.from_environ(environ)
        migrate(settings)
        routes, secrets = _provision(settings, receiver_port)
        directory = Path(scratch.directory) / "bench"
        directory.mkdir()
        yield Stack(settings, environ, directory, receiver_port, routes, secrets, redis.pid, postgres.pid)


def _provision(settings: Settings, receiver_port: int) -> tuple[list[Route], dict[str, str]]:
    provisioning = Provisioning.connect(settings)
    account = provisioning.create_account(name="bench").account
    provisioning.create_rate_card(account_id=account.id, per_minute="0.10", increments="1/1")
    routes, secrets = [], {}
    for number in range(_ENDPOINTS):
        source, endpoint = provisioning.create_source(
            account_id=account.id,
            provider="elevenlabs",
            secrets=[SECRET],
            relay_url=f"http://127.0.0.1:{receiver_port}/{number}",
        )
        if endpoint is None:
            raise RuntimeError("a source with a URL has an endpoint")
        routes.append(Route(account.id, source.id, endpoint.id))
        secrets[f"/{number}"] = endpoint.signing_secrets[0]
    return routes, secrets


@contextmanager
def process(stack_: Stack, *command: str, core: int | None) -> Iterator[subprocess.Popen[bytes]]:
    """One of the Procfile's processes, stopped by SIGTERM at the end."""
    log = (stack_.directory / f"{command[0]}.log").open("ab")
    started = subprocess.Popen(
        [sys.executable, "-m", "relay", *command],
        env=os.environ | stack_.environ,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    if core is not None:
        pin(started.pid, core)
    try:
        yield started
    finally:
        started.terminate()
        started.wait(40)
        log.close()


@contextmanager
def web(stack_: Stack, *, core: int | None) -> Iterator[subprocess.Popen[bytes]]:
    """The web process, ready."""
    with process(stack_, "web", core=core) as started:
        deadline = time.monotonic() + 20
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{stack_.settings.port}/readyz", timeout=1).close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        if core is not None:
            pin(started.pid, core)  # once more: it has started workers and threads since
        yield started


class Receiving:
    """A receiver process; `arrivals` is filled when it has ended."""

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []


class Counting:
    """A receiver process that keeps ids only. When it has ended, `events` says how many came once, twice, ..."""

    def __init__(self) -> None:
        self.events: dict[int, int] = {}


@contextmanager
def receiving(stack_: Stack) -> Iterator[Receiving]:
    """The receiver, on the other core."""
    taken = Receiving()
    with _receiver(stack_, "all") as path:
        yield taken
    taken.arrivals += msgspec.msgpack.decode(path.read_bytes(), type=list[Arrival])


@contextmanager
def counting(stack_: Stack) -> Iterator[Counting]:
    """The receiver for a load that would not fit into memory."""
    taken = Counting()
    with _receiver(stack_, "ids") as path:
        yield taken
    taken.events = msgspec.msgpack.decode(path.read_bytes(), type=dict[int, int])


@contextmanager
def _receiver(stack_: Stack, kept: str) -> Iterator[Path]:
    path = stack_.directory / "arrivals"
    arguments = [str(stack_.receiver_port), str(path), str(OTHER_CORE), kept]
    started = subprocess.Popen([sys.executable, "-m", "bench.receiver", *arguments])
    wait_for_port(stack_.receiver_port)
    try:
        yield path
    finally:
        started.terminate()
        started.wait(120)


def send(stack_: Stack, requests: list[bytes], *, port: int, connections: int, rate: float) -> list[Answer]:
    """Post prepared requests from a process of its own, on the other core."""
    source, result = stack_.directory / "requests", stack_.directory / "answers"
    source.write_bytes(msgspec.msgpack.encode(requests))
    arguments = [str(port), str(source), str(result), str(OTHER_CORE), str(connections), str(rate)]
    subprocess.run([sys.executable, "-m", "bench.sender", *arguments], check=True, timeout=300)
    return msgspec.msgpack.decode(result.read_bytes(), type=list[Answer])


def bare(*arguments: str) -> float:
    """What `python -m bench.bare` prints, which has the measured core for itself."""
    measured = subprocess.Popen([sys.executable, "-m", "bench.bare", *arguments], stdout=subprocess.PIPE)
    pin(measured.pid, MEASURED_CORE)
    output, _ = measured.communicate(timeout=120)
    return float(output)


def pin(pid: int, core: int) -> None:
    """Keep a process, with the threads and children that it has and will have, on one core."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {core})
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            pin(int(child), core)


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int) -> None:
    """Wait until somebody listens on loopback. Raises OSError after 10 s."""
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return
