"""A rate card from its fields as the API and the command line have them: texts, whole numbers and JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final, TypedDict, Unpack

from billing import month_prices
from billing.rates import RateCard, RateCardError, parse_increments
from billing.tiers import TiersError


class CardFields(TypedDict, total=False):
    """What a card may say. What is not there, or None, is as billing.rates.RateCard has it by default.

    Money is decimal text; `increments` are `60/6`; `components` are prices per minute by their names; `month_price` is
    as billing.month_prices has it. `per_minute` is needed unless there is a markup.
    """

    per_minute: str | None
    currency: str | None
    increments: str | None
    connect_fee: str | None
    free_seconds: int | None
    min_charge: str | None
    max_charge: str | None
    decimals: int | None
    rounding: str | None
    components: Mapping[str, str] | None
    markup: str | None
    month_price: Mapping[str, Any] | None


def read(**given: Unpack[CardFields]) -> RateCard:
    """The card. Raises RateCardError, and TiersError for `monthPrice.*`, naming the field as customers write it."""
    said: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    initial, increment = parse_increments(said.pop("increments", "1/1"))
    month_price = said.pop("month_price", None)
    if "per_minute" not in said and "markup" not in said:
        raise RateCardError("perMinute is needed, unless there is a markup", field="perMinute")
    month = None if month_price is None else _month(month_price)
    try:
        per_minute = said.pop("per_minute", "0")
        return RateCard(per_minute, **said, initial_seconds=initial, increment_seconds=increment, month=month)
    except RateCardError as error:
        raise _as_written(error) from None


def _month(given: Mapping[str, Any]) -> Any:
    try:
        return month_prices.read(given)
    except TiersError as error:
        raise TiersError(error.detail, field=f"monthPrice.{error.field}".removesuffix(".")) from None


def _as_written(error: RateCardError) -> RateCardError:
    """The same with the field as customers write it: perMinute. Names of components stay as they are."""
    name, dot, component = (error.field or "").partition(".")
    text = error.detail.removeprefix(name)
    begins = _WRITTEN.get(name, name) if text != error.detail else ""
    for ours, theirs in _WRITTEN.items():
        text = text.replace(ours, theirs) if "_" in ours else text
    return RateCardError(begins + text, field=f"{_WRITTEN.get(name, name)}{dot}{component}")


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


_WRITTEN: Final = {one.name: _camel(one.name) for one in fields(RateCard)} | {"month": "monthPrice"}
