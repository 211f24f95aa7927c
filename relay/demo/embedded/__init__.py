"""A real Redis and a real Postgres for the demo and the tests, gone without a trace afterwards.

Both are child processes in sessions of their own, so that a terminal's Ctrl-C or a platform's SIGTERM reaches
Switchhook first and the servers stop last. They listen on Unix sockets in a temporary directory, which a watchdog
removes even when this process is killed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from relay.demo.embedded.binaries import EmbeddedUnavailable
from relay.demo.embedded.postgres import EmbeddedPostgres, start_postgres
from relay.demo.embedded.process import ServerFailed
from relay.demo.embedded.redis import EmbeddedRedis, start_redis
from relay.demo.embedded.scratch import Scratch, scratch_directory

__all__ = [
    "EmbeddedPostgres",
    "EmbeddedRedis",
    "EmbeddedUnavailable",
    "Scratch",
    "ServerFailed",
    "Servers",
    "embedded_servers",
    "scratch_directory",
    "start_postgres",
    "start_redis",
]


@dataclass(frozen=True, slots=True)
class Servers:
    """A running pair; the URLs are as REDIS_URL and DATABASE_URL take them."""

    redis: EmbeddedRedis
    postgres: EmbeddedPostgres
    directory: Path

    @property
    def redis_url(self) -> str:
        """`unix:///tmp/sw-.../redis/redis.sock?db=0`."""
        return self.redis.url

    @property
    def database_url(self) -> str:
        """`postgresql://switchhook@/switchhook?host=/tmp/sw-.../postgres&port=5432`."""
        return self.postgres.url


@contextmanager
def embedded_servers(*, redis_tcp_port: int | None = None, fsync: bool = True) -> Iterator[Servers]:
    """Start both, and stop both and remove their directory at the end.

    `redis_tcp_port` makes Redis listen on loopback too (0: a free port); `fsync=False` trades Postgres's durability
    for speed. Raises EmbeddedUnavailable if a server is not installed, ServerFailed if one does not start.
    """
    with scratch_directory() as scratch:
        redis = start_redis(scratch, tcp_port=redis_tcp_port)
        postgres = start_postgres(scratch, fsync=fsync)
        yield Servers(redis=redis, postgres=postgres, directory=scratch.directory)
