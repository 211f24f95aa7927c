"""A statement as a page to print: A4, without scripts and without anything from elsewhere."""

from __future__ import annotations

import base64
import calendar
import hashlib
from collections.abc import Iterable
from datetime import date
from importlib.resources import files
from itertools import groupby
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from billing.statements import Statement
from billing.statements.body import CORRECTION, Json
from billing.statements.table import is_provisional, line_name, unit
from relay.store.rate_cards import RateCardRow

_REASONS: Final = {"own_provider_key": "on a key of your own at the provider"}


def written(statement: Statement, cards: Iterable[RateCardRow]) -> tuple[bytes, dict[str, str]]:
    """The page, and the headers that keep it from being anything else. `cards` are all that the account has."""
    style = files("relay.api").joinpath("templates/statement.css").read_text("utf-8")
    environment = Environment(
        loader=PackageLoader("relay.api"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"line_name": line_name, "unit": unit, "reason": _reason, "amount": _amount}
    body = statement.body
    html = environment.get_template("statement.html").render(
        style=Markup(style),  # noqa: S704  the file beside the template
        is_provisional=is_provisional(statement),
        state=statement.state.value,
        as_of=f"{statement.as_of:%-d %B %Y, %H:%M} UTC",
        sha256=statement.sha256,
        month=f"{statement.month:%B %Y}",
        first=_day(statement.month),
        last=_day(_last(statement.month)),
        body=body,
        sections=_sections(body["lines"]),
        increments={card.id: f"{card.initial_seconds}/{card.increment_seconds}" for card in cards},
        months=[
            one | {"monthName": f"{date.fromisoformat(one['month'] + '-01'):%B %Y}"} for one in body["monthPrices"]
        ],
    )
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return html.encode(), {
        "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }


def _sections(lines: list[Json]) -> list[tuple[str, list[Json]]]:
    """What is regular, then the corrections of each closed statement; in the order of the statement."""

    def title(line: Json) -> str:
        return f"Corrections of {line['reference']}" if line["class"] == CORRECTION else "Calls of the month"

    return [(name, list(grouped)) for name, grouped in groupby(lines, key=title)]


def _amount(text: str) -> str:
    """Thousands apart, by blanks that do not break, and a real minus."""
    whole, _, fraction = text.removeprefix("-").partition(".")
    spaced = f"{int(whole):,}".replace(",", "\u202f") + (f".{fraction}" if fraction else "")
    return f"\u2212{spaced}" if text.startswith("-") else spaced


def _reason(reason: Any) -> str:
    return _REASONS.get(reason, str(reason).replace("_", " "))


def _day(day: date) -> str:
    return f"{day:%-d %B %Y}"


def _last(month: date) -> date:
    return month.replace(day=calendar.monthrange(month.year, month.month)[1])
