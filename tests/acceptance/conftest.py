"""One running system for all acceptance tests; each test has customers and receivers of its own in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from relay.demo.embedded import EmbeddedPostgres, Scratch
from tests.customers import Customer
from tests.fakes.elevenlabs import KEY, FakeElevenLabs
from tests.fakes.retell import FakeRetell
from tests.receiver import Receiver, receiving
from tests.stack import Stack, fresh_stack

OPERATOR_KEY = "op_" + "k" * 40


@pytest.fixture(scope="package")
def elevenlabs() -> Iterator[FakeElevenLabs]:
    """ElevenLabs, for the operator's own key."""
    with FakeElevenLabs() as fake:
        yield fake


@pytest.fixture(scope="package")
def retell() -> Iterator[FakeRetell]:
    """Retell, for the operator's own key."""
    with FakeRetell() as fake:
        yield fake


@pytest.fixture(scope="package")
def stack(
    scratch: Scratch,
    embedded_postgres: EmbeddedPostgres,
    tmp_path_factory: pytest.TempPathFactory,
    elevenlabs: FakeElevenLabs,
    retell: FakeRetell,
) -> Iterator[Stack]:
    """`switchhook web`, `worker` and `beat` on a fresh Redis and a migrated database, with providers to go to."""
    settings = {
        "SWITCHHOOK_OPERATOR_KEY": OPERATOR_KEY,
        "SWITCHHOOK_ELEVENLABS_BASE_URL": elevenlabs.url,
        "SWITCHHOOK_ELEVENLABS_API_KEY": KEY,
        "SWITCHHOOK_RETELL_BASE_URL": retell.url,
        "SWITCHHOOK_RETELL_API_KEY": retell.key,
    }
    logs = tmp_path_factory.mktemp("logs")
    with fresh_stack(scratch, embedded_postgres, logs=logs, settings=settings) as running:
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
