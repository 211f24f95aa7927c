"""A month's price as JSON: what is written is read again, and every mistake is named where it stands."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from billing import month_prices
from billing.tiers import Graduated, Included, MonthPrice, Package, Tier, TiersError, Volume
from tests.unit.billing.test_tiers import prices


@pytest.mark.parametrize(
    ("given", "price"),
    [
        (
            {"model": "graduated", "tiers": [{"upTo": "100", "unitPrice": "0.10"}, {"unitPrice": "0.08"}]},
            Graduated([Tier(100, "0.10"), Tier(None, "0.08")]),
        ),
        (
            {"model": "volume", "tiers": [{"upTo": None, "unitPrice": 1, "flatFee": "7"}]},
            Volume([Tier(None, 1, flat_fee=7)]),
        ),
        ({"model": "package", "size": 100, "unitPrice": "9"}, Package(100, 9)),
        ({"model": "package", "size": "1", "unitPrice": "9", "freeMinutes": "2"}, Package(1, 9, free_minutes=2)),
        ({"model": "included", "minutes": "500", "unitPrice": "0.08"}, Included(500, "0.08")),
        (
            {"model": "included", "minutes": "500", "unitPrice": "0.08", "monthlyFee": "20"},
            Included(500, "0.08", monthly_fee=20),
        ),
    ],
)
def test_reads_each_model(given: dict[str, Any], price: MonthPrice) -> None:
    """What may be left out has its default; the input stays as it is."""
    before = repr(given)
    assert month_prices.read(given) == price
    assert repr(given) == before


def test_writes_all_that_there_is_to_say() -> None:
    """Texts without exponents, in the API's names."""
    assert month_prices.written(Graduated([Tier("1000", "0.000001"), Tier(None, 100)])) == {
        "model": "graduated",
        "tiers": [
            {"upTo": "1000", "unitPrice": "0.000001", "flatFee": "0"},
            {"upTo": None, "unitPrice": "100", "flatFee": "0"},
        ],
    }


@given(price=prices())
def test_what_is_written_is_read_again(price: MonthPrice) -> None:
    """Whatever the price."""
    assert month_prices.read(month_prices.written(price)) == price


LAST = {"unitPrice": "1"}


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ([], ""),
        ({}, "model"),
        ({"model": "stairs"}, "model"),
        ({"model": ["graduated"]}, "model"),
        ({"model": "graduated"}, "tiers"),
        ({"model": "graduated", "tiers": {}}, "tiers"),
        ({"model": "graduated", "tiers": []}, "tiers"),
        ({"model": "graduated", "tiers": ["1"]}, "tiers"),
        ({"model": "graduated", "tiers": [LAST], "size": "1"}, "size"),
        ({"model": "graduated", "tiers": [{"upTo": "0", "unitPrice": "1"}, LAST]}, "tiers.0.upTo"),
        ({"model": "volume", "tiers": [{"upTo": "9", "unitPrice": "1"}]}, "tiers.0.upTo"),
        ({"model": "volume", "tiers": [LAST, {"upTo": "9", "unitPrice": "1"}]}, "tiers.0.upTo"),
        ({"model": "graduated", "tiers": [{"upTo": "9", "unitPrice": "1"}, {"unitPrice": "-1"}]}, "tiers.1.unitPrice"),
        ({"model": "graduated", "tiers": [{}]}, "tiers.0.unitPrice"),
        ({"model": "graduated", "tiers": [LAST | {"flatFee": 0.5}]}, "tiers.0.flatFee"),
        ({"model": "graduated", "tiers": [LAST | {"up_to": "9"}]}, "tiers.0.up_to"),
        ({"model": "package", "unitPrice": "1"}, "size"),
        ({"model": "package", "size": "0", "unitPrice": "1"}, "size"),
        ({"model": "package", "size": "1", "unitPrice": "1", "freeMinutes": "-1"}, "freeMinutes"),
        ({"model": "included", "unitPrice": "1"}, "minutes"),
        ({"model": "included", "minutes": "1", "unitPrice": "1", "monthlyFee": "x"}, "monthlyFee"),
        ({"model": "included", "minutes": "1", "unitPrice": "1", "tiers": []}, "tiers"),
    ],
)
def test_a_mistake_is_named_where_it_stands(given: Any, field: str) -> None:
    """In the names of JSON, with one code."""
    with pytest.raises(TiersError) as refused:
        month_prices.read(given)
    assert (refused.value.field, refused.value.code) == (field, "month_price_invalid")
    assert "_" not in refused.value.detail
