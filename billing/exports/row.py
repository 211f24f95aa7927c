"""What every destination is told of a row of the ledger, and under which name. Pure."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from billing import periods
from billing.money import ARITHMETIC, minor_unit, round_money
from relay.store.charges import Charge

# The least that any destination takes: Stripe's `identifier` (its OpenAPI, maxLength).
MAX_IDENTIFIER_CHARS: Final = 100
_SECOND: Final = timedelta(seconds=1)


def identifier(row: Charge) -> str:
    """The row's key in the ledger: `<account>/<provider>/<conversation>/<kind>/<sequence>`.

    Where that is longer than 100 characters it is `sha256:` and its SHA-256 in hex, which is the same everywhere.
    """
    key = "/".join((row.account_id, row.provider, row.conversation_id, row.kind, str(row.sequence)))
    if len(key) <= MAX_IDENTIFIER_CHARS and key.isascii():
        return key
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


def counted_at(row: Charge) -> datetime:
    """The moment at which a destination is to count it, which lies in the month of its statement (UTC).

    That is when the call began. A correction of a closed month, a month's price and a credit note count when they were
    written, as far as that lies in the month of their statement.
    """
    if row.kind != "adjustment" and periods.month_of(row.started_at) == row.period:
        return row.started_at
    last = periods.begins(periods.next_month(row.period)) - _SECOND
    return min(max(row.created_at, periods.begins(row.period)), last)


def paid_seconds(row: Charge) -> int:
    """The seconds that are paid for: on one row of each charge, so that they can be summed over all rows.

    None on a row that is not charged for a reason, nor on an adjustment; negative where they are taken back.
    """
    if row.kind == "adjustment" or row.part != 0 or row.reason is not None:
        return 0
    return row.billed_seconds


def millionths(row: Charge) -> int:
    """The amount in millionths of its currency: a whole number, and exact."""
    return int(ARITHMETIC.multiply(row.amount, Decimal(1_000_000)))


def minor_units(row: Charge) -> str:
    """The amount in cents, or whatever its currency is paid in, with every decimal that it has."""
    return f"{row.amount.scaleb(minor_unit(row.currency), ARITHMETIC).normalize(ARITHMETIC):f}"


def properties(row: Charge) -> dict[str, Any]:
    """What a row says of itself: money as text, and only what it has. Nothing that was said, and nobody's number."""
    told = {
        "billed_seconds": paid_seconds(row),
        "amount": f"{round_money(row.amount):f}",
        "currency": row.currency,
        "kind": row.kind,
        "line": row.line,
        "quantity": f"{row.quantity:f}",
        "unit_price": f"{row.unit_price:f}",
        "provider": row.provider,
        "session_id": None if row.session_id is None else str(row.session_id),
        "template_id": None if row.template_id is None else str(row.template_id),
        "tag": row.tag,
        "period": f"{row.period:%Y-%m}",
        "reference": row.reference,
        "reason": row.reason,
        "list_amount": None if row.list_amount is None else f"{round_money(row.list_amount):f}",
    }
    return {name: value for name, value in told.items() if value is not None}
