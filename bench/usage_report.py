"""What a report of usage costs: a month of one busy account, beside ten times as many rows of others."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from statistics import median
from typing import Any

from sqlalchemy import Connection, event, text

from bench.lines import Line, at_most, line
from bench.stack import Stack
from billing import ranges, reports
from relay.connections import postgres_engine
from relay.store import accounts
from relay.store.database import Database

_TARGET_MS = 100
_REPORTS = 20
_OTHERS = 9
_CHUNK = 1_000_000
_MONTH = datetime(2026, 3, 1, tzinfo=UTC)
_MONTH_DAYS = 31
_YEAR_DAYS = 365

# As calls come: at any second of the days, of two providers, five templates with a tag each, a few of them failed.
_SHAPE = """
    SELECT n, CAST(:begins AS timestamptz) + CAST(n AS bigint) * 104729 % (:days * 86400) * interval '1 second' AS at,
        CASE n % 2 WHEN 0 THEN 'elevenlabs' ELSE 'retell' END AS provider, n % 5 + 1 AS template,
        CASE n % 20 WHEN 0 THEN 'failed' ELSE 'completed' END AS status, n % 300 + 1 AS seconds
    FROM generate_series(CAST(:first AS bigint), :last) n
"""
_LEDGER = f"""
    INSERT INTO ledger (account_id, provider, conversation_id, kind, sequence, session_id, template_id, rate_card_id,
        started_at, duration_seconds, billed_seconds, unit_price, exact, amount, currency, steps, quantity, period, tag)
    SELECT :account, provider, 'conv_' || n, 'charge', 1, n, template, 'rc_bench', at, seconds, seconds, 0.10,
        seconds / 600.0, round(seconds / 600.0, 6), 'USD', ARRAY[seconds || ' s on 1/1 bills ' || seconds || ' s'],
        seconds / 60.0, date_trunc('month', at AT TIME ZONE 'UTC')::date, 'tag_' || template
    FROM ({_SHAPE}) calls
"""
_SESSIONS = f"""
    INSERT INTO sessions (account_id, id, provider, conversation_id, template_id, status, started_at, ended_at,
        duration_seconds, billed_seconds, currency, cost, rate_card_id, charge_sequence, terminal_rank, terminal_trust,
        terminal_ms, created_at, completed_at, tag, rated_at)
    SELECT :account, n, provider, 'conv_' || n, template, status, at, at + seconds * interval '1 second', seconds,
        seconds, 'USD', round(seconds / 600.0, 6), 'rc_bench', 1, 2, 2, extract(epoch FROM at) * 1000, at,
        at + seconds * interval '1 second', 'tag_' || template, at
    FROM ({_SHAPE}) calls
"""
# The sums of the ledger's rows, by the same shape.
_QUARTERS = f"""
    INSERT INTO usage_quarters
    SELECT :account, date_bin('15 minutes', at, '2000-01-01Z'), provider, template, 'tag_' || template, status, 'USD',
        count(*), 0, sum(seconds), sum(seconds), sum(round(seconds / 600.0, 6)), sum(round(seconds / 600.0, 6))
    FROM ({_SHAPE}) calls GROUP BY 2, 3, 4, 5, 6
"""


def by_day(stack: Stack, *, ledger_rows: int) -> Iterator[Line]:
    """A tenth of the rows are one account's in one month; the others are those of nine accounts over a year.

    Sessions are written for the first account alone: nothing that is measured reads them.
    """
    database = Database(postgres_engine(stack.settings))
    sessions = max(1, ledger_rows // (_OTHERS + 1))
    busy = _filled(database, sessions, begins=_MONTH, days=_MONTH_DAYS, statements=(_LEDGER, _SESSIONS, _QUARTERS))
    for _ in range(_OTHERS):
        year = _MONTH.replace(month=1)
        _filled(database, sessions, begins=year, days=_YEAR_DAYS, statements=(_LEDGER, _QUARTERS))
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE usage_quarters"))
    yield line("usage by day, a month, p50", _milliseconds(database, busy), "ms", at_most(_TARGET_MS))
    yield from _plan(database, busy)
    yield from _sizes(database)
    database.close()


def _filled(database: Database, sessions: int, *, begins: datetime, days: int, statements: tuple[str, ...]) -> str:
    with database.begin() as connection:
        account_id = accounts.create(connection, name="bench").id
        currency = text("UPDATE accounts SET currency = 'USD' WHERE id = :id")
        connection.execute(currency, {"id": account_id})
    for statement in statements:
        # Sums need all calls at once; rows are written a million at a time.
        size = sessions if statement is _QUARTERS else _CHUNK
        for first in range(1, sessions + 1, size):
            last = min(first + size - 1, sessions)
            given = {"account": account_id, "begins": begins, "days": days, "first": first, "last": last}
            with database.begin() as connection:
                connection.execute(text("SET LOCAL synchronous_commit = off"))
                connection.execute(text(statement), given)
    return account_id


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
