"""An embedded Postgres, reached by its Unix socket only, that keeps values out of its log."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from typing import Any, Final

import psycopg
from psycopg.sql import SQL, Identifier

from relay.demo.embedded.binaries import postgres_program
from relay.demo.embedded.process import ServerProcess
from relay.demo.embedded.scratch import Scratch

DATABASE: Final = "switchhook"
USER: Final = "switchhook"
SHARED_BUFFERS_MIB: Final = 64
# It names the socket's file. Said on both sides, because libpq would else take PGPORT from a developer's environment.
_PORT: Final = 5432

# Errors without the statement, its parameters, or the DETAIL line, which quotes the values of a row.
_QUIET: Final = {
    "log_min_error_statement": "panic",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_error_verbosity": "terse",
}


class EmbeddedPostgres(ServerProcess):
    """A Postgres cluster with a database and a superuser `switchhook`, who needs no password."""

    def __init__(self, scratch: Scratch, *, name: str, fsync: bool, shared_buffers_mib: int) -> None:
        super().__init__(name, scratch=scratch)
        self._executable = scratch.runnable(postgres_program())
        self._fsync = fsync
        self._shared_buffers_mib = shared_buffers_mib
        self._paused: list[int] = []
        self._initialise()

    @property
    def url(self) -> str:
        """The database `switchhook`, in libpq's spelling: `postgresql://switchhook@/switchhook?host=/tmp/...&port=5432`."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """One of its databases."""
        return f"postgresql://{USER}@/{database}?host={self.directory}&port={_PORT}"

    def create_database(self, name: str, *, template: str = "template1") -> str:
        """Make a database, as a copy of one that nobody is connected to, and return its URL."""
        with self._connect() as connection:
            connection.execute(SQL("CREATE DATABASE {} TEMPLATE {}").format(Identifier(name), Identifier(template)))
        return self.url_of(name)

    def drop_database(self, name: str) -> None:
        """Remove a database, whoever is still connected to it."""
        with self._connect() as connection:
            connection.execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(name)))

    def pause(self) -> None:
        """Make the server and every session hang. Each session is a process of its own, so each is stopped."""
        with self._connect() as connection:
            super().pause()
            others = connection.execute("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
            self._paused = [pid for (pid,) in others]
            self._scratch.watchdog.add(self._paused)
            self._signal_paused(signal.SIGSTOP)

    def resume(self) -> None:
        """Let all of them go on."""
        self._signal_paused(signal.SIGCONT)
        self._forget_paused()
        super().resume()

    def kill(self) -> None:
        """End it as a power cut would. Sessions end by themselves, but not while they are paused."""
        self._signal_paused(signal.SIGKILL)
        self._forget_paused()
        super().kill()

    def _initialise(self) -> None:
        self.run([
            str(self._executable.with_name("initdb")),
            *("--pgdata", str(self.directory / "data")),
            *("--username", USER),
            *("--encoding", "UTF8"),
            "--locale=C",
            "--auth=trust",
            "--no-instructions",
            "--no-sync",
        ])  # fmt: skip

    def _command(self) -> Sequence[str]:
        options = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.directory),
            "unix_socket_permissions": "0700",
            "port": str(_PORT),
            "max_connections": "100",
            "shared_buffers": f"{self._shared_buffers_mib}MB",
            "fsync": "on" if self._fsync else "off",
            # Files in the data directory instead of /dev/shm: containers keep that tiny, and a kill would litter it.
            "dynamic_shared_memory_type": "mmap",
            "timezone": "UTC",
            "log_timezone": "UTC",
            **_QUIET,
        }
        settings = (argument for name, value in options.items() for argument in ("-c", f"{name}={value}"))
        return [str(self._executable), "-D", str(self.directory / "data"), *settings]

    def _answers(self) -> bool:
        try:
            self._connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def _connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.url_of("postgres"), autocommit=True, connect_timeout=2)

    def _signal_paused(self, number: signal.Signals) -> None:
        for pid in self._paused:
            os.kill(pid, number)

    def _forget_paused(self) -> None:
        self._scratch.watchdog.discard(self._paused)
        self._paused = []


def start_postgres(
    scratch: Scratch, *, name: str = "postgres", fsync: bool = True, shared_buffers_mib: int = SHARED_BUFFERS_MIB
) -> EmbeddedPostgres:
    """Start a Postgres with an empty database `switchhook` in the scratch directory; it is stopped with it.

    Each of several needs its own `name`. Raises EmbeddedUnavailable, ServerFailed.
    """
    server = EmbeddedPostgres(scratch, name=name, fsync=fsync, shared_buffers_mib=shared_buffers_mib)
    server.start()
    server.create_database(DATABASE)
    return server
