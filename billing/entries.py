"""Rows for the ledger: a charge is one for each of its lines, and is taken back by their mirror images. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Final, Literal

import msgspec
from msgspec.structs import replace

from billing.cost import USAGE, Charge, Line
from billing.money import ARITHMETIC, ZERO
from relay.store.rate_cards import RateCardRow

EntryKind = Literal["charge", "reversal", "adjustment"]

_SECONDS_PER_MINUTE: Final = Decimal(60)
# A sixtieth never ends; at the highest price this is a billionth of what can be paid.
_QUANTUM: Final = Decimal((0, (1,), -20))


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One row for the ledger, with all that its amount follows from.

    sequence        charges of a conversation are numbered on, row by row; a reversal has its charge's number
    part            which row of its charge this is, from 0
    line            what is paid for: billing.cost.Line.kind
    started_at      the moment that chose the card, and the month
    billed_seconds  of the whole charge, on each of its rows
    quantity        so many, at `unit_price` each, are `exact`, which is rounded to `amount`
    steps           how the amount came about, in words
    list_amount     what it would have cost, where the amount is 0 for a `reason`
    template_id     the session's then, as its `tag`: a reversal has those of what it takes back
    """

    kind: EntryKind
    sequence: int
    part: int
    line: str
    rate_card_id: str | None
    started_at: datetime
    duration_seconds: Decimal
    billed_seconds: int
    quantity: Decimal
    unit_price: Decimal
    exact: Decimal
    amount: Decimal
    currency: str
    steps: tuple[str, ...]
    list_amount: Decimal | None = None
    reason: str | None = None
    provider_cost_usd: Decimal | None = None
    template_id: int | None = None
    tag: str | None = None


def charged(
    charge: Charge,
    *,
    card: RateCardRow,
    after: int,
    started_at: datetime,
    duration_seconds: Decimal,
    provider_cost_usd: Decimal | None,
    template_id: int | None = None,
    tag: str | None = None,
) -> tuple[Entry, ...]:
    """The rows of a charge; the charges before it end with the number `after`."""
    return tuple(
        Entry(
            kind="charge",
            sequence=after + 1 + part,
            part=part,
            line=line.kind,
            rate_card_id=card.id,
            started_at=started_at,
            duration_seconds=duration_seconds,
            billed_seconds=charge.billed_seconds,
            quantity=_cut(line.quantity),
            unit_price=line.unit_price,
            exact=line.exact,
            amount=line.amount,
            currency=charge.currency,
            steps=charge.steps if part == 0 else (),
            list_amount=charge.list_amount,
            reason=charge.reason,
            provider_cost_usd=provider_cost_usd,
            template_id=template_id,
            tag=tag,
        )
        for part, line in enumerate(charge.lines or (_whole(charge, card),))
    )


def reversed_by(entries: Sequence[Entry], why: str) -> tuple[Entry, ...]:
    """The rows that take back those of a charge. `why` completes the sentence `reverses charge 1: `."""
    return tuple(
        replace(
            entry,
            kind="reversal",
            duration_seconds=_negative(entry.duration_seconds),
            billed_seconds=-entry.billed_seconds,
            quantity=_negative(entry.quantity),
            exact=_negative(entry.exact),
            amount=_negative(entry.amount),
            list_amount=None if entry.list_amount is None else _negative(entry.list_amount),
            steps=(f"reverses charge {entry.sequence}: {why}",),
        )
        for entry in entries
    )


def _whole(charge: Charge, card: RateCardRow) -> Line:
    """The one line of a call that costs nothing: its minutes, at no price where there is a reason."""
    minutes = ARITHMETIC.divide(Decimal(charge.billed_seconds), _SECONDS_PER_MINUTE)
    return Line(USAGE, minutes, card.per_minute if charge.reason is None else ZERO, ZERO, charge.amount)


def _cut(quantity: Decimal) -> Decimal:
    exponent = quantity.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -20:
        return quantity.quantize(_QUANTUM, context=ARITHMETIC)
    return quantity


def _negative(amount: Decimal) -> Decimal:
    return ARITHMETIC.minus(amount)
