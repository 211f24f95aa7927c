"""What closing a month of a million calls takes, and recomputing its statement from the frozen inputs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import islice

from sqlalchemy import func, select, text

from bench.filling import filled
from bench.lines import Line, at_most, line
from bench.stack import Stack
from billing.statements import closing, verifying
from relay.connections import postgres_engine
from relay.store.database import Database
from relay.store.tables import ledger

_TARGET_SECONDS = 180
_MONTH = date(2026, 3, 1)
_DAYS = 31
# Every tier is reached, so that the month has a price of its own.
_TIERS = {
    "model": "graduated",
    "tiers": [
        {"upTo": "1000", "unitPrice": "0.10"},
        {"upTo": "100000", "unitPrice": "0.08"},
        {"upTo": None, "unitPrice": "0.05"},
    ],
}


def month(stack: Stack, *, calls: int) -> Iterator[Line]:
    """One account's calls of one month, in a database of their own size."""
    database = Database(postgres_engine(stack.settings))
    begins = datetime(_MONTH.year, _MONTH.month, 1, tzinfo=UTC)
    account_id = filled(database, calls, begins=begins, days=_DAYS, month_price=_TIERS)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE ledger"))
    charged = _sum(database, account_id)
    began = time.perf_counter()
    (closed,) = closing.close(database, account_id, _MONTH, actor="bench", now=datetime.now(UTC))
    seconds = time.perf_counter() - began
    if closed.number is None or not 0 < closed.total < charged:
        raise RuntimeError(f"a month of {charged} was closed with {closed.total}")
    yield line(f"closing a month of {calls:,} calls", seconds, "s", at_most(_TARGET_SECONDS))
    began = time.perf_counter()
    with database.begin() as connection:
        found = list(islice(verifying.verify(connection, account_id, _MONTH), 1))
    if found:
        raise RuntimeError(f"the statement does not follow from its ledger: {found[0]}")
    yield line(f"verifying a month of {calls:,} calls", time.perf_counter() - began, "s")
    database.close()


def _sum(database: Database, account_id: str) -> Decimal:
    with database.begin() as connection:
        total = select(func.sum(ledger.c.amount)).where(ledger.c.account_id == account_id)
        return Decimal(connection.execute(total).scalar_one())
