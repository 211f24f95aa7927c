"""Bringing the schema up to date while everything else goes on.

Each migration is a transaction of its own and waits for a lock for a few seconds only: whoever queues behind a waiting
ALTER TABLE would wait with it. Indexes on large tables are built concurrently, outside of any transaction.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.exc import OperationalError

from relay.connections import postgres_engine
from relay.settings import Settings
from relay.store import partitions
from relay.store.database import Database, translated
from relay.telemetry import logs

MIGRATIONS: Final = Path(__file__).parent / "migrations"
# One number per purpose, any number: all processes that migrate this database take turns by it.
_TURN: Final = 5_773_630_041
# Asked again and again rather than waited for: a statement that waits has a snapshot, and a concurrent index waits for
# every older snapshot, its own followers' too.
_TURN_SECONDS: Final = 0.2
_LOCK_TIMEOUT: Final = "5s"
# As often a lock is asked for, with a pause in which the others pass.
_TRIES: Final = 60
_PAUSE_SECONDS: Final = 2.0
# SQLSTATEs: a lock was not granted in time, and a deadlock.
_LOCKED: Final = frozenset({"55P03", "40P01"})


def migrate(settings: Settings) -> None:
    """Bring the schema to the newest revision and make the partitions of the coming days.

    Safe to run anywhere, any number of times, in several processes at once: they take turns. Raises as Database does;
    Unavailable also when a table stayed locked for minutes.
    """
    database = Database(postgres_engine(settings, pool_size=2))
    try:
        with translated(), _turn(database.engine):
            _upgrade(database.engine)
            with database.begin() as connection:
                partitions.ensure(connection, datetime.now(UTC).date())
    finally:
        database.close()


def current_revision(connection: Connection) -> str | None:
    """The revision of this database; None when it was never migrated."""
    return MigrationContext.configure(connection).get_current_revision()


def head_revision() -> str | None:
    """The newest revision that this code knows."""
    return ScriptDirectory.from_config(_alembic()).get_current_head()


@contextmanager
def _turn(engine: Engine) -> Iterator[None]:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while not connection.execute(select(func.pg_try_advisory_lock(_TURN))).scalar_one():
            time.sleep(_TURN_SECONDS)
        try:
            yield
        finally:
            connection.execute(select(func.pg_advisory_unlock(_TURN)))


def _upgrade(engine: Engine) -> None:
    for left in reversed(range(_TRIES)):
        try:
            with engine.connect() as connection:
                # A migration may take longer than any other statement.
                for name, limit in (("statement_timeout", "0"), ("lock_timeout", _LOCK_TIMEOUT)):
                    connection.execute(select(func.set_config(name, limit, False)))
                connection.commit()
                config = _alembic()
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except OperationalError as error:
            if not left or getattr(error.orig, "sqlstate", None) not in _LOCKED:
                raise
            logs.warning("migration_postponed", error=error)
            time.sleep(_PAUSE_SECONDS)
        else:
            return


def _alembic() -> Config:
    config = Config()
    # Alembic interpolates percent signs in its options.
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config
