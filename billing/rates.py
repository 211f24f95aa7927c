"""Rate cards: what a second costs and how seconds are counted. Pure and immutable; a new price is a new card."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from billing.money import MAX_DECIMALS, ROUNDINGS, BillingError, format_price, minor_unit, summed, to_money
from billing.tiers import Graduated, Included, MonthPrice, Package, Tier, Volume

__all__ = [
    "COMPONENTS",
    "Graduated",
    "Included",
    "MonthPrice",
    "Package",
    "RateCard",
    "RateCardError",
    "Tier",
    "Volume",
    "parse_increments",
]

# What a minute may be made of, in the order in which it is shown.
COMPONENTS: Final = ("platform", "speech_to_text", "llm", "text_to_speech", "telephony")

# The longest call at this price, three days, after the coarsest increment still fits the ledger's NUMERIC(18,6).
_MAX_PRICE: Final = Decimal(100_000_000)
# No increment, and nothing that is free, is longer than a day.
_MAX_SECONDS: Final = 86_400
_MAX_MARKUP: Final = Decimal(1000)
_set: Final = object.__setattr__  # the one way into a frozen class, also for its own __init__
_INCREMENTS: Final = re.compile(r"([0-9]{1,5})/([0-9]{1,5})")


class RateCardError(BillingError):
    """A rate card that nothing can be charged by; the field that is wrong is named."""

    code = "rate_card_invalid"


@dataclass(frozen=True, slots=True, init=False)
class RateCard:
    """The price of a call.

    per_minute         price of 60 billed seconds, at most 100,000,000 with 6 decimals
    currency           an active ISO 4217 code
    initial_seconds    the first increment: a call is never billed for less
    increment_seconds  every later increment, counted from the end of the first
    connect_fee        added once to every call that lasted
    free_seconds       taken off before increments are counted
    min_charge         a call that lasted never costs less, before rounding; None: no minimum
    max_charge         a call never costs more, before rounding; None: no maximum
    decimals           0..6, what the cost is rounded to, once and last
    rounding           one of billing.money.ROUNDINGS
    components         what per_minute is made of, name and price of each, adding up to it; empty: one price
    markup             what the provider's own cost is multiplied by, in place of minutes (per_minute is 0 then, and
                       nothing that is about minutes is there); None: the call is charged by its minutes
    month              what a month's minutes cost together, settled when it is closed; None: each call stands alone.
                       Its calls have no minimum and no maximum: those would be of a price that is settled again
    price              per_minute in words, `0.10 USD/min`; derived
    """

    per_minute: Decimal
    currency: str
    initial_seconds: int
    increment_seconds: int
    connect_fee: Decimal
    free_seconds: int
    min_charge: Decimal | None
    max_charge: Decimal | None
    decimals: int
    rounding: str
    components: tuple[tuple[str, Decimal], ...]
    markup: Decimal | None
    month: MonthPrice | None
    price: str = field(init=False, repr=False, compare=False)

    def __init__(  # noqa: PLR0917  (a card's figures, in the order in which cards are written down)
        self,
        per_minute: Decimal | int | str,
        currency: str = "USD",
        initial_seconds: int = 1,
        increment_seconds: int = 1,
        connect_fee: Decimal | int | str = 0,
        free_seconds: int = 0,
        min_charge: Decimal | int | str | None = None,
        max_charge: Decimal | int | str | None = None,
        decimals: int = MAX_DECIMALS,
        rounding: str = "half_up",
        *,
        components: Mapping[str, Decimal | int | str] | Sequence[tuple[str, Decimal | int | str]] | None = None,
        markup: Decimal | int | str | None = None,
        month: MonthPrice | None = None,
    ) -> None:
        """Check and normalise every field. Raises RateCardError naming the first that is wrong; a float always is."""
        price_per_minute = _price(per_minute, "per_minute")
        low = None if min_charge is None else _price(min_charge, "min_charge")
        high = None if max_charge is None else _price(max_charge, "max_charge")
        if low is not None and high is not None and low > high:
            raise RateCardError("min_charge is more than max_charge", field="min_charge")
        if not isinstance(rounding, str) or rounding not in ROUNDINGS:
            raise RateCardError(f"rounding must be one of {', '.join(ROUNDINGS)}", field="rounding")
        _set(self, "per_minute", price_per_minute)
        _set(self, "currency", _currency(currency))
        _set(self, "initial_seconds", _whole(initial_seconds, "initial_seconds", low=1, high=_MAX_SECONDS))
        _set(self, "increment_seconds", _whole(increment_seconds, "increment_seconds", low=1, high=_MAX_SECONDS))
        _set(self, "connect_fee", _price(connect_fee, "connect_fee"))
        _set(self, "free_seconds", _whole(free_seconds, "free_seconds", low=0, high=_MAX_SECONDS))
        _set(self, "min_charge", low)
        _set(self, "max_charge", high)
        _set(self, "decimals", _whole(decimals, "decimals", low=0, high=MAX_DECIMALS))
        _set(self, "rounding", rounding)
        _set(self, "components", _components(components, price_per_minute))
        _set(self, "markup", _markup(markup, price_per_minute, currency))
        _set(self, "month", _month(month))
        self._check_together()
        _set(self, "price", f"{format_price(price_per_minute, currency)} {currency}/min")

    def _check_together(self) -> None:
        """What is right by itself may contradict something else."""
        about_minutes = {"components": self.components, "free_seconds": self.free_seconds, "month": self.month}
        if self.markup is not None:
            for name, value in about_minutes.items():
                if value:
                    raise RateCardError(f"{name} is about minutes, and a card with a markup has none", field=name)
        if self.month is not None:
            for name, limit in (("min_charge", self.min_charge), ("max_charge", self.max_charge)):
                if limit is not None:
                    text = f"{name} is of one call, and a card with a price for the month settles them together"
                    raise RateCardError(text, field=name)


def parse_increments(text: str) -> tuple[int, int]:
    """Read increments as telephony writes them: `60/6` is (60, 6), an initial minute and then steps of six seconds.

    Raises RateCardError with the field `increments` unless it is two whole numbers from 1 to 86,400.
    """
    match = _INCREMENTS.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise RateCardError("increments must be written as initial/next seconds, such as 60/6", field="increments")
    initial, following = (_whole(int(part), "increments", low=1, high=_MAX_SECONDS) for part in match.groups())
    return initial, following


def _components(components: object, per_minute: Decimal) -> tuple[tuple[str, Decimal], ...]:
    # As pairs they come from another card: dataclasses.replace.
    given = dict(components) if isinstance(components, tuple) else {} if components is None else components
    if not isinstance(given, Mapping) or any(name not in COMPONENTS for name in given):
        raise RateCardError(f"components must be of {', '.join(COMPONENTS)}", field="components")
    if not given:
        return ()
    found = tuple((name, _price(given[name], f"components.{name}")) for name in COMPONENTS if name in given)
    if summed(price for _, price in found) != per_minute:
        raise RateCardError("components must add up to per_minute", field="components")
    return found


def _markup(value: object, per_minute: Decimal, currency: str) -> Decimal | None:
    if value is None:
        return None
    markup = _price(value, "markup")
    if not 0 < markup <= _MAX_MARKUP:
        raise RateCardError(f"markup must be more than 0 and at most {_MAX_MARKUP}", field="markup")
    if per_minute:
        raise RateCardError("per_minute must be 0 on a card with a markup", field="per_minute")
    if currency != "USD":
        # Providers tell their cost in US dollars, and nothing here knows an exchange rate.
        raise RateCardError("currency must be USD on a card with a markup, as providers' costs are", field="currency")
    return markup


def _month(month: object) -> MonthPrice | None:
    if month is not None and not isinstance(month, MonthPrice):
        raise RateCardError("month must be Graduated, Volume, Package or Included", field="month")
    return month


def _price(value: object, name: str) -> Decimal:
    try:
        price = to_money(value, field=name)
    except BillingError as refused:
        raise RateCardError(refused.detail, field=name) from None
    if price < 0:
        raise RateCardError(f"{name} must not be negative", field=name)
    if price > _MAX_PRICE:
        raise RateCardError(f"{name} must be at most {_MAX_PRICE:,}", field=name)
    return price


def _currency(value: object) -> str:
    try:
        minor_unit(value)
    except BillingError as refused:
        raise RateCardError(refused.detail, field="currency") from None
    return str(value)


def _whole(value: object, name: str, *, low: int, high: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise RateCardError(f"{name} must be a whole number, not {type(value).__name__}", field=name)
    if not low <= value <= high:
        raise RateCardError(f"{name} must be from {low} to {high}", field=name)
    return value
