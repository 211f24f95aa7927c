"""A statement as plain JSON, and as a table whose columns have FOCUS names. Pure.

The table has a row for everything that is added up, the rounding too: its BilledCost adds up to the total.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any, Final

from billing import periods
from billing.cost import MARKUP, MAXIMUM, MINIMUM
from billing.reports.sheets import Cell, written
from billing.statements import State, Statement, settlement
from billing.statements.body import CORRECTION, Json
from relay.store.shown import moment

# FinOps Open Cost and Usage Specification 1.x; what it has no column for begins with `x_`, as it asks.
COLUMNS: Final = (
    "BillingAccountId",
    "BillingAccountName",
    "BillingPeriodStart",
    "BillingPeriodEnd",
    "InvoiceId",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "PricingQuantity",
    "PricingUnit",
    "ListCost",
    "BilledCost",
    "BillingCurrency",
    "SkuPriceId",
    "x_UnitPrice",
    "x_Line",
    "x_Sessions",
    "x_TemplateId",
    "x_Tag",
    "x_Reason",
    "x_Reference",
    "x_State",
)
_NAMES: Final = {
    "usage": "Usage",
    "platform": "Platform",
    "speech_to_text": "Speech to text",
    "llm": "LLM",
    "text_to_speech": "Text to speech",
    "telephony": "Telephony",
    "connect_fee": "Connect fees",
    "minimum": "Raised to the minimum charge",
    "maximum": "Lowered to the maximum charge",
    "markup": "Provider's cost, times the card's factor",
}


def shown(statement: Statement) -> Json:
    """What the API and the command line show. Everybody who has `statement` can compute `sha256`."""
    return summary(statement) | {"statement": statement.body}


def summary(statement: Statement) -> Json:
    """The same without its text."""
    return {
        "accountId": statement.account_id,
        "month": f"{statement.month:%Y-%m}",
        "state": statement.state.value,
        "number": statement.number,
        "currency": statement.currency,
        "total": statement.body["total"],
        "asOf": moment(statement.as_of),
        "closedAt": moment(statement.closed_at),
        "sha256": statement.sha256,
    }


def table(statement: Statement) -> str:
    """The statement as CSV. Until it is closed, `x_State` says so on every row."""
    body = statement.body
    whose: tuple[Cell, ...] = (
        body["accountId"],
        body["accountName"],
        _midnight(statement.month),
        _midnight(periods.next_month(statement.month)),
        statement.number,
    )
    return written(COLUMNS, ((*whose, *row, statement.state.value) for row in _rows(body)))


def line_name(line: str) -> str:
    """What is paid for, in words."""
    return _NAMES.get(line, line.replace("_", " ").capitalize())


def unit(line: str, currency: str | None) -> str | None:
    """What is counted, in one word."""
    if line in settlement.MINUTES:
        return "Minutes"
    if line in (MINIMUM, MAXIMUM):
        return currency
    return "USD" if line == MARKUP else "Calls"


def is_provisional(statement: Statement) -> bool:
    """Whether anything may still change."""
    return statement.state is not State.CLOSED


def _rows(body: Json) -> Iterator[tuple[Cell, ...]]:
    currency = body["currency"]
    for one in body["lines"]:
        yield (
            "Usage",
            _class(one),
            line_name(one["line"]),
            Decimal(one["quantity"]),
            unit(one["line"], currency),
            Decimal(one["listAmount"]),
            Decimal(one["amount"]),
            currency,
            one["rateCardId"],
            Decimal(one["unitPrice"]),
            one["line"],
            one["sessions"],
            one["templateId"],
            one["tag"],
            one["reason"],
            one["reference"],
        )
    for one in body["monthPrices"]:
        said = f"Price of {one['month']} as a whole: {'; '.join(one['steps'])}"
        yield _adjusted("Adjustment", _class(one), said, one, currency, line=settlement.LINE)
    for one in body["creditNotes"]:
        said = f"{one['number']}: {one['reason']}"
        yield _adjusted("Credit", CORRECTION, said, one, currency, line="credit_note")
    rounding = {"amount": body["rounding"], "rateCardId": None, "reference": None}
    yield _adjusted("Adjustment", None, "Rounding to what the currency is paid in", rounding, currency, line="rounding")


def _adjusted(
    category: str, class_: str | None, said: str, one: Json, currency: str | None, *, line: str
) -> tuple[Cell, ...]:
    amount = Decimal(one["amount"])
    kept: tuple[Any, ...] = (None, line, None, None, None, None, one["reference"])
    return (category, class_, said, None, None, amount, amount, currency, one.get("rateCardId"), *kept)


def _class(one: Json) -> str | None:
    """FOCUS knows one class, and no name for what is regular."""
    return CORRECTION if one["class"] == CORRECTION else None


def _midnight(month: date) -> str:
    return f"{month:%Y-%m-%d}T00:00:00Z"
