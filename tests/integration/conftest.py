"""What tests of real servers share: accounts set up on them, commands that work on them, a day that goes on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
import redis

from relay.directory import Mirror
from relay.outbox import Outbox
from relay.provisioning import Provisioning
from relay.sealing import KeyRing
from relay.settings import Settings
from relay.store.database import Database
from tests.waiting import eventually

# Longer than any test that names today takes.
_LONG_ENOUGH: Final = timedelta(seconds=30)


@pytest.fixture
def provisioning(settings: Settings, database: Database, redis_client: redis.Redis) -> Provisioning:
    """What accounts are set up with on the test's own servers."""
    ring = KeyRing(settings.keys)
    return Provisioning(settings, database, ring, Mirror(redis_client, ring), Outbox(redis_client))


@pytest.fixture
def account_id(provisioning: Provisioning) -> str:
    """An account with nothing in it but its first key."""
    return provisioning.create_account(name="Acme").account.id


@pytest.fixture
def commands_connect(switchhook_env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that are invoked in this process find the test's own servers in its environment."""
    for name, value in switchhook_env.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def commands_provision(commands_connect: None, provisioning: Provisioning, monkeypatch: pytest.MonkeyPatch) -> None:
    """They change accounts too: by `provisioning`, because connections of their own would stay open."""
    monkeypatch.setattr(Provisioning, "connect", lambda _settings: provisioning)


@pytest.fixture
def day_that_goes_on() -> None:
    """For tests that name today or its month, or sum them up: none begins just before these turn (in UTC)."""

    def goes_on() -> bool:
        now = datetime.now(UTC)
        return now.date() == (now + _LONG_ENOUGH).date()

    eventually(goes_on, within_seconds=2 * _LONG_ENOUGH.total_seconds(), what="the next day")
