"""What is told of a budget, and what is held back for a session: decisions without a database."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from billing.budgets import alert, checked_amount, checked_thresholds, crossed, months, percent, rearmed, untold
from billing.rates import RateCard
from billing.reservations import fits, most
from relay.errors import BadRequest
from relay.store.budgets import Budget, Standing

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def standing(spent: str, *, amount: str = "100", reserved: str = "0", **changes: Any) -> Standing:
    """How a budget of 100 with the usual thresholds stands."""
    told = changes.pop("told", ())
    values: dict[str, Any] = {
        "id": "bud_1",
        "account_id": "acc_1",
        "tag": None,
        "amount": Decimal(amount),
        "thresholds": (50, 80, 100),
        "hard_limit": True,
        "created_at": NOW,
        "updated_at": NOW,
        "deleted_at": None,
    }
    return Standing(
        budget=Budget(**values | changes),
        month=date(2026, 11, 1),
        currency="USD",
        spent=Decimal(spent),
        reserved=Decimal(reserved),
        told=told,
    )


@pytest.mark.parametrize(
    ("spent", "expected"),
    [
        ("0", ()),
        ("-5", ()),  # a month of corrections
        ("49.999999", ()),
        ("50", (50,)),  # reached is crossed
        ("80.000001", (50, 80)),
        ("100", (50, 80, 100)),
        ("1000", (50, 80, 100)),
    ],
)
def test_a_threshold_is_crossed_when_it_is_reached(spent: str, expected: tuple[int, ...]) -> None:
    """Exactly, whatever the decimals are."""
    assert crossed(Decimal(100), (100, 50, 80), Decimal(spent)) == expected


@pytest.mark.parametrize(
    ("told", "expected"), [((), (50, 80)), ((50,), (80,)), ((50, 80), ()), ((50, 80, 100), ()), ((80,), (50,))]
)
def test_what_was_told_is_not_told_again(told: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Each threshold on its own."""
    assert untold(standing("85", told=told)) == expected


@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        ("100", ()),
        ("105", (100,)),  # 80 % of it is 84, and is still reached
        ("150", (80, 100)),
        ("1000", (50, 80, 100)),
        ("10", ()),  # a smaller budget lifts nothing
    ],
)
def test_a_larger_budget_rearms_what_it_lifts_above_the_spending(amount: str, expected: tuple[int, ...]) -> None:
    """What is still reached was told, and is no news."""
    assert rearmed(standing("100", told=(50, 80, 100)), Decimal(amount)) == tuple(
        one for one in expected if one in (50, 80, 100)
    )


@pytest.mark.parametrize(("spent", "expected"), [("0", 0), ("99.999999", 99), ("100", 100), ("250", 250), ("-0.5", -1)])
def test_percent_is_rounded_down(spent: str, expected: int) -> None:
    """100 is all of it, and not nearly."""
    assert percent(standing(spent)) == expected


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (datetime(2026, 11, 20, tzinfo=UTC), (date(2026, 11, 1),)),
        (datetime(2026, 11, 1, tzinfo=UTC), (date(2026, 10, 1), date(2026, 11, 1))),
        (datetime(2026, 11, 3, 23, 59, tzinfo=UTC), (date(2026, 10, 1), date(2026, 11, 1))),
        (datetime(2026, 11, 4, 0, 0, tzinfo=UTC), (date(2026, 11, 1),)),
        (datetime(2027, 1, 1, 12, tzinfo=UTC), (date(2026, 12, 1), date(2027, 1, 1))),
    ],
)
def test_a_month_is_watched_until_its_late_calls_are_told(now: datetime, expected: tuple[date, ...]) -> None:
    """72 hours, as long as its statement is a draft."""
    assert months(now) == expected


def test_an_alert_says_what_was_crossed() -> None:
    """Money as text with its currency, the month, the moment in UTC."""
    assert alert(standing("81.2", tag="support"), 80, NOW) == {
        "budgetId": "bud_1",
        "tag": "support",
        "month": "2026-11",
        "threshold": 80,
        "amount": "100.00",
        "spent": "81.20",
        "currency": "USD",
        "at": "2026-11-20T12:00:00.000Z",
    }


@pytest.mark.parametrize("amount", ["0", "-1", "1000000000000", "0.0000001", "NaN", "1e3", "", 1.5, True])
def test_an_amount_that_limits_nothing_is_refused(amount: object) -> None:
    """By the field's name."""
    with pytest.raises(BadRequest) as refused:
        checked_amount(amount)
    assert refused.value.field == "amount"


@pytest.mark.parametrize("given", [(), (0,), (1001,), (50, 50), tuple(range(1, 22))])
def test_thresholds_that_make_no_sense_are_refused(given: tuple[int, ...]) -> None:
    """By the field's name."""
    with pytest.raises(BadRequest) as refused:
        checked_thresholds(given)
    assert refused.value.field == "thresholds"


def test_thresholds_are_kept_in_order() -> None:
    """However they were given."""
    assert checked_thresholds([1000, 1, 80]) == (1, 80, 1000)


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        (RateCard("0.10"), "1.000000"),
        (RateCard("0.10", connect_fee="0.25"), "1.250000"),
        (RateCard("0.10", max_charge="0.5"), "0.500000"),
        (RateCard("0.10", free_seconds=600), "0.000000"),
        (RateCard("0"), "0.000000"),
        (RateCard(0, markup="1.3", max_charge="7"), "7"),  # whatever its provider asks
        (RateCard(0, markup="1.3"), None),
        (None, None),
    ],
)
def test_what_is_held_back_is_the_most_that_a_call_may_cost(card: RateCard | None, expected: str | None) -> None:
    """At ten minutes; None where nobody can know."""
    assert most(card, 600) == (None if expected is None else Decimal(expected))


@pytest.mark.parametrize(
    ("spent", "reserved", "amount", "expected"),
    [
        ("0", "0", "100", True),  # all of it
        ("0", "0", "100.000001", False),
        ("60", "30", "10", True),
        ("60", "30", "10.01", False),
        ("100", "0", "0", True),  # what costs nothing always fits
        ("100.01", "0", "0", False),
        ("99.99", "0", None, True),  # nobody knows: while anything is left
        ("60", "40", None, False),
    ],
)
def test_a_session_fits_into_what_is_left(spent: str, reserved: str, amount: str | None, expected: bool) -> None:
    """Spent and held back both count."""
    asked = None if amount is None else Decimal(amount)
    assert fits(standing(spent, reserved=reserved), asked) is expected


def test_every_session_of_the_api_asks_the_budgets() -> None:
    """Nothing else makes one: neither what starts agents nor what opens conversations. Webhooks never come this way."""
    root = Path(__file__).parents[3]
    found = {
        path.relative_to(root).as_posix()
        for part in ("relay", "billing", "workers")
        for path in (root / part).rglob("*.py")
        if re.search(r"\bsessions\.create\(", path.read_text())
    }
    assert found == {"billing/reservations.py"}
