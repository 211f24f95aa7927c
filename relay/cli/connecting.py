"""What commands read and write, by the settings of the environment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from sqlalchemy import Connection

from relay.connections import postgres_engine
from relay.settings import Settings
from relay.store.database import Database


@contextmanager
def connected(settings: Settings | None = None, *, pool_size: int = 1) -> Iterator[Database]:
    """The database while a command needs it, with at most so many connections; by `settings` if they are read already.

    Raises SettingsError if the environment makes no sense.
    """
    with closing(Database(postgres_engine(settings or Settings.from_environ(), pool_size=pool_size))) as database:
        yield database


@contextmanager
def reading(settings: Settings | None = None) -> Iterator[Connection]:
    """One transaction on a connection of its own, for all that a command shows. Raises as `connected` does."""
    with connected(settings) as database, database.begin() as connection:
        yield connection
