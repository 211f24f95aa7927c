"""What a card makes of a call, or of a month's minutes, as plain JSON: before anybody is charged by it. Pure."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from billing.cost import Line, cost
from billing.money import BillingError, round_money, to_money
from billing.rates import RateCard
from billing.tiers import Slice


def of_call(
    seconds: int | Decimal | str, card: RateCard, *, provider_cost: Decimal | str | None = None
) -> dict[str, Any]:
    """A call's price with its steps and lines. Raises BillingError, naming `seconds` or `providerCostUsd`."""
    try:
        dollars = None if provider_cost is None else to_money(provider_cost, field="provider_cost")
        charge = cost(seconds, card, provider_cost=dollars)
    except BillingError as error:
        raise _as_written(error) from None
    return {
        "billedSeconds": charge.billed_seconds,
        "exact": _text(charge.exact),
        "amount": _text(charge.amount),
        "currency": charge.currency,
        "steps": list(charge.steps),
        "lines": [_line(line) for line in charge.lines],
    }


def of_month(minutes: Decimal | str, card: RateCard) -> dict[str, Any]:
    """What a month of so many billed minutes comes to, once it is closed; fees of calls are not in it.

    Raises BillingError, naming `monthMinutes`, also where the card has no price for the month.
    """
    if card.month is None:
        raise BillingError("this card has no price for the month", field="monthMinutes")
    quantity = to_money(minutes, field="monthMinutes")
    if quantity < 0:
        raise BillingError("monthMinutes must not be negative", field="monthMinutes")
    slices = card.month.slices(quantity)
    exact = card.month.price(quantity)
    return {
        "minutes": _text(quantity),
        "exact": _text(exact),
        "amount": _text(round_money(exact, decimals=card.decimals, rounding=card.rounding)),
        "currency": card.currency,
        "slices": [_slice(one) for one in slices],
    }


def _line(line: Line) -> dict[str, str]:
    return {
        "line": line.kind,
        "quantity": _text(line.quantity),
        "unitPrice": _text(line.unit_price),
        "exact": _text(line.exact),
        "amount": _text(line.amount),
    }


def _slice(one: Slice) -> dict[str, str]:
    return {
        "quantity": _text(one.quantity),
        "unitPrice": _text(one.unit_price),
        "exact": _text(one.exact),
        "words": one.words,
    }


def _as_written(error: BillingError) -> BillingError:
    names = {"duration_seconds": "seconds", "provider_cost": "providerCostUsd"}
    field = error.field or ""
    written = names.get(field, field)
    return BillingError(error.detail.replace(field, written), field=written)


def _text(amount: Decimal) -> str:
    return format(amount, "f")
