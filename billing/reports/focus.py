"""Usage and charges as tables whose columns have FOCUS names (FinOps Open Cost and Usage Specification 1.x). Pure.

What FOCUS has no column for begins with `x_`, as it asks. A period's end is not part of it. Money is net of tax.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Final

from billing.cost import CONNECT_FEE, MARKUP, MAXIMUM, MINIMUM, USAGE
from billing.money import ARITHMETIC, ZERO, round_money
from billing.rates import COMPONENTS
from billing.reports import Group
from billing.reports.sheets import Cell, written
from billing.reports.shown import billed_minutes
from relay.store.charges import Charge

_COLUMNS: Final = (
    "ChargePeriodStart",
    "ChargePeriodEnd",
    "ConsumedQuantity",
    "PricingQuantity",
    "PricingUnit",
    "ListUnitPrice",
    "ListCost",
    "BilledCost",
    "BillingCurrency",
    "ChargeClass",
    "ResourceId",
    "Tags",
    "ConsumedUnit",
)
USAGE_COLUMNS: Final = (*_COLUMNS, "x_Sessions", "x_UnratedSessions")
CHARGE_COLUMNS: Final = (*_COLUMNS, "x_ChargeId", "x_Kind", "x_Line", "x_Reference")

_CORRECTION: Final = "Correction"
_MINUTES: Final = "Minutes"
_SECONDS: Final = "Seconds"
_UNITS: Final = dict.fromkeys((USAGE, *COMPONENTS), _MINUTES) | {CONNECT_FEE: "Calls", MARKUP: "USD"}
# What is missing or too much is counted in the currency itself.
_IN_CURRENCY: Final = (MINIMUM, MAXIMUM)
# Of month prices and credit notes, which are minutes, packages, or one sum.
_OTHER_UNIT: Final = "Units"


def usage_table(groups: Iterable[Group], *, currency: str | None) -> str:
    """A row for each group of a report. Sums over several prices have no unit price."""
    return written(USAGE_COLUMNS, (_usage_row(group, currency) for group in groups))


def charge_table(charges: Iterable[Charge]) -> str:
    """A row for each row of the ledger.

    `ConsumedQuantity` stands on the first row of a charge alone, so that it can be added up. What corrects a closed
    statement is a `Correction`; month prices and credit notes are of their whole month (UTC).
    """
    return written(CHARGE_COLUMNS, (_charge_row(charge) for charge in charges))


def _usage_row(group: Group, currency: str | None) -> tuple[Cell, ...]:
    sums = group.sums
    tags = {"tag": group.tag, "switchhook:provider": group.provider, "switchhook:status": group.status}
    return (
        _moment(group.period.begins),
        _moment(group.period.ends),
        _plain(sums.duration_seconds),
        billed_minutes(sums),
        _MINUTES,
        None,
        sums.list_amount,
        sums.amount,
        currency,
        None,
        str(group.template_id) if group.template_id else None,
        _tags(tags | {"switchhook:model": group.model}),
        _SECONDS,
        sums.sessions,
        sums.unrated,
    )


def _charge_row(charge: Charge) -> tuple[Cell, ...]:
    begins, ends = _period(charge)
    listed = charge.amount if charge.list_amount is None else charge.list_amount
    is_first = charge.part == 0 and charge.duration_seconds is not None
    tags = {
        "tag": charge.tag or "",
        "switchhook:provider": charge.provider,
        "switchhook:template": "" if charge.template_id is None else str(charge.template_id),
        "switchhook:reason": charge.reason or "",
    }
    return (
        _moment(begins),
        _moment(ends),
        _plain(Decimal(repr(charge.duration_seconds))) if is_first else None,
        _plain(charge.quantity),
        charge.currency if charge.line in _IN_CURRENCY else _UNITS.get(charge.line, _OTHER_UNIT),
        _list_price(charge, listed),
        listed,
        charge.amount,
        charge.currency,
        None if charge.reference is None else _CORRECTION,
        None if charge.session_id is None else str(charge.session_id),
        _tags(tags),
        _SECONDS if is_first else None,
        charge.id,
        charge.kind,
        charge.line,
        charge.reference,
    )


def _list_price(charge: Charge, listed: Decimal) -> Decimal | None:
    """The price of one unit; of what is waived, the one that it would have had, as near as it can be told."""
    if charge.reason is None:
        return charge.unit_price
    return round_money(ARITHMETIC.divide(listed, charge.quantity)) if charge.quantity else None


def _period(charge: Charge) -> tuple[datetime, datetime]:
    if charge.kind == "adjustment":
        month = charge.started_at.astimezone(UTC).date().replace(day=1)
        following = date(month.year + month.month // 12, month.month % 12 + 1, 1)
        return _midnight(month), _midnight(following)
    return charge.started_at, charge.started_at + timedelta(seconds=abs(charge.duration_seconds or 0))


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _plain(amount: Decimal) -> Decimal:
    """Without zeros at its end, and without an exponent."""
    return (amount.normalize(ARITHMETIC) or ZERO) if amount else ZERO


def _tags(tags: dict[str, str]) -> str | None:
    """JSON, as FOCUS' KeyValueFormat wants it; those that are ours have a prefix."""
    told = {name: value for name, value in tags.items() if value}
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")) if told else None
