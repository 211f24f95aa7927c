"""Usage on the command line."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final, get_args

import click
import msgspec

from billing import reports
from billing.reports import Dimension, Group, Usage, focus, ranges, shown
from billing.reports.ranges import Range
from relay.cli.connecting import reading
from relay.cli.output import json_option, table
from relay.store import accounts

_DIMENSIONS: Final = tuple(name for name in get_args(Dimension) if name != "model")
_MOMENT: Final = "A date, which is its day in the time zone, or ISO 8601 with an offset"


class Dimensions(click.ParamType[tuple[Dimension, ...]]):
    """Names of dimensions with commas between them."""

    name = "dimensions"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Dimension, ...]:
        """Text to names."""
        if isinstance(value, tuple):
            return value
        names = tuple(dict.fromkeys(name.strip() for name in value.split(",")))
        if not set(names) <= set(_DIMENSIONS):
            self.fail(f"give one or more of {', '.join(_DIMENSIONS)}, with commas", param, ctx)
        return names


@click.command()
@click.option("--account", "account_id", metavar="ID", required=True, help="Whose usage.")
@click.option("--from", "begins", metavar="TIME", help=f"{_MOMENT} (default: the first of the month).")
@click.option("--to", "ends", metavar="TIME", help="The same, and not part of the range (default: the end of today).")
@click.option("--tz", default="UTC", show_default=True, help="The time zone whose days count: Europe/Berlin.")
@click.option(
    "--group-by",
    "by",
    type=Dimensions(),
    default="day",
    show_default=True,
    help=f"One or more of {', '.join(_DIMENSIONS)}, with commas.",
)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV with the names of FOCUS' columns.")
@json_option
def usage(
    *,
    account_id: str,
    begins: str | None,
    ends: str | None,
    tz: str,
    by: tuple[Dimension, ...],
    as_csv: bool,
    as_json: bool,
) -> None:
    """What an account used: sessions, minutes and money, and how many could not be charged."""
    if as_csv and as_json:
        raise click.UsageError("give --csv or --json, not both")
    within = ranges.read(begins, ends, tz, now=datetime.now(UTC))
    with reading() as connection:
        accounts.get(connection, account_id)
        found = reports.usage(connection, account_id=account_id, within=within, by=by)
    if as_csv:
        click.echo(focus.usage_table(found.groups, currency=found.currency), nl=False)
    elif as_json:
        click.echo(msgspec.json.encode(shown.report(found, within=within, by=by, more=None)))
    else:
        _print(found, within, by)


def _print(found: Usage, within: Range, by: tuple[Dimension, ...]) -> None:
    rows = [_row(group, by, found.currency) for group in found.groups]
    whole = shown.sums(found.totals, found.currency)
    rows.append(["total", *[""] * (len(by) - 1), *_figures(whole)])
    headings = [*(name.upper() for name in by), "SESSIONS", "UNRATED", "SECONDS", "MINUTES", "AMOUNT"]
    table(rows, headings, empty="")
    click.echo(f"{shown.moment(within.begins)} up to {shown.moment(within.ends)}, as of {shown.moment(found.as_of)}")


def _row(group: Group, by: tuple[Dimension, ...], currency: str | None) -> list[Any]:
    told = shown.group(group, by, currency)
    return [*("-" if told[name] is None else told[name] for name in by), *_figures(told)]


def _figures(told: dict[str, Any]) -> list[Any]:
    money = f"{told['amount']} {told['currency'] or ''}"
    return [told["sessions"], told["unrated"], told["durationSeconds"], told["billedMinutes"], money]
