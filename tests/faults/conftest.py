"""Systems to break: one of its own for each test that kills or stops something, one for those that do not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.demo.embedded import EmbeddedPostgres, Scratch
from tests.customers import Customer
from tests.receiver import Receiver, receiving
from tests.stack import Stack, fresh_stack
from tests.traffic import Traffic


@pytest.fixture
def stack(scratch: Scratch, embedded_postgres: EmbeddedPostgres, tmp_path: Path) -> Iterator[Stack]:
    """A fresh Redis and database; the test starts the processes that it needs."""
    with fresh_stack(scratch, embedded_postgres, logs=tmp_path) as stack:
        yield stack


@pytest.fixture
def customer(stack: Stack) -> Customer:
    """An account at 0.10 USD a minute."""
    return stack.customers.create()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A customer's server."""
    with receiving() as it:
        yield it


@pytest.fixture
def traffic(stack: Stack, customer: Customer, receiver: Receiver) -> Traffic:
    """A provider that sends the customer's calls."""
    return Traffic(stack, customer, receiver)
