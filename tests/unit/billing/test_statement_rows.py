"""A statement on a terminal: units, currencies, and lines that can be told apart."""

from __future__ import annotations

from typing import Any

from relay.cli.billing.statement_rows import rows


def line(**said: Any) -> dict[str, Any]:
    """A line of a statement: a minute at ten cents."""
    usual = {
        "line": "usage", "reference": None, "rateCardId": "rc_1", "templateId": None, "tag": None, "reason": None,
        "sessions": 1, "quantity": "1.000000", "unitPrice": "0.10", "amount": "0.100000",
    }  # fmt: skip
    return usual | said


def shown(*lines: dict[str, Any], **said: Any) -> list[tuple[Any, ...]]:
    """The rows of a statement with these lines."""
    whole = {"currency": "EUR", "monthPrices": [], "creditNotes": [], "rounding": "0.000000", "total": "0.10"}
    return rows(whole | {"lines": list(lines)} | said)


def test_a_quantity_has_a_unit_and_money_a_currency() -> None:
    """Minutes, calls, and money that is multiplied."""
    found = shown(
        line(),
        line(line="connect_fee", quantity="3.000000", unitPrice="0.05", amount="0.150000", sessions=3),
        line(line="minimum", quantity="0.020000", unitPrice="1.00", amount="0.020000"),
        line(line="markup", quantity="0.071000", unitPrice="1.20", amount="0.085200"),
    )
    assert [row[4:] for row in found] == [
        ("1.000000 min", "0.10 EUR/min", "0.100000 EUR"),
        ("3 x", "0.05 EUR each", "0.150000 EUR"),
        ("0.020000 EUR", "x 1.00", "0.020000 EUR"),
        ("0.071000 USD", "x 1.20", "0.085200 EUR"),
        (None, None, "0.000000 EUR"),
        (None, None, "0.10 EUR"),
    ]


def test_lines_that_would_look_alike_name_their_cards() -> None:
    """Those, and no others; a template and a reason are always told."""
    found = shown(
        line(),
        line(rateCardId="rc_2"),
        line(rateCardId="rc_3", unitPrice="0.20"),
        line(templateId=7),
        line(reason="own_provider_key", amount="0.000000"),
    )
    assert [row[0] for row in found[:5]] == [
        "Usage, rc_1",
        "Usage, rc_2",
        "Usage",
        "Usage, template 7",
        "Usage, not charged: own provider key",
    ]


def test_what_is_no_call_is_told_too() -> None:
    """Prices of months and credit notes, with what they correct; an account without a card has no currency."""
    price = {"month": "2026-05", "reference": "S-1", "amount": "-1.000000"}
    note = {"number": "CN-1", "reference": "S-1", "amount": "-2.000000"}
    found = shown(monthPrices=[price], creditNotes=[note], currency=None)
    assert [(row[0], row[1], row[6]) for row in found] == [
        ("Price of 2026-05", "S-1", "-1.000000"),
        ("CN-1", "S-1", "-2.000000"),
        ("Rounding", None, "0.000000"),
        ("Total, net of tax", None, "0.10"),
    ]
