"""Postgres restored from a backup: what it has forgotten of the books is made again from what Redis has kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from sqlalchemy.engine import make_url

from relay.demo.embedded import EmbeddedPostgres
from relay.store import sessions
from tests.customers import Customer
from tests.stack import Stack
from tests.traffic import Traffic
from tests.waiting import eventually

COMMAND_SECONDS = 60


class Backups:
    """Copies of a stack's database, and their return; nobody reaches it meanwhile."""

    def __init__(self, stack: Stack, postgres: EmbeddedPostgres) -> None:
        self._stack = stack
        self._postgres = postgres
        self.name = str(make_url(stack.settings.database_url).database)
        self.backup = f"{self.name}_backup"

    def take(self) -> datetime:
        """Copy it as it is now; when that was."""
        with self._alone() as connection:
            moment = datetime.now(UTC)
            connection.execute(SQL("CREATE DATABASE {} TEMPLATE {}").format(Identifier(self.backup), self._this))
        return moment

    def restore(self) -> None:
        """Put the copy in its place."""
        with self._alone() as connection:
            connection.execute(SQL("DROP DATABASE {}").format(self._this))
            connection.execute(SQL("ALTER DATABASE {} RENAME TO {}").format(Identifier(self.backup), self._this))

    @property
    def _this(self) -> Identifier:
        return Identifier(self.name)

    @contextmanager
    def _alone(self) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
        """Close every connection to the database, and let in none until the block ends."""
        self._stack.database.close()
        with psycopg.connect(self._postgres.url_of("postgres"), autocommit=True) as connection:
            connection.execute(SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(self._this))
            end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = %s"
            eventually(
                lambda: connection.execute(end, [self.name]).fetchone() == (0,),
                within_seconds=10,
                what="nobody connected",
            )
            yield connection
            connection.execute(SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(self._this))


@pytest.mark.parametrize("calls", [60, pytest.param(6_000, marks=pytest.mark.heavy)], ids=["smoke", "heavy"])
def test_the_ledger_is_made_again_to_the_last_charge(
    stack: Stack, traffic: Traffic, customer: Customer, embedded_postgres: EmbeddedPostgres, calls: int
) -> None:
    """F26: each call of before is charged once and costs what it did; what was accepted meanwhile goes on by itself."""
    patience = 30 + calls / 100
    backups = Backups(stack, embedded_postgres)
    web, worker = stack.start("web", "worker")
    with traffic.steady(range(calls // 3), per_second=300):
        pass
    stack.await_settled(customer, within_seconds=patience)
    since = backups.take()
    template = customer.template(None)
    begun = customer.session(template.template.id)
    with traffic.steady(range(calls // 3, calls), per_second=300):
        pass
    stack.await_settled(customer, within_seconds=patience)
    before = books(stack, customer)
    assert len(before) == calls
    worker.terminate()
    assert worker.wait() == 0

    backups.restore()
    assert len(books(stack, customer)) == calls // 3
    assert traffic.send(calls) == 200  # web needs no Postgres for that
    recharged = stack.spawn("billing", "recharge", "--since", since.isoformat(), "--json")
    assert recharged.wait(COMMAND_SECONDS + patience) == 0

    told = json.loads(recharged.stdout.read_text().splitlines()[-1])
    assert told["counts"]["charged"] == calls - calls // 3
    assert (told["different"], told["missingAccounts"], told["configurations"]) == (0, [], 1)
    assert books(stack, customer) == before
    with stack.database.begin() as connection:
        assert sessions.next_id(connection) > begun
    stack.start("worker")
    eventually(
        lambda: len(books(stack, customer)) == calls + 1, within_seconds=15, what="the call of meanwhile charged"
    )
    assert {row for row in books(stack, customer) if row[0] != f"call_{calls}"} == set(before)
    assert web.is_running
    assert stack.scrape()["switchhook_unaccounted_events"] == 0


def books(stack: Stack, customer: Customer) -> list[tuple[object, ...]]:
    """The customer's ledger without its rows' numbers and when they were written."""
    return sorted(
        (row.conversation_id, row.kind, row.sequence, row.amount, row.billed_seconds, row.session_id, row.rate_card_id)
        for row in stack.charges(customer)
    )
