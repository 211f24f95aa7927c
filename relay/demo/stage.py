"""Everything the demo needs, up for as long as a `with` block: servers, processes, receiver, customer."""

from __future__ import annotations

import base64
import os
import shlex
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from relay.connections import postgres_engine, redis_client
from relay.demo.client import HOST, Client
from relay.demo.customer import CURRENCY, NAME, PER_MINUTE, Customer, set_up
from relay.demo.embedded import Scratch, scratch_directory, start_postgres, start_redis
from relay.demo.evidence import Evidence
from relay.demo.interruption import Interruption
from relay.demo.processes import Processes
from relay.demo.procfile import entries
from relay.demo.receiver import Receiver
from relay.demo.screen import Screen
from relay.directory import Mirror
from relay.errors import SettingsError
from relay.outbox import Outbox
from relay.provisioning import Provisioning
from relay.sealing import KeyRing
from relay.settings import Settings
from relay.store.database import Database
from relay.store.migrating import migrate

READY_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The demo, up and running. `environment` is a file that makes the command line talk to it."""

    web: Client
    receiver: Receiver
    customer: Customer
    processes: Processes
    evidence: Evidence
    directory: Path
    environment: Path


@contextmanager
def stage(screen: Screen, interruption: Interruption, *, port: int | None) -> Iterator[Stage]:
    """Start all of it; at the end stop it, the processes first and the servers last, and remove every file.

    Raises SettingsError if the port is taken, EmbeddedUnavailable or ServerFailed without a server, ProcessFailed.
    """
    web = Client(_listenable(port))
    with ExitStack() as closing, scratch_directory() as scratch:
        try:
            receiver = closing.enter_context(Receiver())
            began = time.monotonic()
            environment = _servers(scratch) | _settings(web)
            settings = Settings.from_environ(environment)
            migrate(settings)
            screen.up("Redis and Postgres, migrated", time.monotonic() - began)
            began = time.monotonic()
            chosen = entries([Path.cwd()])
            processes = Processes(scratch, environment, hurried=interruption.hurried)
            processes.start(chosen)
            ring, database = KeyRing(settings.keys), Database(postgres_engine(settings, pool_size=1))
            closing.callback(database.close)
            client = closing.enter_context(redis_client(settings))
            provisioning = Provisioning(settings, database, ring, Mirror(client, ring), Outbox(client))
            customer = set_up(provisioning, receiver, public_url=web.url)
            processes.await_ready(lambda: web.get("/readyz") is not None, within_seconds=READY_SECONDS)
            screen.up(", ".join(entry.name for entry in chosen), time.monotonic() - began)
            screen.up(f"account {NAME}: {PER_MINUTE} {CURRENCY} a minute, 2 sources, 1 template")
            yield Stage(
                web=web,
                receiver=receiver,
                customer=customer,
                processes=processes,
                evidence=Evidence(web, database, client, account_id=customer.account_id),
                directory=scratch.directory,
                environment=_environment_file(scratch.directory, environment),
            )
        finally:
            interruption.leave()


def _servers(scratch: Scratch) -> dict[str, str]:
    redis, postgres = start_redis(scratch), start_postgres(scratch)
    return {"DATABASE_URL": postgres.url, "REDIS_URL": redis.url}


def _settings(web: Client) -> dict[str, str]:
    """What the processes are told besides: plain HTTP to loopback is what a demo on one machine needs."""
    return {
        "HOST": HOST,
        "PORT": str(web.port),
        "SWITCHHOOK_PUBLIC_URL": web.url,
        "SWITCHHOOK_KEYS": f"demo:{base64.b64encode(os.urandom(32)).decode('ascii')}",
        "SWITCHHOOK_ALLOW_HTTP": "1",
        "SWITCHHOOK_EGRESS_ALLOW": "127.0.0.0/8",
    }


def _environment_file(directory: Path, environment: Mapping[str, str]) -> Path:
    """A file for a shell to read: `. FILE`. It holds the demo's sealing key, so that nobody else may read it."""
    path = directory / "environment"
    path.touch(mode=0o600)
    path.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items()))
    return path


def _listenable(port: int | None) -> int:
    """The port if nothing listens there, else a free one if none was asked for. Raises SettingsError."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port or 0))
        except OSError:
            raise SettingsError(f"port {port} is taken; stop what listens there, or choose another --port") from None
        chosen: int = probe.getsockname()[1]
        return chosen
