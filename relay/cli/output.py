"""What commands print: one JSON line with --json, else aligned text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import click
import msgspec

from relay.cli.moments import shown_moment

Command = TypeVar("Command", bound=Callable[..., Any])


def json_option(command: Command) -> Command:
    """--json: print one camelCase JSON line."""
    return click.option("--json", "as_json", is_flag=True, help="Print one line of JSON (camelCase).")(command)


def show(fields: Mapping[str, Any], *, as_json: bool, title: str, hint: str = "") -> None:
    """Print one thing that was made."""
    if as_json:
        click.echo(msgspec.json.encode(fields).decode())
        return
    click.echo(title)
    width = max(len(name) for name in fields)
    for name, value in fields.items():
        click.echo(f"  {name.ljust(width)}  {_cell(value)}")
    if hint:
        click.echo(hint)


def table(rows: Sequence[Sequence[Any]], headings: Sequence[str], *, empty: str) -> None:
    """Print rows under headings, aligned."""
    if not rows:
        click.echo(empty)
        return
    cells = [[_cell(cell) for cell in row] for row in rows]
    widths = [max(len(row[place]) for row in (list(headings), *cells)) for place in range(len(headings))]
    for row in (list(headings), *cells):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def lines(items: Sequence[Any]) -> None:
    """Print items as one JSON array on one line."""
    click.echo(msgspec.json.encode(items).decode())


def words(value: Any) -> str:
    """A value as people read it: `yes`, `llm 0.04, platform 0.06`, `2026-11-20 05:02:11Z`; None is blank. Pure."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case datetime():
            return shown_moment(value)
        case Mapping():
            return ", ".join(f"{name} {words(one)}" for name, one in value.items() if one is not None)
        case list() | tuple():
            return ", ".join(f"({words(one)})" if isinstance(one, Mapping) else words(one) for one in value)
    return str(value)


def _cell(value: Any) -> str:
    """A value on one line: providers choose their ids, and a terminal would obey what is in them."""
    text = words(value)
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)
