"""Fixtures for all tiers: real servers on demand, settings that point at them, and no network but loopback."""

from __future__ import annotations

import base64
import ipaddress
import itertools
import os
import socket
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import redis

from relay.connections import postgres_engine
from relay.connections import redis_client as connect_redis
from relay.demo.embedded import (
    EmbeddedPostgres,
    EmbeddedRedis,
    Scratch,
    scratch_directory,
    start_postgres,
    start_redis,
)
from relay.settings import Settings
from relay.store import partitions
from relay.store.database import Database
from relay.store.migrating import migrate
from tests.leaks import content_leaks, nothing_leaks

# Fixtures of every test, whatever its tier.
__all__ = ["content_leaks", "nothing_leaks"]

TESTS = Path(__file__).parent
# A test's tier is the directory that it is in.
TIERS = frozenset({"integration", "acceptance", "faults"})
# Redis has 16 databases. Each test gets the next, so that what an earlier one left running writes elsewhere.
_database_numbers = itertools.count(1)


_TEMPLATE = "migrated_template"


def _sqlalchemy(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test with its tier."""
    for item in items:
        if item.path.is_relative_to(TESTS):
            tier = item.path.relative_to(TESTS).parts[0]
            if tier in TIERS:
                item.add_marker(tier)


@pytest.fixture(scope="session", autouse=True)
def only_loopback() -> Iterator[None]:
    """Fail a test that opens a connection to anywhere else, even if the code under test swallows every Exception."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, _guarded(getattr(socket.socket, name)))
        yield


def _guarded(connect: Any) -> Any:
    def guarded(self: socket.socket, address: Any) -> Any:
        if self.family in {socket.AF_INET, socket.AF_INET6} and not _is_loopback(address[0]):
            pytest.fail("a test tried to reach an address that is not loopback")
        return connect(self, address)

    return guarded


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


@pytest.fixture(scope="session")
def scratch() -> Iterator[Scratch]:
    """Where this run's servers live. A test that kills a server starts its own here, under a name of its own."""
    with scratch_directory() as directory:
        yield directory


@pytest.fixture(scope="session")
def embedded_redis(scratch: Scratch) -> EmbeddedRedis:
    """The Redis of this run, without fsync: what it holds may be lost with the machine, not with a process."""
    server = start_redis(scratch)
    with redis.Redis.from_url(server.url) as client:
        client.config_set("appendfsync", "no")
    return server


@pytest.fixture(scope="session")
def redis_numbers() -> Iterator[int]:
    """Numbers of Redis databases, one after the other."""
    return itertools.cycle(range(16))


@pytest.fixture
def redis_url(embedded_redis: EmbeddedRedis, redis_numbers: Iterator[int]) -> str:
    """The URL of an empty Redis database."""
    with redis.Redis.from_url(embedded_redis.url) as client:
        client.flushall()
    return embedded_redis.url_of(next(redis_numbers))


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    """A client of `redis_url` that returns bytes, with the options of production."""
    with connect_redis(Settings(database_url="", redis_url=redis_url, keys="")) as client:
        yield client


@pytest.fixture(scope="session")
def embedded_postgres(scratch: Scratch) -> EmbeddedPostgres:
    """The Postgres of this run, without fsync: what it holds may be lost with the machine, not with a process."""
    return start_postgres(scratch, fsync=False)


@pytest.fixture
def empty_database_url(embedded_postgres: EmbeddedPostgres) -> Iterator[str]:
    """The SQLAlchemy URL of a database of the test's own, without tables."""
    name = f"test_{next(_database_numbers)}"
    url = embedded_postgres.create_database(name)
    yield _sqlalchemy(url)
    embedded_postgres.drop_database(name)


@pytest.fixture(scope="session")
def migrated_template(embedded_postgres: EmbeddedPostgres) -> str:
    """The name of a migrated, empty database, without the partitions of days: they are most of its files."""
    url = embedded_postgres.create_database(_TEMPLATE)
    settings = Settings(database_url=_sqlalchemy(url), redis_url="", keys="")
    migrate(settings)
    database = Database(postgres_engine(settings))
    with database.begin() as connection:
        partitions.drop_before(connection, date.max)
    database.close()
    return _TEMPLATE


@pytest.fixture
def database_url(embedded_postgres: EmbeddedPostgres, migrated_template: str) -> Iterator[str]:
    """The SQLAlchemy URL of a migrated database of the test's own."""
    name = f"test_{next(_database_numbers)}"
    yield _sqlalchemy(embedded_postgres.create_database(name, template=migrated_template))
    embedded_postgres.drop_database(name)


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """The migrated database of `settings`."""
    database = Database(postgres_engine(settings))
    yield database
    database.close()


@pytest.fixture
def switchhook_env(redis_url: str, database_url: str) -> dict[str, str]:
    """The environment variables that a process of the Procfile needs, for these servers."""
    return {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "SWITCHHOOK_KEYS": base64.b64encode(os.urandom(32)).decode("ascii"),
        "SWITCHHOOK_ALLOW_HTTP": "1",
        "SWITCHHOOK_EGRESS_ALLOW": "127.0.0.0/8",
    }


@pytest.fixture
def settings(switchhook_env: dict[str, str]) -> Settings:
    """Settings read from `switchhook_env`."""
    return Settings.from_environ(switchhook_env)
