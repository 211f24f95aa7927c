"""When a call began chooses its card and its month."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial

import pytest
from sqlalchemy import func, select

from billing.ledger import charge
from relay.calls import TRUST_KEY, TRUST_PROVIDER, Facts
from relay.store import rate_cards
from relay.store.database import Database
from relay.store.tables import ledger
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


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("together", [True, False])
def test_the_word_that_counts_says_when_a_call_began_or_nobody_does(
    shared_database: Database, account_id: str, order: tuple[int, ...], together: bool
) -> None:
    """Without a start of its own the call is of when its end was told: so no order of events makes a difference."""
    about = partial(ended, account_id, seconds="600", accepted_at_ms=JULY_MS + 1, trust=TRUST_PROVIDER)
    events = [
        about(kind="call_ended", started_at_ms=milliseconds(LAST_OF_JUNE)),
        about(kind="call_analyzed", started_at_ms=None),
        about(kind="call_analyzed", started_at_ms=milliseconds(LONG_AGO), trust=TRUST_KEY),
    ]
    write(shared_database, [events[place] for place in order], together=together)
    assert by_month(shared_database, account_id) == {date(2026, 7, 1): Decimal(2)}
    assert violations(shared_database, account_id) == []
