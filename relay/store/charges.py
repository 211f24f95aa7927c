"""Charges as they are shown. `billing.ledger` writes them; nothing ever changes them."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, datetime
from decimal import Decimal
from typing import Final, Literal

import msgspec
from sqlalchemy import Connection, Double, cast, select

from relay.store.tables import ledger

ChargeKind = Literal["charge", "reversal", "adjustment"]


class Charge(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A row of the ledger as JSON shows it: camelCase names, money as strings, seconds as numbers, times in UTC.

    `unit_price` is that of one of `quantity` (minutes of usage, fees, dollars of the provider's), `exact` their product
    before it was rounded to `amount`, `steps` how it came about. A charge has a row for each `line`, by `part`. A row
    of 0 with a `reason` is one that is not charged, at `list_amount`. `period` is the month of the statement in which
    it counts, `reference` the number of a closed one that it corrects.
    """

    id: int
    account_id: str
    provider: str
    conversation_id: str
    kind: ChargeKind
    sequence: int
    session_id: int | None
    template_id: int | None
    rate_card_id: str | None
    started_at: datetime
    duration_seconds: float | None
    billed_seconds: int
    unit_price: Decimal
    exact: Decimal
    amount: Decimal
    currency: str
    steps: list[str]
    created_at: datetime
    line: str
    part: int
    quantity: Decimal
    list_amount: Decimal | None
    reason: str | None
    tag: str | None
    reference: str | None
    period: date
    provider_cost_usd: Decimal | None


SHOWN: Final = tuple(
    cast(column, Double).label(column.name) if column is ledger.c.duration_seconds else column for column in ledger.c
)


def page(
    connection: Connection,
    *,
    account_id: str | None = None,
    session_id: int | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[Charge]:
    """Rows of the ledger, newest first, of one account or of all; `before` is the id of the last one seen."""
    newest = select(*SHOWN).order_by(ledger.c.id.desc()).limit(limit)
    if account_id is not None:
        newest = newest.where(ledger.c.account_id == account_id)
    if session_id is not None:
        newest = newest.where(ledger.c.session_id == session_id)
    if before is not None:
        newest = newest.where(ledger.c.id < before)
    return [Charge(**row) for row in connection.execute(newest).mappings()]


def of_ids(connection: Connection, ids: Collection[int]) -> list[Charge]:
    """These rows of the ledger, in no order; those that do not exist are left out."""
    found = select(*SHOWN).where(ledger.c.id.in_(ids))
    return [Charge(**row) for row in connection.execute(found).mappings()]
