"""Partitions of `deliveries` and `attempts`: one for each day, made ahead, dropped when retention ends.

A DEFAULT partition takes what has no day of its own, so that nothing is ever refused; `ensure` moves such rows to
their day.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Final

from sqlalchemy import Connection, Date, TextClause, bindparam, func, select, text

from relay.store.tables import attempts, deliveries, events

DAYS_AHEAD: Final = 14
PARTITIONED: Final = (deliveries.name, attempts.name)
# One number for this purpose, any number: processes that make or drop partitions take turns on it.
_LOCK: Final = 5_773_630_042
# A statement that waits longer for its table lock gives up: all who come after it would wait behind it.
_LOCK_TIMEOUT: Final = "5s"


def ensure(connection: Connection, today: date, days_ahead: int = DAYS_AHEAD) -> list[str]:
    """Make what is missing from yesterday to `days_ahead` days from `today` (UTC); returns the names made.

    Safe to repeat and in several processes at once. Raises Unavailable (through Database) when tables stay locked.
    """
    _take_turns(connection)
    days = [today + timedelta(days=offset) for offset in range(-1, days_ahead + 1)]
    made: list[str] = []
    for table in PARTITIONED:
        present = _days(connection, table)
        made += [_make(connection, table, day) for day in days if day not in present]
    return made


def missing(connection: Connection, today: date, *, days_ahead: int) -> list[str]:
    """The partitions of today and so many days after it that are not there, by name."""
    days = [today + timedelta(days=offset) for offset in range(days_ahead + 1)]
    present = {table: _days(connection, table) for table in PARTITIONED}
    return [_name(table, day) for table in PARTITIONED for day in days if day not in present[table]]


def drop_before(connection: Connection, day: date) -> list[str]:
    """Forget deliveries, attempts and events from before a day (UTC); returns the names of the partitions dropped."""
    _take_turns(connection)
    dropped: list[str] = []
    for table in PARTITIONED:
        for old in sorted(_days(connection, table)):
            if old < day:
                connection.execute(text(f"DROP TABLE {_name(table, old)}"))
                dropped.append(_name(table, old))
        connection.execute(_of_day(f"DELETE FROM {table}_default WHERE day < :day"), {"day": day})  # noqa: S608
    connection.execute(events.delete().where(events.c.day < day))
    return dropped


def _take_turns(connection: Connection) -> None:
    connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
    connection.execute(select(func.set_config("lock_timeout", _LOCK_TIMEOUT, True)))
    # Moving and dropping a day's rows may take longer than any other statement.
    connection.execute(select(func.set_config("statement_timeout", "0", True)))


def _name(table: str, day: date) -> str:
    return f"{table}_{day:%Y%m%d}"


def _days(connection: Connection, table: str) -> set[date]:
    """The days that have a partition, read from the partitions' names."""
    children = text("SELECT relname FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE inhparent = :t ::regclass")
    suffixes = (name.removeprefix(f"{table}_") for name in connection.execute(children, {"t": table}).scalars())
    return {date.fromisoformat(suffix) for suffix in suffixes if suffix.isdigit()}


def _make(connection: Connection, table: str, day: date) -> str:
    # Made apart and then attached: that locks the parent less than PARTITION OF does, and rows that went to the
    # default partition can move over first. Names and days are ours, never input.
    name, default = _name(table, day), f"{table}_default"
    connection.execute(text(f"CREATE TABLE {name} (LIKE {table} INCLUDING ALL)"))
    connection.execute(text(f"LOCK TABLE {default} IN ACCESS EXCLUSIVE MODE"))
    moved = f"WITH moved AS (DELETE FROM {default} WHERE day = :day RETURNING *) INSERT INTO {name} SELECT * FROM moved"  # noqa: S608
    connection.execute(_of_day(moved), {"day": day})
    ends = day + timedelta(days=1)
    connection.execute(text(f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ('{day}') TO ('{ends}')"))
    return name


def _of_day(statement: str) -> TextClause:
    return text(statement).bindparams(bindparam("day", type_=Date))
