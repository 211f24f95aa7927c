"""Which months are over is told by Postgres' clock: closing cannot be undone, and a host's own may be anywhere."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import pytest

from billing.statements import closing
from relay.store import accounts
from relay.store.database import Database
from tests.integration.billing.months import JULY, JUNE, Books, books, following
from tests.integration.billing.told import run
from workers.close import close_months


class Ahead(datetime):
    """The clock of a host that is two years ahead."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Any:
        return datetime.now(tz) + timedelta(days=730)


@pytest.fixture
def acme(shared_database: Database) -> Books:
    """An account that calls in June and July."""
    made = books(shared_database)
    made.card()
    made.talk(("a", 60, JUNE), ("b", 60, JULY))
    return made


def closed_through(one: Books) -> str | None:
    with one.database.begin() as connection:
        last = accounts.get(connection, one.account_id).closed_through
    return None if last is None else f"{last:%Y-%m}"


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """This host's clock is two years ahead."""
    for module in ("workers.close", "relay.cli.billing.closing"):
        monkeypatch.setattr(f"{module}.datetime", Ahead, raising=False)


@pytest.mark.usefixtures("ahead")
def test_a_worker_whose_clock_is_ahead_closes_no_month_that_is_not_over(acme: Books) -> None:
    """Only those that are over by Postgres'."""
    now = datetime.now(UTC)
    close_months(acme.database)
    through = closed_through(acme)
    assert through is not None
    assert through < f"{now:%Y-%m}"


@pytest.mark.usefixtures("ahead")
def test_the_command_closes_no_month_that_is_not_over(acme: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the clock of the host on which it is given."""
    month = f"{datetime.now(UTC):%Y-%m}"
    refused = run(acme.database, monkeypatch, "close", month, "--now", "--account", acme.account_id)
    assert refused.exit_code == 1
    assert "is not over" in refused.output
    assert closed_through(acme) is None


def test_closing_begins_no_further_account_when_it_is_to_end(acme: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery waits for what is under way; the next hour goes on."""
    other = books(acme.database)
    other.card()
    other.talk(("x", 60))
    begun: list[str] = []
    close = closing.close

    def counted(database: Database, account_id: str, *given: Any, **named: Any) -> Any:
        begun.append(account_id)
        return close(database, account_id, *given, **named)

    monkeypatch.setattr(closing, "close", counted)
    later = following(JULY) + timedelta(days=4)
    close_months(acme.database, now=later, goes_on=lambda: not begun)
    assert len(begun) == 1
    close_months(acme.database, now=later)
    assert {closed_through(acme), closed_through(other)} == {"2026-07"}
