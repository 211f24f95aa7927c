"""Credit notes: what is given back of a closed statement, which itself never changes.

A credit note is a row of the ledger, below zero, in the first open month: it is taken off the next statement. Two
people stand behind each: who wrote it, and who approved it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, func, select, text

from billing import periods, posting
from billing.money import ARITHMETIC, ZERO, BillingError, format_price, minor_unit, round_money, summed, to_money
from billing.statements import CLOSED, settlement
from billing.statements.body import CREDIT_NOTE
from billing.statements.numbering import next_number
from billing.statements.period_rows import PROVIDER
from billing.statements.settlement import Adjustment
from relay.errors import Conflict, NotFound
from relay.store import accounts, audit, rate_cards
from relay.store.database import Database
from relay.store.shown import moment
from relay.store.tables import credit_notes, statements

MAX_CHARS: Final = 256

# What later statements say of this one; an index finds the few rows that do.
_CORRECTED: Final = text("""
    SELECT period, sum(amount) FROM ledger
    WHERE account_id = :account AND period > :month AND reference = :number AND line <> :credit_note
    GROUP BY period
""")

# Rows of later months that are about closed ones, credit notes among them.
_SINCE: Final = text("""
    SELECT COALESCE(sum(amount), 0) FROM ledger WHERE account_id = :account AND reference IS NOT NULL
        AND period > (SELECT max(month) FROM statements WHERE account_id = :account AND status = :closed)
""")


class CreditNote(msgspec.Struct, frozen=True, kw_only=True):
    """A credit note; `reference` is the number of the statement that it gives back of."""

    number: str
    account_id: str
    month: date
    reference: str
    amount: Decimal
    currency: str
    reason: str
    actor: str
    approver: str
    created_at: datetime


def issue(
    database: Database,
    account_id: str,
    month: date,
    *,
    amount: Decimal | int | str,
    reason: str,
    actor: str,
    approver: str,
) -> CreditNote:
    """Give back a part of a closed month's total, at most what is left of it.

    Raises NotFound where no closed statement of that month is, BillingError naming `amount`, `reason` or `approver`,
    and Conflict `credit_exceeds_statement` for more than what is left.
    """
    given = to_money(amount, field="amount")
    _check_words(reason, actor, approver)
    with database.begin() as connection:
        # Alone, because what is left follows from all statements and credit notes of the account.
        periods.alone(connection, account_id)
        closed_through = periods.share(connection, [account_id])
        statement = _locked(connection, account_id, month)
        _check_amount(given, statement.currency, left=left_of(connection, account_id, month))
        period = periods.next_month(closed_through[account_id])
        number = next_number(connection, "CN", year=datetime.now(UTC).year)
        row = {
            "number": number,
            "account_id": account_id,
            "month": month,
            "amount": given,
            "currency": statement.currency,
            "reason": reason,
            "actor": actor,
            "approver": approver,
        }
        made = connection.execute(credit_notes.insert().values(row).returning(credit_notes.c.created_at)).scalar_one()
        posting.add_rows(connection, [_ledger_row(row, reference=statement.number, period=period)])
        note = CreditNote(**row, reference=statement.number, created_at=made)
        audit.record(
            connection,
            account_id=account_id,
            actor=actor,
            action="credit_note.issued",
            object_id=number,
            after=shown(note),
        )
    return note


def shown(note: CreditNote) -> dict[str, Any]:
    """A credit note as the API and the command line show it: money as its currency is paid in."""
    return {
        "number": note.number,
        "accountId": note.account_id,
        "month": f"{note.month:%Y-%m}",
        "reference": note.reference,
        "amount": format_price(note.amount, note.currency),
        "currency": note.currency,
        "reason": note.reason,
        "actor": note.actor,
        "approver": note.approver,
        "createdAt": moment(note.created_at),
    }


def left_of(connection: Connection, account_id: str, month: date) -> Decimal:
    """How much of a closed statement's total may still be given back.

    That is its total, less its credit notes, and less what corrections take off it in each later statement. What they
    add in another one is a part of that one's total, and given back of that. And never more than all closed statements
    come to together, with what is taken off them since: a correction of a late call is of the month in which that
    began, and its charge in the total of another.
    """
    this = (statements.c.account_id == account_id) & (statements.c.month == month)
    row = connection.execute(select(statements.c.total, statements.c.number).where(this)).one()
    given = select(func.coalesce(func.sum(credit_notes.c.amount), 0)).where(
        credit_notes.c.account_id == account_id, credit_notes.c.month == month
    )
    coming = _coming(connection, account_id)
    corrected = _corrected(connection, account_id, month, number=row.number, coming=coming)
    taken_off = summed(one for one in corrected.values() if one < 0)
    left = ARITHMETIC.subtract(ARITHMETIC.add(row.total, taken_off), connection.execute(given).scalar_one())
    return max(min(left, _in_all(connection, account_id, coming=coming)), ZERO)


def listed(
    connection: Connection,
    *,
    account_id: str | None = None,
    after: tuple[datetime, str] | None = None,
    limit: int | None = None,
) -> list[CreditNote]:
    """Credit notes, the oldest first, of one account or of all; `after` is (created_at, number) of the last seen."""
    of_statement = (statements.c.account_id == credit_notes.c.account_id) & (statements.c.month == credit_notes.c.month)
    found = select(credit_notes, statements.c.number.label("reference")).join(statements, of_statement)
    if account_id is not None:
        found = found.where(credit_notes.c.account_id == account_id)
    if after is not None:
        made, number = after
        later = (credit_notes.c.created_at == made) & (credit_notes.c.number > number)
        found = found.where((credit_notes.c.created_at > made) | later)
    ordered = found.order_by(credit_notes.c.created_at, credit_notes.c.number).limit(limit)
    return [CreditNote(**row) for row in connection.execute(ordered).mappings()]


def _coming(connection: Connection, account_id: str) -> list[Adjustment]:
    """What prices of closed months will be corrected by when the open one is closed: it counts there already."""
    account = accounts.get(connection, account_id)
    if account.closed_through is None:
        return []
    period = periods.next_month(account.closed_through)
    cards = rate_cards.of_accounts(connection, [account_id])[account_id]
    return [one for one in settlement.settle(connection, account, period, cards=cards) if one.month < period]


def _corrected(
    connection: Connection, account_id: str, month: date, *, number: str, coming: Sequence[Adjustment]
) -> dict[date, Decimal]:
    """What corrections of a statement come to in each later period."""
    wanted = {"account": account_id, "month": month, "number": number, "credit_note": CREDIT_NOTE}
    corrected = {row.period: row.sum for row in connection.execute(_CORRECTED, wanted)}
    for one in coming:
        if one.month == month:
            corrected[one.period] = ARITHMETIC.add(corrected.get(one.period, ZERO), one.amount)
    return corrected


def _in_all(connection: Connection, account_id: str, *, coming: Sequence[Adjustment]) -> Decimal:
    """What an account's closed statements come to, less what is taken off them by what is not closed yet."""
    totals = select(func.coalesce(func.sum(statements.c.total), 0)).where(statements.c.account_id == account_id)
    posted = connection.execute(_SINCE, {"account": account_id, "closed": CLOSED}).scalar_one()
    since = summed((posted, *(one.amount for one in coming)))
    return ARITHMETIC.add(connection.execute(totals).scalar_one(), min(since, ZERO))


def _locked(connection: Connection, account_id: str, month: date) -> Any:
    """The closed statement; whoever else credits it waits. Raises NotFound."""
    this = select(statements.c.number, statements.c.currency).where(
        statements.c.account_id == account_id, statements.c.month == month, statements.c.status == CLOSED
    )
    found = connection.execute(this.with_for_update()).one_or_none()
    if found is None:
        raise NotFound("this account has no closed statement of this month")
    return found


def _check_words(reason: str, actor: str, approver: str) -> None:
    for field, value in (("reason", reason), ("actor", actor), ("approver", approver)):
        if not value.strip() or not value.isprintable() or len(value) > MAX_CHARS:
            raise BillingError(f"{field} must be printable text of at most {MAX_CHARS} characters", field=field)
    if actor.strip().casefold() == approver.strip().casefold():
        raise BillingError("approver must be somebody else than who writes the credit note", field="approver")


def _check_amount(amount: Decimal, currency: str, *, left: Decimal) -> None:
    if amount <= 0:
        raise BillingError("amount must be more than 0", field="amount")
    decimals = minor_unit(currency)
    if amount != round_money(amount, decimals=decimals):
        raise BillingError(f"amount must have at most {decimals} decimals in {currency}", field="amount")
    if amount > left:
        shown = round_money(left, decimals=decimals, rounding="down")
        words = f"{shown:f} {currency} of this statement are left to be credited"
        raise Conflict(words, code="credit_exceeds_statement", field="amount")


def _ledger_row(note: dict[str, Any], *, reference: str, period: date) -> dict[str, Any]:
    amount = ARITHMETIC.minus(note["amount"])
    return {
        "account_id": note["account_id"],
        "provider": PROVIDER,
        "conversation_id": note["number"],
        "kind": "adjustment",
        "sequence": 1,
        "started_at": periods.begins(note["month"]),
        "billed_seconds": 0,
        "unit_price": amount,
        "exact": amount,
        "amount": amount,
        "currency": note["currency"],
        "steps": [f"{note['number']} gives back {note['amount']:f} of {reference}", note["reason"]],
        "line": CREDIT_NOTE,
        "part": 0,
        "quantity": 1,
        "reference": reference,
        "period": period,
    }
