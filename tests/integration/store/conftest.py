"""What the tests of the store share; the migrated database of each comes from the root."""

from __future__ import annotations

import pytest

from relay.sealing import KeyRing
from relay.settings import Settings
from relay.store import accounts
from relay.store.database import Database

KEYS = "a passphrase for tests only, long enough to be taken"


def settings_for(database_url: str) -> Settings:
    """Settings for a Postgres alone."""
    url = database_url.replace("postgresql://", "postgresql+psycopg://", 1)
    return Settings(database_url=url, redis_url="redis://unused.invalid", keys=KEYS)


@pytest.fixture
def settings(database_url: str) -> Settings:
    """Settings that name a migrated database of the test's own, and no Redis."""
    return settings_for(database_url)


@pytest.fixture
def ring() -> KeyRing:
    """The key ring of these tests."""
    return KeyRing(KEYS)


@pytest.fixture
def account_id(database: Database) -> str:
    """An account with nothing in it."""
    with database.begin() as connection:
        return accounts.create(connection, name="Acme").id
