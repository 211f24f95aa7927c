"""The examples of docs/billing.md are what billing does."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest

from billing.cost import cost
from billing.rates import Graduated, Included, MonthPrice, Package, RateCard, Tier, Volume, parse_increments

PAGE = (Path(__file__).parents[3] / "docs" / "billing.md").read_text(encoding="utf-8")
INCREMENTS = re.findall(r"^\| `(\d+/\d+)` \|(.*)\|[^|]*\|$", PAGE, re.MULTILINE)
MINUS = "\N{MINUS SIGN}"
DURATIONS = (7, 61, 125)
TIERS = (Tier(100, "0.10"), Tier(1000, "0.08"), Tier(None, "0.05"))
MODELS: dict[str, MonthPrice] = {
    "graduated": Graduated(TIERS),
    "volume": Volume((TIERS[2],)),
    "package": Package(200, "15.00", free_minutes=100),
    "included": Included(1000, "0.07", monthly_fee="80.00"),
}


@pytest.mark.parametrize(("increments", "cells"), INCREMENTS)
def test_increments(increments: str, cells: str) -> None:
    """Billed seconds and cost at 0.10 USD a minute."""
    initial, following = parse_increments(increments)
    card = RateCard("0.10", initial_seconds=initial, increment_seconds=following)
    for seconds, cell in zip(DURATIONS, cells.split("|"), strict=True):
        billed, amount = cell.split(",")
        charge = cost(seconds, card)
        assert (f"{charge.billed_seconds} s", charge.amount) == (billed.strip(), Decimal(amount.strip()))


def test_the_call_that_is_followed_step_by_step() -> None:
    """91 s on 60/6 with a connect fee."""
    charge = cost("90.4", RateCard("0.10", initial_seconds=60, increment_seconds=6, connect_fee="0.02"))
    assert (charge.billed_seconds, f"{charge.amount}") == (96, "0.180000")
    assert "60 + 6 \N{MULTIPLICATION SIGN} 6 = 96 s" in PAGE
    assert "| 0.180000 |" in PAGE


@pytest.mark.parametrize("model", MODELS)
def test_prices_of_a_month(model: str) -> None:
    """1,500 minutes, charged at 0.10 each so far."""
    (cells,) = re.findall(rf"^\| {model} \|(.*)\|$", PAGE, re.MULTILINE)
    _, price, adjustment = (cell.strip() for cell in cells.split("|"))
    expected = MODELS[model].price(1500)
    assert Decimal(price.rpartition("= ")[2]) == expected
    assert Decimal(adjustment.replace(MINUS, "-")) == expected - 150


def test_the_statement_adds_up() -> None:
    """Lines, rounding and total as they are printed."""
    (example,) = re.findall(r"```text\n(usage .*?)```", PAGE, re.DOTALL)
    *lines, subtotal, rounding, total = [
        Decimal(re.findall(r"-?[\d.]+", line.replace("net of tax", "").replace(MINUS, "-"))[-1])
        for line in example.strip().splitlines()
    ]
    assert sum(lines) == subtotal
    assert subtotal + rounding == total


def test_every_example_was_found() -> None:
    """A table that is written in another way is not skipped."""
    assert len(INCREMENTS) == 5
