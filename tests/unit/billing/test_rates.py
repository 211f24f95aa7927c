"""Rate cards refuse what cannot be charged by and read alike however they were written."""

from __future__ import annotations

import dataclasses
import pickle
from decimal import Decimal
from typing import Any

import pytest

from billing.rates import Included, RateCard, RateCardError, parse_increments
from relay.errors import BadRequest


def test_defaults_to_billing_by_the_second_in_dollars() -> None:
    """A price alone is a whole card."""
    card = RateCard("0.10")
    assert card == RateCard(
        Decimal("0.10"),
        "USD",
        initial_seconds=1,
        increment_seconds=1,
        connect_fee=0,
        free_seconds=0,
        min_charge=None,
        max_charge=None,
        decimals=6,
        rounding="half_up",
    )
    assert card.price == "0.10 USD/min"
    assert RateCard("0.10", "USD", 60, 6) == RateCard("0.10", initial_seconds=60, increment_seconds=6)


@pytest.mark.parametrize("written", ["0.1", "0.10", Decimal("0.100000"), Decimal("1E-1")])
def test_reads_a_price_alike_however_it_is_written(written: Decimal | str) -> None:
    """A card that came back from the database has the same repr and words as the one that went in."""
    assert repr(RateCard(written)) == repr(RateCard("0.10"))
    assert RateCard(written).price == "0.10 USD/min"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"per_minute": 0.1}, "per_minute"),
        ({"per_minute": True}, "per_minute"),
        ({"per_minute": None}, "per_minute"),
        ({"per_minute": "-0.01"}, "per_minute"),
        ({"per_minute": -1}, "per_minute"),
        ({"per_minute": "1e-2"}, "per_minute"),
        ({"per_minute": Decimal("NaN")}, "per_minute"),
        ({"per_minute": "0.0000001"}, "per_minute"),  # NUMERIC(18,6) would round it to nothing
        ({"per_minute": "100000000.01"}, "per_minute"),  # three days of much more would overflow NUMERIC(18,6)
        ({"currency": "usd"}, "currency"),
        ({"currency": "BTC"}, "currency"),
        ({"currency": "XAU"}, "currency"),
        ({"currency": None}, "currency"),
        ({"currency": ["USD"]}, "currency"),
        ({"initial_seconds": 0}, "initial_seconds"),
        ({"initial_seconds": -1}, "initial_seconds"),
        ({"initial_seconds": True}, "initial_seconds"),
        ({"initial_seconds": 1.0}, "initial_seconds"),
        ({"initial_seconds": "60"}, "initial_seconds"),
        ({"initial_seconds": 86_401}, "initial_seconds"),
        ({"increment_seconds": 0}, "increment_seconds"),
        ({"increment_seconds": Decimal(6)}, "increment_seconds"),
        ({"connect_fee": 0.05}, "connect_fee"),
        ({"connect_fee": False}, "connect_fee"),
        ({"connect_fee": "-0.05"}, "connect_fee"),
        ({"free_seconds": -1}, "free_seconds"),
        ({"free_seconds": False}, "free_seconds"),
        ({"min_charge": 0.5}, "min_charge"),
        ({"min_charge": "-1"}, "min_charge"),
        ({"min_charge": "2", "max_charge": "1.99"}, "min_charge"),
        ({"max_charge": 5.0}, "max_charge"),
        ({"max_charge": "-1"}, "max_charge"),
        ({"decimals": -1}, "decimals"),
        ({"decimals": 7}, "decimals"),
        ({"decimals": True}, "decimals"),
        ({"decimals": 2.0}, "decimals"),
        ({"rounding": "ROUND_HALF_UP"}, "rounding"),
        ({"rounding": "bankers"}, "rounding"),
        ({"rounding": None}, "rounding"),
        ({"components": {"platform": "0.05", "llm": "0.04"}}, "components"),  # a cent is missing
        ({"components": {"platform": "0.10", "jokes": "0"}}, "components"),
        ({"components": {"platform": "0.11", "llm": "-0.01"}}, "components.llm"),
        ({"components": {"platform": 0.1}}, "components.platform"),
        ({"components": ["platform"]}, "components"),
        ({"per_minute": 0, "markup": 0}, "markup"),
        ({"per_minute": 0, "markup": "-1.2"}, "markup"),
        ({"per_minute": 0, "markup": 1.2}, "markup"),
        ({"per_minute": 0, "markup": 1001}, "markup"),
        ({"markup": "1.2"}, "per_minute"),  # a call is charged by its minutes or by the provider's cost
        ({"per_minute": 0, "markup": "1.2", "currency": "EUR"}, "currency"),  # providers' costs are in USD
        ({"per_minute": 0, "markup": "1.2", "components": {"llm": 0}}, "components"),
        ({"per_minute": 0, "markup": "1.2", "free_seconds": 10}, "free_seconds"),
        ({"per_minute": 0, "markup": "1.2", "month": Included(1, 1)}, "month"),
        ({"month": {"model": "included"}}, "month"),
        ({"month": Included(1, 1), "min_charge": "0.01"}, "min_charge"),
        ({"month": Included(1, 1), "max_charge": "0.01"}, "max_charge"),
        ({"rounding": ["half_up"]}, "rounding"),
    ],
)
def test_refuses_a_card_by_the_fields_name(fields: dict[str, Any], field: str) -> None:
    """The error is one type with one code, a 400, and names what to correct."""
    with pytest.raises(RateCardError) as refused:
        RateCard(**{"per_minute": "0.10", **fields})
    assert isinstance(refused.value, BadRequest)
    assert (refused.value.field, refused.value.code) == (field, "rate_card_invalid")
    assert field in refused.value.detail


@pytest.mark.parametrize(
    "fields",
    [
        {"per_minute": 0},  # a free plan
        {"per_minute": 100_000_000},
        {"min_charge": "1", "max_charge": "1"},
        {"initial_seconds": 86_400, "increment_seconds": 86_400, "free_seconds": 86_400},
        {"decimals": 0, "currency": "JPY", "rounding": "up"},
        {"per_minute": 0, "markup": 1000},
        {"per_minute": 0, "markup": 1, "connect_fee": "0.01", "min_charge": "0.05"},
        {"month": Included(500, "0.08"), "connect_fee": "0.01", "free_seconds": 5},
    ],
)
def test_takes_the_edges_of_every_range(fields: dict[str, Any]) -> None:
    """Limits are inclusive."""
    card = RateCard(**{"per_minute": "0.10", **fields})
    assert {name: getattr(card, name) for name in fields} == {
        name: Decimal(value) if isinstance(value, str) and value[0].isdigit() else value
        for name, value in fields.items()
    }


def test_is_immutable_and_hashable() -> None:
    """A card that charged once cannot change; another price is another card."""
    card = RateCard("0.10", connect_fee="0.05")
    with pytest.raises(dataclasses.FrozenInstanceError):
        card.per_minute = Decimal(1)  # type: ignore[misc]
    dearer = dataclasses.replace(card, per_minute=Decimal("0.20"))
    assert (dearer.per_minute, dearer.connect_fee, dearer.price) == (Decimal("0.2"), Decimal("0.05"), "0.20 USD/min")
    assert {card, RateCard("0.1", connect_fee="0.050")} == {card}
    made_of = RateCard("0.10", components={"llm": "0.04", "platform": "0.06"})
    assert dataclasses.replace(made_of, connect_fee=Decimal(1)).components == made_of.components
    assert pickle.loads(pickle.dumps(card)) == card


@pytest.mark.parametrize(
    ("text", "increments"),
    [
        ("1/1", (1, 1)),  # by the second, as voice-AI vendors bill
        ("6/6", (6, 6)),
        ("30/6", (30, 6)),  # usual in the USA
        ("60/1", (60, 1)),
        ("60/6", (60, 6)),
        ("60/60", (60, 60)),  # by begun minutes
        ("060/1", (60, 1)),
    ],
)
def test_reads_increments_as_telephony_writes_them(text: str, increments: tuple[int, int]) -> None:
    """The first increment, then every further one, in seconds."""
    assert parse_increments(text) == increments


NO_INCREMENTS = (
    "", "60", "60/", "/6", "60/6/1", "60 / 6", "60/6\n", "+60/6", "-60/6", "6_0/6", "60.0/6", "\u0666/6",
    "0/6", "60/0", "86401/1", "1/999999", None, 60, (60, 6),
)  # fmt: skip


@pytest.mark.parametrize("text", NO_INCREMENTS)
def test_refuses_increments_that_are_not_two_whole_numbers(text: Any) -> None:
    """Increments below one second, or in any other form, are refused."""
    with pytest.raises(RateCardError) as refused:
        parse_increments(text)
    assert (refused.value.field, refused.value.code) == ("increments", "rate_card_invalid")
