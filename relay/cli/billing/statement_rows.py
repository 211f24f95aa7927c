"""A statement as rows for a terminal: every quantity with its unit, every amount with its currency. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from billing.statements.body import Json
from billing.statements.table import line_name, unit

HEADINGS: Final = ("WHAT FOR", "CORRECTS", "TAG", "CALLS", "QUANTITY", "UNIT PRICE", "AMOUNT")

Row = tuple[Any, ...]


def rows(body: Json) -> list[Row]:
    """What is added up, and the total. Lines that would look alike name their rate cards."""
    currency = body["currency"]
    lines = [_line(one, currency) for one in body["lines"]]
    # Without the numbers that differ by chance.
    alike = Counter((*line[:3], line[5]) for line in lines)
    named = [
        (f"{line[0]}, {one['rateCardId']}", *line[1:]) if alike[*line[:3], line[5]] > 1 else line
        for one, line in zip(body["lines"], lines, strict=True)
    ]
    return [
        *named,
        *(_whole(f"Price of {one['month']}", one, currency) for one in body["monthPrices"]),
        *(_whole(one["number"], one, currency) for one in body["creditNotes"]),
        ("Rounding", *[None] * 5, _money(body["rounding"], currency)),
        ("Total, net of tax", *[None] * 5, _money(body["total"], currency)),
    ]


def _line(one: Json, currency: str | None) -> Row:
    """`Usage, template 7, not charged: outage`."""
    counted = unit(one["line"], currency)
    template = f", template {one['templateId']}" if one["templateId"] else ""
    reason = f", not charged: {one['reason'].replace('_', ' ')}" if one["reason"] else ""
    return (
        f"{line_name(one['line'])}{template}{reason}",
        one["reference"],
        one["tag"],
        one["sessions"],
        _quantity(one["quantity"], counted),
        _unit_price(one["unitPrice"], counted, currency),
        _money(one["amount"], currency),
    )


def _quantity(quantity: str, counted: str | None) -> str:
    if counted == "Calls":
        return f"{quantity.partition('.')[0]} x"
    return f"{quantity} {'min' if counted == 'Minutes' else counted}"


def _unit_price(price: str, counted: str | None, currency: str | None) -> str:
    """What is money itself is multiplied by a number: the provider's cost, what a minimum adds."""
    per = {"Minutes": "/min", "Calls": " each"}.get(counted or "")
    return f"{price} {currency}{per}" if per else f"x {price}"


def _whole(name: str, one: Json, currency: str | None) -> Row:
    return (name, one["reference"], *[None] * 4, _money(one["amount"], currency))


def _money(amount: str, currency: str | None) -> str:
    return f"{amount} {currency}" if currency else amount
