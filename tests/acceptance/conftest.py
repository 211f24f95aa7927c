"""One running system for all acceptance tests; each test has customers and receivers of its own in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from relay.demo.embedded import EmbeddedPostgres, Scratch, start_redis
from tests.customers import Customer
from tests.receiver import Receiver, receiving
from tests.stack import Stack, migrated_template

_DATABASE = "acceptance"


@pytest.fixture(scope="package")
def stack(
    scratch: Scratch, embedded_postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """`switchhook web`, `worker` and `beat` on a fresh Redis and a migrated database."""
    redis = start_redis(scratch, name="acceptance-redis")
    url = embedded_postgres.create_database(_DATABASE, template=migrated_template(embedded_postgres))
    with Stack(redis_url=redis.url, database_url=url, logs=tmp_path_factory.mktemp("logs")) as running:
        running.start("web", "worker", "beat")
        yield running
    embedded_postgres.drop_database(_DATABASE)
    redis.stop()


@pytest.fixture
def customer(stack: Stack) -> Customer:
    """An account at 0.10 USD a minute with nothing else in it."""
    return stack.customers.create()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A customer's server."""
    with receiving() as it:
        yield it


@pytest.fixture
def other_receiver() -> Iterator[Receiver]:
    """Another customer's server."""
    with receiving() as it:
        yield it
