"""Months: which one a row of the ledger counts in, and how charging and closing keep out of each other's way.

A row counts in the month (UTC) in which its call began. Once that month is closed for its account it counts in the
first open one, with the closed statement's number as its reference. Whoever posts holds a shared lock on the account
from before it reads which months are closed; whoever closes one takes that lock alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, date, datetime
from typing import Final

from sqlalchemy import Connection, select, text

from relay.store.tables import accounts, statements

# The first of the two numbers that name an advisory lock; the second is the account's hash. Two accounts that share
# one wait for each other now and then, and nothing else.
_LOCK_CLASS: Final = 577_363

_SHARE: Final = text("""
    SELECT count(pg_advisory_xact_lock_shared(:class, key))
    FROM (SELECT DISTINCT hashtext(id) AS key FROM unnest(CAST(:accounts AS text[])) AS id ORDER BY key) keys
""")
_ALONE: Final = text("SELECT pg_advisory_xact_lock(:class, hashtext(:account))")


def month_of(moment: datetime) -> date:
    """The first day of the month (UTC) that a moment is in."""
    return moment.astimezone(UTC).date().replace(day=1)


def next_month(month: date) -> date:
    """The first day of the month after."""
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


def begins(month: date) -> datetime:
    """The first moment of a month."""
    return datetime(month.year, month.month, 1, tzinfo=UTC)


def period_of(started_at: datetime, closed_through: date | None) -> tuple[date, bool]:
    """The month that a row counts in, and whether it belongs to an earlier one that is closed."""
    month = month_of(started_at)
    if closed_through is None or month > closed_through:
        return month, False
    return next_month(closed_through), True


def share(connection: Connection, account_ids: Collection[str]) -> dict[str, date]:
    """Keep these accounts' months from being closed until the transaction ends. Returns through which they are."""
    connection.execute(_SHARE, {"class": _LOCK_CLASS, "accounts": list(account_ids)})
    closed = select(accounts.c.id, accounts.c.closed_through).where(
        accounts.c.id.in_(account_ids), accounts.c.closed_through.is_not(None)
    )
    return {row.id: row.closed_through for row in connection.execute(closed)}


def alone(connection: Connection, account_id: str) -> None:
    """Wait for all who post to this account, and keep others from it until the transaction ends."""
    connection.execute(_ALONE, {"class": _LOCK_CLASS, "account": account_id})


def numbers(connection: Connection, months: Collection[tuple[str, date]]) -> Mapping[tuple[str, date], str]:
    """The numbers of closed statements, by account and month; a month without any calls has none."""
    if not months:
        return {}
    listed = select(statements.c.account_id, statements.c.month, statements.c.number).where(
        statements.c.account_id.in_({account_id for account_id, _ in months}), statements.c.number.is_not(None)
    )
    return {(row.account_id, row.month): row.number for row in connection.execute(listed)}
