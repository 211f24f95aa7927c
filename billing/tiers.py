"""Prices of a month: what its billed minutes cost together, in tiers, in packages, or beyond included ones. Pure.

A month's price is settled once, when the month is closed, over everything that was billed in it; until then each call
is charged by its card's own price per minute and the difference is shown as provisional.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Final

from billing.money import ARITHMETIC, ZERO, BillingError, shown, summed, to_money

_MAX_PRICE: Final = Decimal(100_000_000)
_MAX_TIERS: Final = 50
# More than a month of a million lines that never rest; no product with a price is longer than 50 digits.
_MAX_MINUTES: Final = Decimal(10**12)
# Minutes are sixtieths, which never end: what is finer than any price of them can tell.
_FINEST: Final = -60


class TiersError(BillingError):
    """A month's price that nothing can be charged by; the field that is wrong is named."""

    code = "month_price_invalid"


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a month's price: so many minutes (or packages, or one fee) at one price each."""

    quantity: Decimal
    unit_price: Decimal
    exact: Decimal
    words: str


class MonthPrice(ABC):
    """What a month's billed minutes cost together, before rounding."""

    __slots__ = ()

    @abstractmethod
    def slices(self, quantity: Decimal | int) -> tuple[Slice, ...]:
        """What so many minutes are charged as. Raises TiersError with the field `quantity` unless it is 0 or more.

        Give the seconds of the month divided once, by 60: a sum of rounded sixtieths may lie beyond a bound, and begin
        another package.
        """

    def price(self, quantity: Decimal | int) -> Decimal:
        """What so many minutes cost: the sum of their slices, exactly."""
        return summed(one.exact for one in self.slices(quantity))


@dataclass(frozen=True, slots=True, init=False)
class Tier:
    """Minutes up to and including `up_to`, each at `unit_price`; a `flat_fee` once the tier is entered.

    `up_to` None is the last tier: without an end.
    """

    up_to: Decimal | None
    unit_price: Decimal
    flat_fee: Decimal

    def __init__(
        self,
        up_to: Decimal | int | str | None,
        unit_price: Decimal | int | str,
        *,
        flat_fee: Decimal | int | str = 0,
    ) -> None:
        """Check every field. Raises TiersError naming the one that is wrong; a float always is."""
        bound = None if up_to is None else _amount(up_to, "up_to")
        if bound is not None and bound <= 0:
            raise TiersError("up_to must be more than 0", field="up_to")
        object.__setattr__(self, "up_to", bound)
        object.__setattr__(self, "unit_price", _amount(unit_price, "unit_price"))
        object.__setattr__(self, "flat_fee", _amount(flat_fee, "flat_fee"))


@dataclass(frozen=True, slots=True, init=False)
class Graduated(MonthPrice):
    """Each slice of the month at its own tier's price."""

    tiers: tuple[Tier, ...]

    def __init__(self, tiers: Iterable[Tier]) -> None:
        """Raises TiersError for bounds that do not rise or a last tier that ends."""
        object.__setattr__(self, "tiers", _checked_tiers(tiers))

    def slices(self, quantity: Decimal | int) -> tuple[Slice, ...]:
        """The slices of so many minutes; none for 0."""
        left, floor, found = _quantity(quantity), ZERO, list[Slice]()
        for tier in self.tiers:
            if left <= 0:
                break
            width = left if tier.up_to is None else min(left, ARITHMETIC.subtract(tier.up_to, floor))
            found += _slices(width, tier)
            left = ARITHMETIC.subtract(left, width)
            floor = tier.up_to or floor
        return tuple(found)


@dataclass(frozen=True, slots=True, init=False)
class Volume(MonthPrice):
    """All of the month at the price of the tier that it reaches."""

    tiers: tuple[Tier, ...]

    def __init__(self, tiers: Iterable[Tier]) -> None:
        """Raises TiersError as Graduated does."""
        object.__setattr__(self, "tiers", _checked_tiers(tiers))

    def slices(self, quantity: Decimal | int) -> tuple[Slice, ...]:
        """One slice, and its tier's fee if it has one; none for 0."""
        minutes = _quantity(quantity)
        if minutes == 0:
            return ()
        reached = next(tier for tier in self.tiers if tier.up_to is None or minutes <= tier.up_to)
        return tuple(_slices(minutes, reached))


@dataclass(frozen=True, slots=True, init=False)
class Package(MonthPrice):
    """Whole packages of `size` minutes at `unit_price` each, after `free_minutes`: a begun package is paid for."""

    size: Decimal
    unit_price: Decimal
    free_minutes: Decimal

    def __init__(
        self,
        size: Decimal | int | str,
        unit_price: Decimal | int | str,
        *,
        free_minutes: Decimal | int | str = 0,
    ) -> None:
        """Raises TiersError naming the field that is wrong."""
        checked = _amount(size, "size")
        if checked == 0:
            raise TiersError("size must be more than 0", field="size")
        object.__setattr__(self, "size", checked)
        object.__setattr__(self, "unit_price", _amount(unit_price, "unit_price"))
        object.__setattr__(self, "free_minutes", _amount(free_minutes, "free_minutes"))

    def slices(self, quantity: Decimal | int) -> tuple[Slice, ...]:
        """The packages that so many minutes need."""
        beyond = ARITHMETIC.subtract(_quantity(quantity), self.free_minutes)
        if beyond <= 0:
            return ()
        packages = ARITHMETIC.divide(beyond, self.size).to_integral_value(ROUND_CEILING, ARITHMETIC)
        return (_slice(packages, self.unit_price, f"packages of {shown(self.size)} min"),)


@dataclass(frozen=True, slots=True, init=False)
class Included(MonthPrice):
    """Minutes that a monthly fee covers, and the price of each one beyond them."""

    minutes: Decimal
    unit_price: Decimal
    monthly_fee: Decimal

    def __init__(
        self,
        minutes: Decimal | int | str,
        unit_price: Decimal | int | str,
        *,
        monthly_fee: Decimal | int | str = 0,
    ) -> None:
        """Raises TiersError naming the field that is wrong."""
        object.__setattr__(self, "minutes", _amount(minutes, "minutes"))
        object.__setattr__(self, "unit_price", _amount(unit_price, "unit_price"))
        object.__setattr__(self, "monthly_fee", _amount(monthly_fee, "monthly_fee"))

    def slices(self, quantity: Decimal | int) -> tuple[Slice, ...]:
        """The fee, which is due in any month, and what goes beyond the included minutes."""
        beyond = ARITHMETIC.subtract(_quantity(quantity), self.minutes)
        fee = (_slice(Decimal(1), self.monthly_fee, "monthly fee"),) if self.monthly_fee else ()
        said = f"min beyond {shown(self.minutes)} included"
        return (*fee, _slice(beyond, self.unit_price, said)) if beyond > 0 else fee


def _slices(minutes: Decimal, tier: Tier) -> list[Slice]:
    said = "min" if tier.up_to is None else f"min, up to {shown(tier.up_to)}"
    found = [_slice(minutes, tier.unit_price, said)]
    if tier.flat_fee:
        found.append(_slice(Decimal(1), tier.flat_fee, "fee of the tier"))
    return found


def _slice(quantity: Decimal, unit_price: Decimal, words: str) -> Slice:
    exact = ARITHMETIC.multiply(quantity, unit_price)
    return Slice(quantity, unit_price, exact, f"{shown(quantity)} {words} x {shown(unit_price)}")


def _checked_tiers(tiers: Iterable[Tier]) -> tuple[Tier, ...]:
    listed = tuple(tiers)
    if not listed or not all(isinstance(tier, Tier) for tier in listed):
        raise TiersError("tiers must be one or more tiers", field="tiers")
    if len(listed) > _MAX_TIERS:
        raise TiersError(f"there may be {_MAX_TIERS} tiers", field="tiers")
    floor = ZERO
    for place, tier in enumerate(listed[:-1]):
        if tier.up_to is None or tier.up_to <= floor:
            raise TiersError("up_to must be more than that of the tier before", field=f"tiers.{place}.up_to")
        floor = tier.up_to
    if listed[-1].up_to is not None:
        text = "up_to must not be there in the last tier: some minutes would have no price"
        raise TiersError(text, field=f"tiers.{len(listed) - 1}.up_to")
    return listed


def _quantity(value: Decimal | int) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, Decimal | int):
        raise TiersError("quantity must be whole or decimal minutes", field="quantity")
    quantity = Decimal(value)
    if not quantity.is_finite() or not 0 <= quantity <= _MAX_MINUTES:
        raise TiersError(f"quantity must be from 0 to {_MAX_MINUTES:,}", field="quantity")
    exponent = quantity.as_tuple().exponent
    if isinstance(exponent, int) and exponent < _FINEST:
        raise TiersError(f"quantity must not have more than {-_FINEST} decimals", field="quantity")
    return quantity


def _amount(value: object, name: str) -> Decimal:
    try:
        amount = to_money(value, field=name)
    except BillingError as refused:
        raise TiersError(refused.detail, field=name) from None
    if not 0 <= amount <= _MAX_PRICE:
        raise TiersError(f"{name} must be from 0 to {_MAX_PRICE:,}", field=name)
    return amount
