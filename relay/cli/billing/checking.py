"""The command that looks for what breaks an invariant of billing."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any, Final

import click
import msgspec

from billing import inspection
from billing.inspection import Report
from relay.cli.connecting import connected
from relay.cli.output import json_option, table

_PROGRESS_SECONDS: Final = 1.0


@click.command()
@click.option("--full", is_flag=True, help="All there is, not only what changed lately. Takes minutes.")
@json_option
def check(*, full: bool, as_json: bool) -> None:
    """Check that sessions, ledger, usage and statements agree; end with 1 if they do not.

    Only reads. A worker does the same every hour for what changed lately, and once a day for everything.
    """
    told = _Progress()
    with connected() as database:
        if full:
            report = inspection.everything(database, on_page=told)
        else:
            report = inspection.recent(database, now=datetime.now(UTC), on_page=told)
    if as_json:
        click.echo(msgspec.json.encode(_answer(report)).decode())
    else:
        _show(report)
    if report.violations:
        raise click.exceptions.Exit(1)


class _Progress:
    """A line on standard error once a second."""

    def __init__(self) -> None:
        self._told = time.monotonic()

    def __call__(self, report: Report) -> None:
        if time.monotonic() - self._told >= _PROGRESS_SECONDS:
            self._told = time.monotonic()
            click.echo(f"{report.sessions} sessions, {report.rows} rows, {report.violations} wrong", err=True)


def _show(report: Report) -> None:
    click.echo(f"{report.sessions} sessions and {report.rows} rows of the ledger checked.")
    table([(one, found.count) for one, found in report.found.items()], ("INVARIANT", "VIOLATIONS"), empty="")
    for one, found in report.found.items():
        for example in found.examples:
            click.echo(f"{one}: {example.what} of {example.account_id}")


def _answer(report: Report) -> dict[str, Any]:
    return {
        "sessions": report.sessions,
        "rows": report.rows,
        "violations": report.violations,
        "invariants": {
            one: {
                "count": found.count,
                "examples": [{"accountId": each.account_id, "what": each.what} for each in found.examples],
            }
            for one, found in report.found.items()
        },
    }
