"""What the API and the command line show of usage, as plain JSON. Pure."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from billing.money import ARITHMETIC, round_money
from billing.reports import Group, Usage
from billing.reports.ranges import Range
from billing.usage import Sums

Shown = dict[str, Any]

_SIXTY: Final = Decimal(60)
_LEAST_DECIMALS: Final = 2


def report(usage: Usage, *, within: Range, by: Collection[str], more: str | None) -> Shown:
    """A page of a report; `more` is the cursor of the next one."""
    return {
        "from": moment(within.begins),
        "to": moment(within.ends),
        "tz": within.tz,
        "groupBy": list(by),
        "as_of": moment(usage.as_of),
        "totals": sums(usage.totals, usage.currency),
        "data": [group(one, by, usage.currency) for one in usage.groups],
        "nextCursor": more,
    }


def group(one: Group, by: Collection[str], currency: str | None) -> Shown:
    """A group: null is none, and what it is not grouped by."""
    period = one.period
    return {
        "from": moment(period.begins),
        "to": moment(period.ends),
        "day": period.date.isoformat() if "day" in by else None,
        "month": f"{period.date:%Y-%m}" if "month" in by else None,
        "tag": one.tag or None,
        "template": one.template_id or None,
        "provider": one.provider or None,
        "status": one.status or None,
        **sums(one.sums, currency),
    }


def sums(counted: Sums, currency: str | None) -> Shown:
    """Sums, with the sessions that are in none of their money beside them."""
    return {
        "sessions": counted.sessions,
        "unrated": counted.unrated,
        "durationSeconds": float(counted.duration_seconds),
        "billedSeconds": counted.billed_seconds,
        "billedMinutes": minutes(counted),
        "amount": money(counted.amount),
        "listAmount": money(counted.list_amount),
        "currency": currency,
    }


def minutes(counted: Sums) -> str:
    """Billed minutes with two to six decimals: `2.05`."""
    return money(billed_minutes(counted))


def billed_minutes(counted: Sums) -> Decimal:
    """The same as a number, rounded to a millionth."""
    return round_money(ARITHMETIC.divide(Decimal(counted.billed_seconds), _SIXTY))


def money(amount: Decimal) -> str:
    """An amount with two decimals, or as many as it needs: `0.205`."""
    whole, _, fraction = format(amount, "f").partition(".")
    return f"{whole}.{fraction.rstrip('0').ljust(_LEAST_DECIMALS, '0')}"


def moment(at: datetime) -> str:
    """ISO 8601 in UTC with milliseconds."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
