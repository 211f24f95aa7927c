"""Closing a month: its statement gets a number, is frozen, and is hashed.

In two halves. The first is short and alone with the account: it decides that the month is closed, so that whatever is
posted from then on counts in the next one. The second takes its time: the rows of the month stand still by then. A
process that dies in between leaves a statement that is `closing`; running it again ends it, with the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Final

from sqlalchemy import Connection, func, select

from billing import periods, statements
from billing.statements import period_rows, settlement
from billing.statements.body import Heading, Json, body, canonical, sha256
from billing.statements.numbering import next_number
from relay.errors import Conflict
from relay.store import accounts as account_rows
from relay.store import audit, notices, rate_cards
from relay.store.accounts import Account
from relay.store.database import Database
from relay.store.rate_cards import Cards
from relay.store.tables import accounts
from relay.store.tables import statements as statement_rows

CLOSING: Final = "closing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """A month that is closed now. `number` None: nothing was charged in it, and there is no statement."""

    account_id: str
    month: date
    number: str | None
    total: Decimal
    currency: str | None
    sha256: str | None


Step = Callable[[str, date], None]
"""Told of an account and a month whose statement is about to be made."""


def close(
    database: Database,
    account_id: str,
    month: date,
    *,
    actor: str,
    now: datetime,
    early: bool = False,
    on_step: Step | None = None,
    on_closed: Callable[[Closed], None] | None = None,
) -> list[Closed]:
    """Close an account's months up to and with this one, in order; those that it closed now. Safe to repeat.

    `early`: without waiting for the end of the draft's 72 hours. `on_closed` is told of each statement once it is
    committed, and may be told twice by a process that died in between. Raises NotFound for the account, and Conflict:
    `month_open` for a month that is not over, `month_in_draft` for one whose late facts are still waited for.
    """
    check(month, now=now, early=early)
    done: list[Closed] = []
    while True:
        with database.begin() as connection:
            begun = _begin(connection, account_id, month, actor=actor)
        if begun is None:
            return done
        if on_step is not None:
            on_step(account_id, begun)
        closed = _end(database, account_id, begun, actor=actor)
        if closed is not None:
            done.append(closed)
            if on_closed is not None:
                on_closed(closed)


def due(connection: Connection, *, now: datetime) -> tuple[date, list[str]]:
    """The newest month whose draft is over, and the accounts whose months up to it are not closed yet."""
    month = last_due(now)
    waiting = select(accounts.c.id).where(
        accounts.c.closed_through.is_(None)
        | (accounts.c.closed_through < month)
        | accounts.c.id.in_(select(statement_rows.c.account_id).where(statement_rows.c.status == CLOSING))
    )
    return month, list(connection.execute(waiting.order_by(accounts.c.id)).scalars())


def last_due(now: datetime) -> date:
    """The newest month whose draft is over. Pure."""
    return _previous(periods.month_of(now - statements.DRAFT))


def waiting(connection: Connection, month: date, *, account_id: str | None = None) -> Iterator[tuple[str, date]]:
    """What closing this month would make statements of, in order: accounts, and months with anything in them."""
    found = [account_rows.get(connection, account_id)] if account_id else account_rows.every(connection)
    for account in found:
        unfinished = _unfinished(connection, account.id)
        if unfinished is not None:
            yield account.id, unfinished
        cards = rate_cards.of_accounts(connection, [account.id])[account.id]
        first = _first_month(connection, account)
        while first <= month:
            next_one = _next_with_anything(connection, account, cards, first, month)
            if next_one is None:
                break
            yield account.id, next_one
            first = periods.next_month(next_one)


def check(month: date, *, now: datetime, early: bool) -> None:
    """Raises Conflict for a month that may not be closed now, as `close` does. Pure."""
    if now < periods.begins(periods.next_month(month)):
        raise Conflict("this month is not over", code="month_open", field="month")
    if not early and now < statements.draft_ends(month):
        text = f"late facts of this month are waited for until {statements.draft_ends(month):%Y-%m-%d %H:%M} UTC"
        raise Conflict(text, code="month_in_draft", field="month")


def _begin(connection: Connection, account_id: str, month: date, *, actor: str) -> date | None:
    """The first half: the month whose statement is to be made now, and None when all up to `month` are closed.

    What another process left unfinished comes first: a later month's adjustments follow from an earlier one's.
    """
    periods.alone(connection, account_id)
    account = account_rows.get(connection, account_id)
    unfinished = _unfinished(connection, account_id)
    if unfinished is not None:
        return unfinished
    first = _first_month(connection, account)
    if first > month:
        return None
    cards = rate_cards.of_accounts(connection, [account_id])[account_id]
    found = _next_with_anything(connection, account, cards, first, month)
    # Months without anything are closed on the way.
    closed_through = {"closed_through": found or month}
    connection.execute(accounts.update().where(accounts.c.id == account_id).values(closed_through))
    if found is not None:
        row = {
            "account_id": account_id,
            "month": found,
            "status": CLOSING,
            "number": next_number(connection, "S", year=found.year),
            "currency": account.currency,
            "closed_by": actor,
        }
        connection.execute(statement_rows.insert().values(row))
    return found


def _end(database: Database, account_id: str, month: date, *, actor: str) -> Closed | None:
    """The second half: adjustments, text, digest; None if another process has done it meanwhile."""
    with database.begin() as connection:
        period_rows.take_time(connection)
        this = (statement_rows.c.account_id == account_id) & (statement_rows.c.month == month)
        row = connection.execute(select(statement_rows).where(this).with_for_update()).mappings().one()
        if row["status"] != CLOSING:
            return None
        # A card that is added later is made after `closed_at`: so it is told from those that are settled here.
        account_rows.keep_cards(connection, account_id)
        account = account_rows.get(connection, account_id)
        cards = rate_cards.of_accounts(connection, [account_id])[account_id]
        numbers = periods.numbers(connection, {(account_id, month)})
        references = {each: number for (_, each), number in numbers.items()}
        adjustments = settlement.settle(connection, account, month, cards=cards)
        settlement.post(connection, account_id, adjustments, references=references)
        heading = Heading(
            account_id=account_id,
            account_name=account.name,
            month=month,
            number=row["number"],
            currency=row["currency"],
        )
        said = made_body(connection, heading)
        written = canonical(said)
        digest, total = sha256(written), Decimal(said["total"])
        closed = {
            "status": statements.CLOSED,
            "total": total,
            "body": written.decode(),
            "sha256": digest,
            "closed_at": func.clock_timestamp(),
        }
        connection.execute(statement_rows.update().where(this).values(closed))
        audit.record(
            connection,
            account_id=account_id,
            actor=actor,
            action="statement.closed",
            object_id=row["number"],
            after=said,
        )
        notices.statement_closed(
            connection,
            account_id=account_id,
            number=row["number"],
            month=month,
            total=said["total"],
            currency=row["currency"],
            sha256=digest.hex(),
        )
    return Closed(
        account_id=account_id,
        month=month,
        number=row["number"],
        total=total,
        currency=row["currency"],
        sha256=digest.hex(),
    )


def made_body(connection: Connection, heading: Heading, *, unrated: Mapping[str, int] | None = None) -> Json:
    """The text of a month whose rows all stand in the ledger. `unrated` None: as many as are unrated now."""
    account_id, month = heading.account_id, heading.month
    return body(
        heading,
        lines=period_rows.lines(connection, account_id, month),
        adjustments=period_rows.adjustments(connection, account_id, month),
        unrated=period_rows.unrated(connection, account_id, month) if unrated is None else unrated,
        digest=period_rows.digest(connection, account_id, month),
    )


def _unfinished(connection: Connection, account_id: str) -> date | None:
    this = (statement_rows.c.account_id == account_id) & (statement_rows.c.status == CLOSING)
    month: date | None = connection.execute(select(func.min(statement_rows.c.month)).where(this)).scalar_one()
    return month


def _first_month(connection: Connection, account: Account) -> date:
    """The first month that is not closed: of the account's first row or its making, whichever was earlier."""
    if account.closed_through is not None:
        return periods.next_month(account.closed_through)
    made = periods.month_of(account.created_at)
    first = period_rows.anything_from(connection, account.id, date(1, 1, 1))
    return made if first is None else min(made, first)


def _next_with_anything(connection: Connection, account: Account, cards: Cards, first: date, last: date) -> date | None:
    """The first month, in these, that has rows or a fee that is due without any."""
    found = period_rows.anything_from(connection, account.id, first)
    month = first
    while month <= last and (found is None or month < found):
        if settlement.fee_card(cards, account, month) is not None:
            return month
        month = periods.next_month(month)
    return found if found is not None and found <= last else None


def _previous(month: date) -> date:
    return date(month.year - (month.month == 1), (month.month - 2) % 12 + 1, 1)
