"""Rate cards from what the API and the command line are given; mistakes are named as customers write them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from billing import card_fields
from billing.rates import Included, RateCard, RateCardError
from billing.tiers import TiersError

INCLUDED = {"model": "included", "minutes": "500", "unitPrice": "0.08"}


def test_reads_all_that_a_card_may_say() -> None:
    """Texts, numbers and JSON."""
    assert card_fields.read(
        per_minute="0.10",
        currency="EUR",
        increments="60/6",
        connect_fee="0.05",
        free_seconds=10,
        decimals=4,
        rounding="up",
        components={"llm": "0.04", "platform": "0.06"},
        month_price=INCLUDED,
    ) == RateCard(
        "0.10",
        "EUR",
        initial_seconds=60,
        increment_seconds=6,
        connect_fee="0.05",
        free_seconds=10,
        decimals=4,
        rounding="up",
        components={"platform": "0.06", "llm": "0.04"},
        month=Included(500, "0.08"),
    )
    assert card_fields.read(per_minute="1", min_charge="0.1", max_charge="2").max_charge == Decimal(2)


def test_what_is_none_is_not_said() -> None:
    """Every field may be absent either way; only a markup needs no price per minute."""
    nothing: dict[str, Any] = dict.fromkeys(card_fields.CardFields.__annotations__)
    assert card_fields.read(**nothing | {"per_minute": "0.10"}) == RateCard("0.10")
    assert card_fields.read(**nothing | {"markup": "1.2"}) == RateCard(0, markup="1.2")
    with pytest.raises(RateCardError) as refused:
        card_fields.read(**nothing)
    assert refused.value.field == "perMinute"


@pytest.mark.parametrize(
    ("fields", "field", "detail"),
    [
        ({"per_minute": "-1"}, "perMinute", "perMinute must not be negative"),
        ({"connect_fee": "x"}, "connectFee", "connectFee must be a plain decimal such as 0.10"),
        ({"min_charge": "2", "max_charge": "1"}, "minCharge", "minCharge is more than maxCharge"),
        ({"increments": "0/6"}, "increments", "increments must be from 1 to 86400"),
        ({"components": {"speech_to_text": "x"}}, "components.speech_to_text", None),
        ({"components": {"llm": "0.09"}}, "components", "components must add up to perMinute"),
        ({"markup": "2"}, "perMinute", "perMinute must be 0 on a card with a markup"),
        ({"month_price": INCLUDED, "min_charge": "1"}, "minCharge", None),
        (
            {"per_minute": None, "markup": "2", "month_price": INCLUDED},
            "monthPrice",
            "monthPrice is about minutes, and a card with a markup has none",
        ),
    ],
)
def test_mistakes_are_named_as_customers_write_them(fields: dict[str, Any], field: str, detail: str | None) -> None:
    """In the field and in the words; names of components stay."""
    with pytest.raises(RateCardError) as refused:
        card_fields.read(**{"per_minute": "0.10", **fields})
    assert (refused.value.field, refused.value.code) == (field, "rate_card_invalid")
    assert detail in (None, refused.value.detail)


@pytest.mark.parametrize(
    ("month_price", "field"),
    [
        ({"model": "volume", "tiers": [{"upTo": "0", "unitPrice": "1"}]}, "monthPrice.tiers.0.upTo"),
        ({"model": "x"}, "monthPrice.model"),
        ([], "monthPrice"),
    ],
)
def test_mistakes_in_a_months_price_have_a_path(month_price: Any, field: str) -> None:
    """Dotted, into the JSON."""
    with pytest.raises(TiersError) as refused:
        card_fields.read(per_minute="0.10", month_price=month_price)
    assert (refused.value.field, refused.value.code) == (field, "month_price_invalid")
