"""What a report of usage costs: a month of one busy account, beside ten times as many rows of others."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from statistics import median
from typing import Any

from sqlalchemy import Connection, event, text

from bench.filling import filled
from bench.lines import Line, at_most, line
from bench.stack import Stack
from billing import reports
from billing.reports import ranges
from relay.connections import postgres_engine
from relay.store.database import Database

_TARGET_MS = 100
_REPORTS = 20
_OTHERS = 9
_MONTH = datetime(2026, 3, 1, tzinfo=UTC)
_MONTH_DAYS = 31
_YEAR_DAYS = 365


def by_day(stack: Stack, *, ledger_rows: int) -> Iterator[Line]:
    """A tenth of the rows are one account's in one month; the others are those of nine accounts over a year.

    Sessions are written for the first account alone: nothing that is measured reads them.
    """
    database = Database(postgres_engine(stack.settings))
    sessions = max(1, ledger_rows // (_OTHERS + 1))
    busy = filled(database, sessions, begins=_MONTH, days=_MONTH_DAYS)
    for _ in range(_OTHERS):
        filled(database, sessions, begins=_MONTH.replace(month=1), days=_YEAR_DAYS, with_sessions=False)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE usage_quarters"))
    yield line("usage by day, a month, p50", _milliseconds(database, busy), "ms", at_most(_TARGET_MS))
    yield from _plan(database, busy)
    yield from _sizes(database)
    database.close()


def _milliseconds(database: Database, account_id: str) -> float:
    spent = []
    for _ in range(_REPORTS):
        with database.begin() as connection:
            began = time.perf_counter()
            _report(connection, account_id)
            spent.append((time.perf_counter() - began) * 1000)
    return median(spent)


def _report(connection: Connection, account_id: str) -> None:
    within = ranges.month(_MONTH.year, _MONTH.month, tz="Europe/Berlin")
    found = reports.usage(connection, account_id=account_id, within=within, by=["day"])
    if not found.totals.sessions:
        raise RuntimeError("the month is empty")


def _plan(database: Database, account_id: str) -> Iterator[Line]:
    """How Postgres reads for the very statement that is measured."""
    sent: list[tuple[str, Any]] = []

    def note(*given: Any) -> None:
        sent.append((given[2], given[3]))

    with database.begin() as connection:
        event.listen(connection, "before_cursor_execute", note)
        _report(connection, account_id)
        event.remove(connection, "before_cursor_execute", note)
        statement, parameters = sent[0]
        explained = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)
        (found,) = explained.scalar_one()
    for node in _nodes(found["Plan"]):
        if node.get("Relation Name") == "usage_quarters":
            index = next((inner["Index Name"] for inner in _nodes(node) if "Index Name" in inner), "no index")
            how = f"{node['Node Type'].lower()}, {index}"
            removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
            yield line(f"usage by day, read by {how}", node["Actual Rows"] * node["Actual Loops"], "rows")
            yield line(f"usage by day, read and left by {how}", removed, "rows", at_most(0))


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for inner in node.get("Plans", ()):
        yield from _nodes(inner)


def _sizes(database: Database) -> Iterator[Line]:
    for table in ("usage_quarters", "ledger", "sessions"):
        with database.begin() as connection:
            count = connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
        yield line(f"usage by day, rows of {table} in all", count, "rows")
