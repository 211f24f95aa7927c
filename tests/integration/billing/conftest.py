"""A database for all tests of a module, each of which makes accounts of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from relay.connections import postgres_engine
from relay.demo.embedded import EmbeddedPostgres
from relay.settings import Settings
from relay.store.database import Database


@pytest.fixture(scope="module")
def shared_database(embedded_postgres: EmbeddedPostgres, migrated_template: str) -> Iterator[Database]:
    """A migrated database of the module's own."""
    name = f"shared_{os.urandom(4).hex()}"
    url = embedded_postgres.create_database(name, template=migrated_template)
    url = url.replace("postgresql://", "postgresql+psycopg://", 1)
    database = Database(postgres_engine(Settings(database_url=url, redis_url="", keys="")))
    yield database
    database.close()
    embedded_postgres.drop_database(name)
