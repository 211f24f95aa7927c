"""Statements computed again from what the ledger froze: they must come out as they were closed.

Each charge is rated again by its rate card, its duration and its provider's cost; each reversal is compared with its
charge; the month's prices are settled again; the text is written again, and has the same digest. Nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, RowMapping, select, text

from billing.assessment import card_of
from billing.cost import cost
from billing.entries import Entry, charged
from billing.money import ARITHMETIC, BillingError
from billing.statements import CLOSED, period_rows, settlement
from billing.statements.body import CREDIT_NOTE, Heading, canonical, sha256
from billing.statements.closing import made_body
from billing.statements.period_rows import ROWS
from relay.store import accounts, rate_cards
from relay.store.rate_cards import Cards, RateCardRow
from relay.store.tables import credit_notes, statements

_FETCHED: Final = 10_000
# Calls of one length at one price are many; each is rated once.
_RATED_MOST: Final = 200_000
# Far below the sixth decimal, the last that anything is charged by.
_NOTHING: Final = Decimal("1e-12")

_CHARGES: Final = text(f"""
    SELECT id, conversation_id, sequence, part, line, rate_card_id, started_at, duration_seconds, billed_seconds,
        quantity, unit_price, exact, amount, currency, list_amount, reason, provider_cost_usd
    FROM ({ROWS}) AS counted WHERE kind = 'charge'
""")  # noqa: S608  constants

# A session's conversation may have got its name between the two; its number stays.
_REVERSALS: Final = text(f"""
    SELECT r.id, r.conversation_id, r.sequence FROM ({ROWS}) AS r
    LEFT JOIN ledger c ON c.account_id = r.account_id AND c.session_id = r.session_id AND c.provider = r.provider
        AND c.kind = 'charge' AND c.sequence = r.sequence AND c.part = r.part
    WHERE r.kind = 'reversal' AND (c.id IS NULL OR (c.line, c.amount, c.exact, c.quantity, c.unit_price)
            IS DISTINCT FROM (r.line, -r.amount, -r.exact, -r.quantity, r.unit_price)
        OR (c.billed_seconds, c.duration_seconds, c.rate_card_id, c.currency, c.reason, c.list_amount)
            IS DISTINCT FROM (-r.billed_seconds, -r.duration_seconds, r.rate_card_id, r.currency, r.reason,
                -r.list_amount))
    ORDER BY r.id
""")  # noqa: S608  constants


class Difference(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Something that does not come out as it was closed: what, of which statement, as it stands and as it should."""

    statement: str
    what: str
    field: str
    stands: str
    computed: str


Progress = Callable[[str, int], None]
"""Told of a statement's number, and how many of its charges were rated again so far."""


def verify(
    connection: Connection, account_id: str, month: date, *, on_progress: Progress | None = None
) -> Iterator[Difference]:
    """Compute one closed statement again; none of its differences is hidden by another. No statement: none."""
    this = (statements.c.account_id == account_id) & (statements.c.month == month) & (statements.c.status == CLOSED)
    row = connection.execute(select(statements).where(this)).mappings().one_or_none()
    if row is None:
        return
    period_rows.take_time(connection)
    number: str = row["number"]
    cards = rate_cards.of_accounts(connection, [account_id])[account_id]
    for charge in _charges(connection, account_id, month, number, on_progress):
        yield from _rated_again(number, charge, cards)
    for reversal in connection.execute(_REVERSALS, period_rows.of(account_id, month)):
        what = f"reversal {reversal.sequence} of {reversal.conversation_id}"
        yield Difference(statement=number, what=what, field="charge", stands="differs", computed="mirrors its charge")
    yield from _settled_again(connection, row, cards)
    yield from _credited(connection, row)
    yield from _written_again(connection, row)


def months(connection: Connection, month: date, *, account_id: str | None = None) -> list[tuple[str, str]]:
    """The closed statements of a month: accounts and numbers, in the order of their numbers."""
    closed = select(statements.c.account_id, statements.c.number).where(
        statements.c.month == month, statements.c.status == CLOSED
    )
    if account_id is not None:
        closed = closed.where(statements.c.account_id == account_id)
    return [(row.account_id, row.number) for row in connection.execute(closed.order_by(statements.c.number))]


def _charges(
    connection: Connection, account_id: str, month: date, number: str, on_progress: Progress | None
) -> Iterator[RowMapping]:
    """The period's rows of charges, a part at a time."""
    found = connection.execute(_CHARGES, period_rows.of(account_id, month), execution_options={"yield_per": _FETCHED})
    count = 0
    # Without a number it would read them all at once.
    for part in found.mappings().partitions(_FETCHED):
        yield from part
        count += len(part)
        if on_progress is not None:
            on_progress(number, count)


def _rated_again(number: str, row: RowMapping, cards: Cards) -> Iterator[Difference]:
    what = f"charge {row['sequence']} of {row['conversation_id']}"
    card = cards.by_id.get(row["rate_card_id"])
    if card is None:
        yield Difference(statement=number, what=what, field="rateCardId", stands=row["rate_card_id"], computed="none")
        return
    try:
        entries = _entries(row["duration_seconds"], card, row["provider_cost_usd"], row["reason"])
    except BillingError as error:
        yield Difference(statement=number, what=what, field=error.field or "", stands="", computed=error.detail)
        return
    if _is_of_before_lines(row, entries):
        return
    entry = entries[row["part"]] if row["part"] < len(entries) else None
    for field in ("line", "billed_seconds", "quantity", "unit_price", "exact", "amount", "currency", "list_amount"):
        computed = None if entry is None else getattr(entry, field)
        if not _is_same(row[field], computed):
            yield Difference(
                statement=number, what=what, field=field, stands=_said(row[field]), computed=_said(computed)
            )


def _is_same(stands: Any, computed: Any) -> bool:
    """Sixtieths of a minute never end, and were not always cut at the same place."""
    if isinstance(stands, Decimal) and isinstance(computed, Decimal):
        return ARITHMETIC.subtract(stands, computed).copy_abs() < _NOTHING
    return bool(stands == computed)


@lru_cache(maxsize=_RATED_MOST)
def _entries(
    seconds: Decimal, card: RateCardRow, provider_cost_usd: Decimal | None, reason: str | None
) -> tuple[Entry, ...]:
    """The rows of a charge of so many seconds. Raises BillingError."""
    charge = cost(seconds, card_of(card), provider_cost=provider_cost_usd, waived=reason)
    return charged(
        charge,
        card=card,
        after=0,
        started_at=card.created_at,
        duration_seconds=seconds,
        provider_cost_usd=provider_cost_usd,
    )


def _is_of_before_lines(row: RowMapping, entries: tuple[Entry, ...]) -> bool:
    """Whether it was charged by a version that put a call's fee, minimum and maximum into one row with its minutes."""
    if len(entries) == 1 or row["line"] != entries[0].line or row["amount"] == entries[0].amount:
        return False
    whole = sum((entry.amount for entry in entries), Decimal(0))
    return bool(row["part"] == 0 and row["amount"] == whole and row["billed_seconds"] == entries[0].billed_seconds)


def _settled_again(connection: Connection, row: RowMapping, cards: Cards) -> Iterator[Difference]:
    account = accounts.get(connection, row["account_id"])
    known = settlement.known(cards, row["closed_at"])
    computed = {
        (one.conversation_id, one.sequence): one.amount
        for one in settlement.settle(connection, account, row["month"], cards=known)
    }
    posted = {
        (one.conversation_id, one.sequence): one.amount
        for one in period_rows.adjustments(connection, row["account_id"], row["month"])
        if one.line == settlement.LINE
    }
    for key in sorted(computed.keys() | posted.keys()):
        if computed.get(key) != posted.get(key):
            yield Difference(
                statement=row["number"],
                what=f"adjustment {key[1]} of {key[0]}",
                field="amount",
                stands=_said(posted.get(key)),
                computed=_said(computed.get(key)),
            )


def _credited(connection: Connection, row: RowMapping) -> Iterator[Difference]:
    for one in period_rows.adjustments(connection, row["account_id"], row["month"]):
        if one.line != CREDIT_NOTE:
            continue
        this = select(credit_notes.c.amount).where(
            credit_notes.c.number == one.conversation_id, credit_notes.c.account_id == row["account_id"]
        )
        amount = connection.execute(this).scalar_one_or_none()
        computed = None if amount is None else ARITHMETIC.minus(amount)
        if computed != one.amount:
            yield Difference(
                statement=row["number"],
                what=one.conversation_id,
                field="amount",
                stands=_said(one.amount),
                computed=_said(computed),
            )


def _written_again(connection: Connection, row: RowMapping) -> Iterator[Difference]:
    """The text. Its name for the account, and its count of what could not be charged, stand nowhere else."""
    frozen: dict[str, Any] = msgspec.json.decode(row["body"])
    number = row["number"]
    stands = bytes(row["sha256"]).hex()
    if sha256(row["body"].encode()).hex() != stands:
        yield Difference(
            statement=number, what="body", field="sha256", stands=stands, computed=sha256(row["body"].encode()).hex()
        )
    heading = Heading(
        account_id=row["account_id"],
        account_name=frozen["accountName"],
        month=row["month"],
        number=number,
        currency=row["currency"],
    )
    unrated = {one["reason"]: one["sessions"] for one in frozen["unrated"]}
    again = made_body(connection, heading, unrated=unrated)
    for field in sorted(again.keys() | frozen.keys()):
        if again.get(field) != frozen.get(field):
            yield Difference(
                statement=number,
                what="body",
                field=field,
                stands=_json(frozen.get(field)),
                computed=_json(again.get(field)),
            )
    if sha256(canonical(again)).hex() != stands:
        computed = sha256(canonical(again)).hex()
        yield Difference(statement=number, what="body", field="sha256", stands=stands, computed=computed)
    if Decimal(again["total"]) != row["total"]:
        yield Difference(
            statement=number, what="statement", field="total", stands=_said(row["total"]), computed=again["total"]
        )


def _said(value: object) -> str:
    return "nothing" if value is None else format(value, "f") if isinstance(value, Decimal) else str(value)


def _json(value: object) -> str:
    return canonical({"is": value}).decode()[6:-1]
