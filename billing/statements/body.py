"""What a statement says: one JSON object, always written the same way, whose SHA-256 is the statement's. Pure.

Its amounts have six decimals, and every one that is printed is added up as it is printed. One line rounds their sum to
what the currency is paid in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Final

import msgspec

from billing.cost import CONNECT_FEE, MARKUP, MAXIMUM, MINIMUM
from billing.money import ARITHMETIC, format_price, minor_unit, round_money, summed
from billing.statements import settlement
from billing.statements.period_rows import AdjustmentRow, Digest, LineRow

VERSION: Final = 1
TAX: Final = "not included: all amounts are net of tax"
CREDIT_NOTE: Final = "credit_note"
REGULAR: Final = "Regular"
CORRECTION: Final = "Correction"
_SECONDS_PER_MINUTE: Final = Decimal(60)
# An account without a rate card has no currency, and owes nothing.
_DECIMALS_UNKNOWN: Final = 2

_ORDER: Final = {line: place for place, line in enumerate((*settlement.MINUTES, MARKUP, CONNECT_FEE, MINIMUM, MAXIMUM))}

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """Whose statement of which month it is. `number` None: it is not closed yet."""

    account_id: str
    account_name: str
    month: date
    number: str | None
    currency: str | None


def body(
    heading: Heading,
    *,
    lines: Iterable[LineRow],
    adjustments: Iterable[AdjustmentRow],
    unrated: Mapping[str, int],
    digest: Digest | None,
) -> Json:
    """The statement. Lines and adjustments may come in any order; `digest` None is for one that is not closed yet."""
    rows = list(lines)
    adjusted = sorted(
        adjustments, key=lambda one: (one.reference is not None, one.started_at, one.conversation_id, one.sequence)
    )
    printed = [_line(row) for row in sorted(rows, key=_place)]
    prices = [_month_price(one) for one in adjusted if one.line == settlement.LINE]
    notes = [_credit_note(one) for one in adjusted if one.line == CREDIT_NOTE]
    subtotal = summed(Decimal(one["amount"]) for one in (*printed, *prices, *notes))
    decimals = minor_unit(heading.currency) if heading.currency else _DECIMALS_UNKNOWN
    total = round_money(subtotal, decimals=decimals)
    seconds = sum(row.session_seconds for row in rows)
    return {
        "version": VERSION,
        "number": heading.number,
        "accountId": heading.account_id,
        "accountName": heading.account_name,
        "month": f"{heading.month:%Y-%m}",
        "currency": heading.currency,
        "tax": TAX,
        "sessions": sum(row.sessions for row in rows),
        "billedSeconds": seconds,
        "billedMinutes": _minutes(seconds),
        "lines": printed,
        "monthPrices": prices,
        "creditNotes": notes,
        "unrated": [{"reason": reason, "sessions": unrated[reason]} for reason in sorted(unrated)],
        "subtotal": money(subtotal),
        "rounding": money(ARITHMETIC.subtract(total, subtotal)),
        "total": f"{total:f}",
        "ledger": None if digest is None else _digest(digest),
    }


def canonical(said: Json) -> bytes:
    """A body as its digest is taken: UTF-8, no blanks, the names of every object in order."""
    return msgspec.json.encode(said, order="deterministic")


def sha256(written: bytes) -> bytes:
    """The digest of a canonical body."""
    return hashlib.sha256(written).digest()


def money(amount: Decimal) -> str:
    """An amount as statements print it: six decimals, no exponent, and no zero below zero."""
    return f"{round_money(amount):f}"


def _line(row: LineRow) -> Json:
    seconds = row.billed_seconds if row.line in settlement.MINUTES else None
    quantity = money(row.quantity) if seconds is None else _minutes(seconds)
    return {
        "line": row.line,
        "class": REGULAR if row.reference is None else CORRECTION,
        "reference": row.reference,
        "rateCardId": row.rate_card_id,
        "templateId": row.template_id,
        "tag": row.tag,
        "reason": row.reason,
        "sessions": row.charges,
        "billedMinutes": None if seconds is None else quantity,
        "quantity": quantity,
        "unitPrice": format_price(row.unit_price, row.currency),
        "listAmount": money(row.list_amount),
        "amount": money(row.amount),
    }


def _month_price(one: AdjustmentRow) -> Json:
    return {
        "rateCardId": one.rate_card_id,
        "month": f"{one.started_at:%Y-%m}",
        "class": REGULAR if one.reference is None else CORRECTION,
        "reference": one.reference,
        "steps": list(one.steps),
        "amount": money(one.amount),
    }


def _credit_note(one: AdjustmentRow) -> Json:
    return {
        "number": one.conversation_id,
        "reference": one.reference,
        "reason": one.steps[-1] if one.steps else "",
        "amount": money(one.amount),
    }


def _digest(digest: Digest) -> Json:
    return {
        "positions": digest.positions,
        "billedSeconds": digest.billed_seconds,
        "amount": money(digest.amount),
        "sha256": digest.sha256,
    }


def _minutes(seconds: int) -> str:
    """Seconds divided once: sums of rounded sixtieths would drift."""
    return money(ARITHMETIC.divide(Decimal(seconds), _SECONDS_PER_MINUTE))


def _place(row: LineRow) -> tuple[Any, ...]:
    """Corrections after what is regular, each by template, tag and card; minutes before fees, dearest unit first."""
    return (
        row.reference is not None,
        row.reference or "",
        row.template_id or 0,
        row.tag or "",
        row.rate_card_id or "",
        row.reason or "",
        _ORDER.get(row.line, len(_ORDER)),
        row.line,
        -row.unit_price,
    )
