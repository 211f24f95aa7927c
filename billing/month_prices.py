"""A month's price as JSON, which is how rate cards keep it and how the API writes it. Pure.

`{"model": "graduated" | "volume", "tiers": [{"upTo": "1000", "unitPrice": "0.08", "flatFee": "0"}, ...]}`,
`{"model": "package", "size": "100", "unitPrice": "9", "freeMinutes": "0"}` or
`{"model": "included", "minutes": "500", "unitPrice": "0.08", "monthlyFee": "20"}`; quantities are minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final, TypeVar

from billing.tiers import Graduated, Included, MonthPrice, Package, Tier, TiersError, Volume

Made = TypeVar("Made")


def read(given: Mapping[str, Any]) -> MonthPrice:
    """The price that JSON describes. Raises TiersError, naming the field as it is written there: `tiers.1.upTo`."""
    if not isinstance(given, Mapping):
        raise TiersError("must be an object with a model", field="")
    model = given.get("model")
    reader = _READERS.get(model) if isinstance(model, str) else None
    if reader is None:
        raise TiersError(f"model must be one of {', '.join(_READERS)}", field="model")
    return reader({name: value for name, value in given.items() if name != "model"})


def written(price: MonthPrice) -> dict[str, Any]:
    """The JSON of a price, complete: reading it again gives the same price."""
    match price:
        case Graduated() | Volume():
            tiers = [
                {"upTo": _text(tier.up_to), "unitPrice": _text(tier.unit_price), "flatFee": _text(tier.flat_fee)}
                for tier in price.tiers
            ]
            return {"model": "graduated" if isinstance(price, Graduated) else "volume", "tiers": tiers}
        case Package():
            free, size = _text(price.free_minutes), _text(price.size)
            return {"model": "package", "size": size, "unitPrice": _text(price.unit_price), "freeMinutes": free}
        case Included():
            minutes, fee = _text(price.minutes), _text(price.monthly_fee)
            return {"model": "included", "minutes": minutes, "unitPrice": _text(price.unit_price), "monthlyFee": fee}
    raise TypeError(f"{type(price).__name__} has no JSON")


def _tiers(make: type[Graduated | Volume]) -> Callable[[dict[str, Any]], MonthPrice]:
    def reader(given: dict[str, Any]) -> MonthPrice:
        tiers = given.pop("tiers", None)
        _nothing_else(given)
        if not isinstance(tiers, list | tuple) or not all(isinstance(tier, Mapping) for tier in tiers):
            raise TiersError("tiers must be a list of objects", field="tiers")
        return _made(make, [_tier(dict(tier), place) for place, tier in enumerate(tiers)])

    return reader


def _tier(given: dict[str, Any], place: int) -> Tier:
    up_to, unit_price, fee = given.pop("upTo", None), given.pop("unitPrice", None), given.pop("flatFee", "0")
    _nothing_else(given, f"tiers.{place}.")
    return _made(Tier, up_to, unit_price, flat_fee=fee, where=f"tiers.{place}.")


def _package(given: dict[str, Any]) -> MonthPrice:
    size, unit_price, free = given.pop("size", None), given.pop("unitPrice", None), given.pop("freeMinutes", "0")
    _nothing_else(given)
    return _made(Package, size, unit_price, free_minutes=free)


def _included(given: dict[str, Any]) -> MonthPrice:
    minutes, unit_price, fee = given.pop("minutes", None), given.pop("unitPrice", None), given.pop("monthlyFee", "0")
    _nothing_else(given)
    return _made(Included, minutes, unit_price, monthly_fee=fee)


def _nothing_else(given: Mapping[str, Any], where: str = "") -> None:
    for name in given:
        raise TiersError("there is no such field in this model", field=f"{where}{name}"[:64])


def _made(make: Callable[..., Made], *given: object, where: str = "", **named: object) -> Made:
    """What `make` makes; what it refuses is refused in the words of JSON."""
    try:
        return make(*given, **named)
    except TiersError as error:
        text, field = error.detail, error.field or ""
        for name, in_json in _JSON_NAMES.items():
            text, field = text.replace(name, in_json), field.replace(name, in_json)
        raise TiersError(text, field=where + field) from None


def _text(value: Decimal | None) -> str | None:
    return None if value is None else format(value, "f")


_READERS: Final[Mapping[str, Callable[[dict[str, Any]], MonthPrice]]] = {
    "graduated": _tiers(Graduated),
    "volume": _tiers(Volume),
    "package": _package,
    "included": _included,
}
_JSON_NAMES: Final = {
    "up_to": "upTo",
    "unit_price": "unitPrice",
    "flat_fee": "flatFee",
    "free_minutes": "freeMinutes",
    "monthly_fee": "monthlyFee",
}
