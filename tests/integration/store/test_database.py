"""Transactions, and the errors of Postgres in our words."""

from __future__ import annotations

import time
import traceback
from contextlib import ExitStack, closing
from dataclasses import replace

import pytest
from sqlalchemy import text

from relay.connections import postgres_engine
from relay.errors import Conflict, NotFound, SwitchhookError, Unavailable
from relay.settings import Settings
from relay.store import accounts
from relay.store.database import Database, StatementRefused

SECRET = "a value that must not leave the database"


def test_commits_at_the_end_and_rolls_back_when_the_block_raises(database: Database) -> None:
    """A block that raises leaves nothing behind."""
    with database.begin() as connection:
        accounts.create(connection, name="kept")
    with pytest.raises(NotFound), database.begin() as connection:
        accounts.create_key(connection, account_id=accounts.create(connection, name="dropped").id + "x")

    with database.begin() as connection:
        assert [account.name for account in accounts.every(connection)] == ["kept"]


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("INSERT INTO accounts (id, name) VALUES (:value, 'a'), (:value, 'b')", Conflict),
        ("INSERT INTO api_keys (id, account_id, prefix, sha256) VALUES ('k', :value, 'p', sha256('a'))", NotFound),
        ("SELECT CAST(:value AS integer)", StatementRefused),
        ("SELECT * FROM nowhere WHERE a = :value", StatementRefused),
        # A backend that is told to stop in the middle of a statement: the connection is lost.
        ("SELECT pg_terminate_backend(pg_backend_pid()), :value", Unavailable),
        ("SELECT set_config('statement_timeout', '1', true), :value; SELECT pg_sleep(60)", Unavailable),
    ],
)
def test_errors_are_translated_without_statement_or_values(
    database: Database, statement: str, expected: type[SwitchhookError]
) -> None:
    """Neither the error nor its printed traceback holds what was sent."""
    bound = text(statement.replace(":value", f"'{SECRET}'"))
    with pytest.raises(SwitchhookError) as raised, database.begin() as connection:
        connection.execute(bound)

    assert type(raised.value) is expected
    printed = "".join(line for line in traceback.format_exception(raised.value) if not line.startswith("  File"))
    assert SECRET not in printed
    assert "SELECT" not in str(raised.value)


def test_an_unreachable_postgres_is_unavailable(settings: Settings) -> None:
    """Nothing listens: the sender is asked to come back, and the URL is not told."""
    away = replace(settings, database_url="postgresql+psycopg://someone:hunter2@127.0.0.1:1/nowhere")
    database = Database(postgres_engine(away))
    with pytest.raises(Unavailable) as raised, database.begin():
        pytest.fail("there is no server to begin on")

    assert "hunter2" not in str(raised.value)
    assert raised.value.retry_after_seconds


def test_a_pool_without_a_free_connection_is_unavailable_soon(settings: Settings) -> None:
    """A Postgres that hangs keeps what it was asked on; nobody waits for one of those connections for long."""
    database = Database(postgres_engine(settings, pool_size=1, wait_seconds=0.05))
    with closing(database), ExitStack() as held:
        for _ in range(5):  # and four more for a rush
            held.enter_context(database.begin())
        began = time.monotonic()
        with pytest.raises(Unavailable), database.begin():
            pass
        assert time.monotonic() - began < 5
