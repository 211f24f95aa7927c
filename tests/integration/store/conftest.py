"""A migrated database for each test, copied from one that the migrations ran in once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import date

import pytest

from relay.connections import postgres_engine
from relay.demo.embedded import EmbeddedPostgres
from relay.sealing import KeyRing
from relay.settings import Settings
from relay.store import accounts, partitions
from relay.store.database import Database, migrate

KEYS = "a passphrase for tests only, long enough to be taken"
_TEMPLATE = "store_template"
_numbers = itertools.count(1)


def settings_for(database_url: str) -> Settings:
    """Settings for a Postgres alone."""
    url = database_url.replace("postgresql://", "postgresql+psycopg://", 1)
    return Settings(database_url=url, redis_url="redis://unused.invalid", keys=KEYS)


@pytest.fixture(scope="session")
def migrated_template(embedded_postgres: EmbeddedPostgres) -> str:
    """The name of a migrated, empty database, without the partitions of days: they are most of its files."""
    settings = settings_for(embedded_postgres.create_database(_TEMPLATE))
    migrate(settings)
    database = Database(postgres_engine(settings))
    with database.begin() as connection:
        partitions.drop_before(connection, date.max)
    database.close()
    return _TEMPLATE


@pytest.fixture
def settings(embedded_postgres: EmbeddedPostgres, migrated_template: str) -> Iterator[Settings]:
    """Settings that name a migrated database of the test's own."""
    name = f"store_{next(_numbers)}"
    yield settings_for(embedded_postgres.create_database(name, template=migrated_template))
    embedded_postgres.drop_database(name)


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """A migrated database."""
    database = Database(postgres_engine(settings))
    yield database
    database.close()


@pytest.fixture
def ring() -> KeyRing:
    """The key ring of these tests."""
    return KeyRing(KEYS)


@pytest.fixture
def account_id(database: Database) -> str:
    """An account with nothing in it."""
    with database.begin() as connection:
        return accounts.create(connection, name="Acme").id
