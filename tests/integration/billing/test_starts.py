"""When a call began chooses its card and its month, whichever of its events tells of it."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial

import pytest
from sqlalchemy import func, select

from billing.ledger import charge
from relay.calls import TRUST_KEY, TRUST_PROVIDER, TRUST_SOURCE, Facts
from relay.store import rate_cards
from relay.store.database import Database
from relay.store.tables import ledger, sessions
from tests.integration.billing.told import an_account, ended, violations

JULY = datetime(2026, 7, 1, tzinfo=UTC)
JULY_MS = int(JULY.timestamp() * 1000)
LAST_OF_JUNE = datetime(2026, 6, 30, 23, 59, tzinfo=UTC)
LONG_AGO = datetime(2026, 2, 1, tzinfo=UTC)


def milliseconds(moment: datetime) -> int:
    """A time as providers tell it."""
    return int(moment.timestamp() * 1000)


@pytest.fixture
def account_id(shared_database: Database) -> str:
    """An account at 0.10 USD a minute until June, and at 0.20 from July on."""
    made = an_account(shared_database)
    with shared_database.begin() as connection:
        rate_cards.add(connection, made, per_minute=Decimal("0.20"), effective_from=JULY)
    return made


def write(database: Database, events: list[Facts], *, together: bool) -> None:
    """Charge events in one batch, or in one each."""
    for batch in [events] if together else [[event] for event in events]:
        with database.begin() as connection:
            charge(connection, batch)


def by_month(database: Database, account_id: str) -> dict[date, Decimal]:
    """What counts in each month, where that is anything."""
    sums = select(ledger.c.period, func.sum(ledger.c.amount)).where(ledger.c.account_id == account_id)
    with database.begin() as connection:
        return {row[0]: row[1] for row in connection.execute(sums.group_by(ledger.c.period)) if row[1]}


def started(database: Database, account_id: str) -> list[datetime]:
    """When the account's sessions began."""
    with database.begin() as connection:
        return list(
            connection.execute(select(sessions.c.started_at).where(sessions.c.account_id == account_id)).scalars()
        )


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("together", [True, False])
def test_a_start_that_the_last_word_does_not_tell_is_taken_from_another(
    shared_database: Database, account_id: str, order: tuple[int, ...], together: bool
) -> None:
    """One that is worth as much, whichever comes first; what an account says itself chooses nothing then."""
    about = partial(ended, account_id, seconds="600", accepted_at_ms=JULY_MS + 1, trust=TRUST_PROVIDER)
    events = [
        about(kind="call_ended", started_at_ms=milliseconds(LAST_OF_JUNE)),
        about(kind="call_analyzed", started_at_ms=None),
        about(kind="call_analyzed", started_at_ms=milliseconds(LONG_AGO), trust=TRUST_KEY),
    ]
    write(shared_database, [events[place] for place in order], together=together)
    assert by_month(shared_database, account_id) == {date(2026, 6, 1): Decimal(1)}
    assert started(shared_database, account_id) == [LAST_OF_JUNE]
    assert violations(shared_database, account_id) == []


@pytest.mark.parametrize("order", list(itertools.permutations(range(2))))
def test_a_start_of_less_worth_than_the_word_that_counts_chooses_nothing(
    shared_database: Database, account_id: str, order: tuple[int, ...]
) -> None:
    """Nobody chooses an old price for a call by saying when it began."""
    events = [
        ended(account_id, started_at_ms=milliseconds(LONG_AGO), accepted_at_ms=JULY_MS, trust=TRUST_SOURCE),
        ended(account_id, seconds="600", started_at_ms=None, accepted_at_ms=JULY_MS, trust=TRUST_PROVIDER),
    ]
    write(shared_database, [events[place] for place in order], together=False)
    assert by_month(shared_database, account_id) == {date(2026, 7, 1): Decimal(2)}
    assert violations(shared_database, account_id) == []


def test_a_start_that_comes_late_is_known_where_the_call_cannot_be_rated(
    shared_database: Database, account_id: str
) -> None:
    """It is rated by it once its duration is told."""
    about = partial(ended, account_id, accepted_at_ms=JULY_MS + 1, trust=TRUST_PROVIDER)
    silent = about(kind="call_analyzed", seconds=None, started_at_ms=None)
    began = about(kind="call_ended", seconds=None, started_at_ms=milliseconds(LAST_OF_JUNE))
    told = about(kind="call_analyzed", seconds="600", started_at_ms=None, accepted_at_ms=JULY_MS + 2)
    write(shared_database, [silent, began, told], together=False)
    assert by_month(shared_database, account_id) == {date(2026, 6, 1): Decimal(1)}
