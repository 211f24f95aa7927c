"""One running system for all acceptance tests; each test has customers and receivers of its own in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from relay.demo.embedded import EmbeddedPostgres, Scratch
from tests.customers import Customer
from tests.receiver import Receiver, receiving
from tests.stack import Stack, fresh_stack


@pytest.fixture(scope="package")
def stack(
    scratch: Scratch, embedded_postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """`switchhook web`, `worker` and `beat` on a fresh Redis and a migrated database."""
    with fresh_stack(scratch, embedded_postgres, logs=tmp_path_factory.mktemp("logs")) as running:
        running.start("web", "worker", "beat")
        yield running


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
