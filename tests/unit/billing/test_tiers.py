"""What a month's minutes cost together: at, below and above every bound, and laws that hold for every price."""

from __future__ import annotations

import decimal
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.tiers import Graduated, Included, MonthPrice, Package, Slice, Tier, TiersError, Volume

# Ten cents to 100 minutes, eight from there to 500, five beyond.
TIERS = (Tier(100, "0.10"), Tier(500, "0.08"), Tier(None, "0.05"))
GRADUATED, VOLUME = Graduated(TIERS), Volume(TIERS)
# The same with a fee of 7 from the second tier on.
WITH_FEE = (Tier(100, "0.10"), Tier(None, "0.08", flat_fee=7))
PACKAGE = Package(100, 9, free_minutes=20)
INCLUDED = Included(500, "0.08", monthly_fee=20)


@pytest.mark.parametrize(
    ("price", "minutes", "cost"),
    [
        # Graduated: each slice at its own price; upper bounds are inclusive (Stripe and Lago, "Graduated pricing").
        (GRADUATED, "0", "0"),
        (GRADUATED, "0.1", "0.01"),
        (GRADUATED, "99.9", "9.99"),  # just below the bound: all in the first tier
        (GRADUATED, "100", "10"),  # at the bound: still the first tier's
        (GRADUATED, "100.1", "10.008"),  # just above: a tenth of a minute at 0.08
        (GRADUATED, "499.9", "41.992"),
        (GRADUATED, "500", "42"),
        (GRADUATED, "500.1", "42.005"),
        (GRADUATED, "1000", "67"),  # 100 x 0.10 + 400 x 0.08 + 500 x 0.05
        # Volume: all units at the price of the tier that is reached (Stripe "Volume pricing", Lago "Volume").
        (VOLUME, "0", "0"),
        (VOLUME, "99.9", "9.99"),
        (VOLUME, "100", "10"),
        (VOLUME, "100.1", "8.008"),  # cheaper than 100 min: so it is sold
        (VOLUME, "500", "40"),
        (VOLUME, "500.1", "25.005"),
        (VOLUME, "1000", "50"),
        # A fee is due once its tier is entered, and not before (Stripe `flat_amount`).
        (Graduated(WITH_FEE), "100", "10"),
        (Graduated(WITH_FEE), "100.1", "17.008"),
        (Volume(WITH_FEE), "100", "10"),
        (Volume(WITH_FEE), "200", "23"),
        (Graduated([Tier(None, "0.10", flat_fee=5)]), "0", "0"),
        (Graduated([Tier(None, "0.10", flat_fee=5)]), "1", "5.10"),
        # Package: ceil((minutes - free) / size) x price (Lago "Package pricing").
        (PACKAGE, "0", "0"),
        (PACKAGE, "20", "0"),  # all of them free
        (PACKAGE, "20.1", "9"),  # a begun package is paid for
        (PACKAGE, "119.9", "9"),
        (PACKAGE, "120", "9"),  # exactly one
        (PACKAGE, "120.1", "18"),
        (Package("0.5", 1), "1", "2"),
        # Included minutes: the fee is due in any month, minutes beyond are paid by the minute.
        (INCLUDED, "0", "20"),
        (INCLUDED, "499.9", "20"),
        (INCLUDED, "500", "20"),
        (INCLUDED, "500.1", "20.008"),
        (INCLUDED, "1000", "60"),
        (Included(0, "0.10"), "10", "1"),
        (Included(500, 0), "9999", "0"),  # a flat rate
    ],
)
def test_a_months_minutes_cost(price: MonthPrice, minutes: str, cost: str) -> None:
    """At, just below and just above each bound."""
    assert price.price(Decimal(minutes)) == Decimal(cost)


def test_slices_say_what_is_paid_for() -> None:
    """Each with its quantity, its price and words."""
    assert GRADUATED.slices(150) == (
        Slice(Decimal(100), Decimal("0.1"), Decimal("10.0"), "100 min, up to 100 x 0.1"),
        Slice(Decimal(50), Decimal("0.08"), Decimal("4.00"), "50 min, up to 500 x 0.08"),
    )
    assert [one.words for one in Volume(WITH_FEE).slices(150)] == ["150 min x 0.08", "1 fee of the tier x 7"]
    assert [one.words for one in PACKAGE.slices(121)] == ["2 packages of 100 min x 9"]
    assert [one.words for one in INCLUDED.slices(501)] == ["1 monthly fee x 20", "1 min beyond 500 included x 0.08"]


def test_seconds_divided_once_begin_no_package() -> None:
    """Two hours are 120 minutes exactly; what goes on for ever is shown cut short."""
    assert PACKAGE.price(Decimal(7200) / 60) == 9
    assert "0.01666666... min x 0.05" in Graduated([Tier(None, "0.05")]).slices(Decimal(1) / 60)[0].words


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Graduated([]), "tiers"),
        (lambda: Volume([]), "tiers"),
        (lambda: Graduated([("100", "0.10")]), "tiers"),  # type: ignore[list-item]
        (lambda: Graduated([Tier(100, "0.10")]), "tiers.0.up_to"),  # the last tier must have no end
        (lambda: Volume([Tier(100, "0.10"), Tier(200, "0.08")]), "tiers.1.up_to"),
        (lambda: Graduated([Tier(None, 1), Tier(None, 1)]), "tiers.0.up_to"),
        (lambda: Graduated([Tier(100, 1), Tier(100, 1), Tier(None, 1)]), "tiers.1.up_to"),
        (lambda: Graduated([Tier(100, 1), Tier(99, 1), Tier(None, 1)]), "tiers.1.up_to"),
        (lambda: Graduated([Tier(one, 1) for one in range(1, 51)] + [Tier(None, 1)]), "tiers"),
        (lambda: Tier(0, 1), "up_to"),
        (lambda: Tier(-1, 1), "up_to"),
        (lambda: Tier(1.0, 1), "up_to"),  # type: ignore[arg-type]
        (lambda: Tier(True, 1), "up_to"),
        (lambda: Tier(None, "-0.01"), "unit_price"),
        (lambda: Tier(None, 0.1), "unit_price"),  # type: ignore[arg-type]
        (lambda: Tier(None, "0.0000001"), "unit_price"),
        (lambda: Tier(None, 10**8 + 1), "unit_price"),
        (lambda: Tier(None, 1, flat_fee=-1), "flat_fee"),
        (lambda: Package(0, 1), "size"),
        (lambda: Package(-5, 1), "size"),
        (lambda: Package(1, -1), "unit_price"),
        (lambda: Package(1, 1, free_minutes=-1), "free_minutes"),
        (lambda: Included(-1, 1), "minutes"),
        (lambda: Included(1, -1), "unit_price"),
        (lambda: Included(1, 1, monthly_fee=-1), "monthly_fee"),
        (lambda: Included(1, 1, monthly_fee=1.5), "monthly_fee"),  # type: ignore[arg-type]
    ],
)
def test_refuses_by_the_fields_name(make: Any, field: str) -> None:
    """Prices that contradict themselves never charge anybody."""
    with pytest.raises(TiersError) as refused:
        make()
    assert (refused.value.field, refused.value.code) == (field, "month_price_invalid")


@pytest.mark.parametrize(
    "quantity", [-1, True, 1.5, "1", None, Decimal("NaN"), Decimal("Infinity"), 10**13, Decimal("1e-61")]
)
@pytest.mark.parametrize("price", [GRADUATED, VOLUME, PACKAGE, INCLUDED])
def test_refuses_a_quantity_that_is_none(price: MonthPrice, quantity: Any) -> None:
    """Floats, bools, negative and absurd minutes."""
    with pytest.raises(TiersError) as refused:
        price.price(quantity)
    assert refused.value.field == "quantity"


money = st.decimals(min_value=0, max_value=1000, places=6, allow_nan=False, allow_infinity=False)
minutes = st.integers(0, 10**7).map(lambda seconds: Fraction(seconds, 60))


def quantity_of(exact: Fraction) -> Decimal:
    """Minutes as the month's settlement has them: seconds divided once."""
    context = decimal.Context(prec=50)
    return context.divide(Decimal(exact.numerator), Decimal(exact.denominator))


@st.composite
def tiers(draw: st.DrawFn, *, with_fees: bool = True) -> tuple[Tier, ...]:
    """Any tiers that can be made."""
    bounds = sorted(draw(st.sets(st.integers(1, 10**5), max_size=6)))
    fee = money if with_fees else st.just(Decimal(0))
    return (*(Tier(bound, draw(money), flat_fee=draw(fee)) for bound in bounds), Tier(None, draw(money)))


@st.composite
def prices(draw: st.DrawFn) -> MonthPrice:
    """Any price that grows with its minutes, as a volume price need not."""
    match draw(st.sampled_from(["graduated", "package", "included"])):
        case "graduated":
            return Graduated(draw(tiers()))
        case "package":
            return Package(draw(st.integers(1, 1000)), draw(money), free_minutes=draw(st.integers(0, 1000)))
        case _:
            return Included(draw(st.integers(0, 1000)), draw(money), monthly_fee=draw(money))


@given(price=prices(), one=minutes, other=minutes)
def test_more_minutes_never_cost_less(price: MonthPrice, one: Fraction, other: Fraction) -> None:
    """Monotone, for every model but volume."""
    assert price.price(quantity_of(min(one, other))) <= price.price(quantity_of(max(one, other)))


@given(listed=tiers(with_fees=False))
def test_graduated_prices_do_not_jump(listed: tuple[Tier, ...]) -> None:
    """Continuous at each bound: a hair above it costs a hair of the dearest price more, at most."""
    price, hair = Graduated(listed), Decimal("1e-9")
    for tier in listed[:-1]:
        assert tier.up_to is not None
        step = price.price(tier.up_to + hair) - price.price(tier.up_to)
        assert 0 <= step <= hair * max(one.unit_price for one in listed)


@given(listed=tiers(), used=minutes)
def test_graduated_agrees_with_fractions(listed: tuple[Tier, ...], used: Fraction) -> None:
    """Tier by tier, computed another way."""
    expected, floor = Fraction(0), Fraction(0)
    for tier in listed:
        top = used if tier.up_to is None else min(used, Fraction(tier.up_to))
        if top > floor:
            expected += (top - floor) * Fraction(tier.unit_price) + Fraction(tier.flat_fee)
            floor = top
    assert abs(Fraction(Graduated(listed).price(quantity_of(used))) - expected) < Fraction(1, 10**30)


@given(price=prices() | tiers().map(Volume), used=minutes)
def test_slices_add_up(price: MonthPrice, used: Fraction) -> None:
    """Quantity x unit price is exact on each, and their sum is the price."""
    slices = price.slices(quantity_of(used))
    context = decimal.Context(prec=50)
    assert all(one.exact == context.multiply(one.quantity, one.unit_price) for one in slices)
    whole = sum((Fraction(one.exact) for one in slices), Fraction(0))
    assert abs(Fraction(price.price(quantity_of(used))) - whole) < Fraction(1, 10**30)


def test_ignores_the_ambient_decimal_context() -> None:
    """Another library's precision, rounding and traps change no month."""
    used = Decimal("1234.567890123456789")
    expected = [price.slices(used) for price in (GRADUATED, VOLUME, PACKAGE, INCLUDED)]
    hostile = decimal.Context(prec=2, rounding=decimal.ROUND_UP, traps=[decimal.Inexact, decimal.Rounded])
    with decimal.localcontext(hostile) as ambient:
        assert [price.slices(used) for price in (GRADUATED, VOLUME, PACKAGE, INCLUDED)] == expected
        assert not any(ambient.flags.values())
