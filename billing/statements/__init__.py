"""Statements: what an account owes for a month. Open, then a draft, then closed for good.

Until a month is closed its statement is made anew each time, with what the month's prices would come to now.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, RowMapping, func, select

from billing import periods
from billing.statements import period_rows, settlement
from billing.statements.body import Heading, body
from billing.statements.period_rows import AdjustmentRow
from billing.statements.settlement import Adjustment
from relay.errors import NotFound
from relay.store import accounts, rate_cards
from relay.store.accounts import Account
from relay.store.tables import ledger, statements

# Providers tell of calls for three days; what comes later is a correction in the next statement.
DRAFT: Final = timedelta(hours=72)
CLOSED: Final = "closed"


class State(StrEnum):
    """Open: the month is not over. Draft: it is, and late facts still count in it. Closed: nothing changes it."""

    OPEN = "open"
    DRAFT = "draft"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """An account's month.

    `body` is as billing.statements.body makes it; `sha256` (hex) is of its canonical form, None until it is closed.
    `number` is None while it is not closed, and for a closed month in which nothing was charged. `as_of` is when it
    was made.
    """

    account_id: str
    month: date
    state: State
    number: str | None
    currency: str | None
    total: Decimal
    sha256: str | None
    as_of: datetime
    closed_at: datetime | None
    body: dict[str, Any]


def of_month(connection: Connection, account_id: str, month: date, *, now: datetime) -> Statement:
    """The statement of a month: as it was closed, or provisional. Raises NotFound for a month that has not begun."""
    account = accounts.get(connection, account_id)
    found = _closed(connection, account_id, month)
    if found is not None:
        return _read(found)
    if periods.begins(month) > now:
        raise NotFound("this month has not begun")
    return _provisional(connection, account, month, now=now)


def numbered(connection: Connection, number: str) -> Statement:
    """A closed statement by its number. Raises NotFound."""
    this = select(statements).where(statements.c.number == number, statements.c.status == CLOSED)
    found = connection.execute(this).mappings().one_or_none()
    if found is None:
        raise NotFound("there is no closed statement by this number")
    return _read(found)


def listed(
    connection: Connection, account_id: str, *, now: datetime, before: date | None = None, limit: int
) -> list[Statement]:
    """An account's statements, the newest month first: those that are not closed yet, then those that have a number.

    `before` is the last month that was seen.
    """
    account = accounts.get(connection, account_id)
    waiting = [month for month in _not_closed(connection, account, now) if before is None or month < before]
    found = [of_month(connection, account_id, month, now=now) for month in waiting[:limit]]
    done = select(statements).where(statements.c.account_id == account_id, statements.c.status == CLOSED)
    if before is not None:
        done = done.where(statements.c.month < before)
    ordered = done.order_by(statements.c.month.desc()).limit(limit - len(found))
    return found + [_read(row) for row in connection.execute(ordered).mappings()]


def state_of(month: date, *, now: datetime, is_closed: bool) -> State:
    """In which state a month is. Pure."""
    if is_closed:
        return State.CLOSED
    return State.OPEN if now < periods.begins(periods.next_month(month)) else State.DRAFT


def draft_ends(month: date) -> datetime:
    """From when on a month is closed by itself."""
    return periods.begins(periods.next_month(month)) + DRAFT


def provisional_row(one: Adjustment, numbers: Mapping[tuple[str, date], str], *, account_id: str) -> AdjustmentRow:
    """An adjustment as the ledger would have it. `numbers` are those of the account's closed statements."""
    number = numbers.get((account_id, one.month), f"{one.month:%Y-%m}")
    return AdjustmentRow(
        line=settlement.LINE,
        conversation_id=one.conversation_id,
        sequence=one.sequence,
        rate_card_id=one.card_id,
        started_at=periods.begins(one.month),
        amount=one.amount,
        steps=list(one.steps),
        reference=None if one.month == one.period else number,
    )


def _provisional(connection: Connection, account: Account, month: date, *, now: datetime) -> Statement:
    cards = rate_cards.of_accounts(connection, [account.id])[account.id]
    # Between the two halves of closing some of them may be in the ledger; what is computed is the same.
    posted = period_rows.adjustments(connection, account.id, month)
    adjusted = [one for one in posted if one.line != settlement.LINE]
    # Closed without a statement: nothing was charged in it, or the account was not there yet.
    is_over = month < _first_not_closed(connection, account)
    is_empty = is_over and _began_closing(connection, account.id, month) is None
    if not is_empty:
        settled = settlement.settle(connection, account, month, cards=cards)
        numbers = periods.numbers(connection, {(account.id, one.month) for one in settled})
        adjusted += [provisional_row(one, numbers, account_id=account.id) for one in settled]
    said = body(
        Heading(account_id=account.id, account_name=account.name, month=month, number=None, currency=account.currency),
        lines=period_rows.lines(connection, account.id, month),
        adjustments=adjusted,
        unrated=period_rows.unrated(connection, account.id, month),
        digest=None,
    )
    return Statement(
        account_id=account.id,
        month=month,
        state=state_of(month, now=now, is_closed=is_empty),
        number=None,
        currency=account.currency,
        total=Decimal(said["total"]),
        sha256=None,
        as_of=now,
        closed_at=None,
        body=said,
    )


def _not_closed(connection: Connection, account: Account, now: datetime) -> list[date]:
    """The months that are open or drafts, the newest first."""
    month = _first_not_closed(connection, account)
    closing = select(statements.c.month).where(statements.c.account_id == account.id, statements.c.status != CLOSED)
    found = list(connection.execute(closing).scalars())
    while periods.begins(month) <= now:
        found.append(month)
        month = periods.next_month(month)
    return sorted(found, reverse=True)


def _first_not_closed(connection: Connection, account: Account) -> date:
    if account.closed_through is not None:
        return periods.next_month(account.closed_through)
    first_call = select(func.min(ledger.c.started_at)).where(ledger.c.account_id == account.id)
    began = connection.execute(first_call).scalar_one()
    return periods.month_of(min(account.created_at, began or account.created_at))


def _closed(connection: Connection, account_id: str, month: date) -> RowMapping | None:
    this = select(statements).where(statements.c.account_id == account_id, statements.c.month == month)
    return connection.execute(this.where(statements.c.status == CLOSED)).mappings().one_or_none()


def _began_closing(connection: Connection, account_id: str, month: date) -> str | None:
    this = select(statements.c.number).where(statements.c.account_id == account_id, statements.c.month == month)
    return connection.execute(this).scalar_one_or_none()


def _read(row: RowMapping) -> Statement:
    return Statement(
        account_id=row["account_id"],
        month=row["month"],
        state=State.CLOSED,
        number=row["number"],
        currency=row["currency"],
        total=row["total"],
        sha256=bytes(row["sha256"]).hex(),
        as_of=row["closed_at"],
        closed_at=row["closed_at"],
        body=msgspec.json.decode(row["body"]),
    )
