"""What a rate card says, as options."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from billing.card_fields import CardFields
from billing.money import MAX_DECIMALS, ROUNDINGS
from billing.rates import COMPONENTS

Command = TypeVar("Command", bound=Callable[..., Any])
# A price for the month is fifty tiers at most.
_MAX_FILE_CHARS: Final = 64 * 1024


class Component(click.ParamType[tuple[str, str]]):
    """A component of a price, `llm=0.02`."""

    name = "component"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Text to a name and a price."""
        if isinstance(value, tuple):
            return value
        name, found, price = value.partition("=")
        if not found or name not in COMPONENTS:
            self.fail(f"give NAME=PRICE, where NAME is one of {', '.join(COMPONENTS)}", param, ctx)
        return name, price


class JsonObject(click.ParamType[dict[str, Any]]):
    """A JSON object, or `@` and the name of a file that has one."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        """Text to a dict; numbers with a point stay text, for no float is money."""
        if isinstance(value, dict):
            return value
        try:
            text = Path(value[1:]).read_text("utf-8")[:_MAX_FILE_CHARS] if value.startswith("@") else value
        except (OSError, UnicodeDecodeError):
            self.fail("this file cannot be read", param, ctx)
        try:
            found = json.loads(text, parse_float=str)
        except (ValueError, RecursionError):
            self.fail("this is not JSON", param, ctx)
        if not isinstance(found, dict):
            self.fail("give a JSON object", param, ctx)
        return found


_OPTIONS: Final = (
    click.option("--currency", help="ISO 4217; one per account (default: USD)."),
    click.option("--card", "increments", help="First and further seconds: 60/6 (default: 1/1)."),
    click.option("--connect-fee", metavar="PRICE", help="Added once to every call that lasted."),
    click.option("--free-seconds", type=int, help="Taken off before increments are counted."),
    click.option("--min-charge", metavar="PRICE", help="A call that lasted never costs less."),
    click.option("--max-charge", metavar="PRICE", help="A call never costs more."),
    click.option("--decimals", type=int, help=f"What a charge is rounded to (default: {MAX_DECIMALS})."),
    click.option("--rounding", type=click.Choice(list(ROUNDINGS)), help="How (default: half_up)."),
    click.option(
        "--component",
        "components",
        type=Component(),
        multiple=True,
        metavar="NAME=PRICE",
        help="What the price of a minute is made of; repeatable, and they add up to it.",
    ),
    click.option("--markup", metavar="FACTOR", help="Times the provider's own cost, in place of minutes."),
    click.option(
        "--month-price",
        type=JsonObject(),
        metavar="JSON|@FILE",
        help="What a month's minutes cost together: tiers, packages or included minutes.",
    ),
)


def card_options(command: Command) -> Command:
    """Options for all that a card says but its price per minute; `card_of_options` reads them."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def card_of_options(given: dict[str, Any]) -> CardFields:
    """What the options say of a card; those that were not given are not there."""
    components: tuple[tuple[str, str], ...] = given.get("components", ())
    said: Any = {name: value for name, value in given.items() if name in CardFields.__annotations__}
    said["components"] = dict(components) or None
    if len(said["components"] or ()) < len(components):
        raise click.UsageError("each --component is given once")
    return {name: value for name, value in said.items() if value is not None}  # type: ignore[return-value]
