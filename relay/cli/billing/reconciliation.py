"""Commands that compare what was charged with what the providers know."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Any, Final

import click
import msgspec

from relay.cli.connecting import connected, reading
from relay.cli.listing import account_filter
from relay.cli.moments import Past, shown_moment
from relay.cli.output import json_option, lines, table
from relay.connections import redis_client
from relay.reconciliation import Outcome, Reconciler, Report
from relay.sealing import KeyRing
from relay.settings import Settings
from relay.store import accounts, reconciliations, shown
from relay.store.reconciliations import Reconciliation

# Often enough to see that it goes on, seldom enough to be read.
_PROGRESS_SECONDS: Final = 1.0
_PROVIDERS: Final = ("elevenlabs", "retell", "agora")
_COUNTS: Final = ("read", "found", "rated", "corrected", "relayed", "unassigned", "unmended")
_DAYS: Final = (
    "DAY", "ACCOUNT", "PROVIDER", "OURS", "THEIRS", "FOUND", "SECONDS", "THEIRS", "AMOUNT", "COST USD", "MARGIN",
)  # fmt: skip


class Day(click.ParamType[date]):
    """A day, as ISO 8601 writes it."""

    name = "day"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        """Text to a date."""
        if isinstance(value, date):
            return value
        try:
            day = date.fromisoformat(value)
        except ValueError:
            day = None
        if day is None or value != day.isoformat():  # 2026112010 would be a day, too
            self.fail("give a day as 2026-10-31", param, ctx)
        return day


@click.command()
@click.option("--provider", type=click.Choice(_PROVIDERS), help="Only at this provider.")
@click.option(
    "--since",
    type=Past(),
    metavar="TIME",
    help="Read all calls since: 30m, 2d, or ISO 8601, UTC without a zone (default: go on).",
)
@json_option
def reconcile(*, provider: str | None, since: datetime | None, as_json: bool) -> None:
    """Read the providers' lists of calls now; charge and relay what we were never told.

    The same is done every hour. Safe to repeat: a call is charged once and relayed once. Exits with 1 if a list could
    not be read, or if something that should have been charged was not.
    """
    if since is not None:
        click.echo(f"since {shown_moment(since)}", err=True)
    settings = Settings.from_environ()
    with connected(settings, pool_size=2) as database, redis_client(settings) as client:
        reconciler = Reconciler(settings, database, KeyRing(settings.keys), client)
        report = reconciler.run(provider=provider, since=since, on_progress=_telling())
    if as_json:
        click.echo(msgspec.json.encode(report.shown()).decode())
    else:
        _show(report)
    tallies = [report.stuck, *(one.tally for one in report.lists)]
    if any(one.outcome == "failed" for one in report.lists) or any(tally.unmended for tally in tallies):
        raise click.exceptions.Exit(1)


@click.command()
@account_filter
@click.option("--from", "since", type=Day(), metavar="DAY", help="From this day (UTC) on.")
@click.option("--to", "until", type=Day(), metavar="DAY", help="Only days before this one.")
@json_option
def differences(*, account_id: str | None, since: date | None, until: date | None, as_json: bool) -> None:
    """Show what each day had here and at the providers: calls, seconds, cost and margin, newest first."""
    if since is not None and until is not None and until <= since:
        raise click.UsageError("--to must be after --from")
    with reading() as connection:
        accounts.check(connection, account_id)
        rows = reconciliations.page(connection, account_id=account_id, since=since, until=until)
    if as_json:
        lines([shown.reconciliation(row) for row in rows])
    else:
        _table(rows)


def _telling() -> Callable[[Outcome], None]:
    told = time.monotonic()

    def tell(outcome: Outcome) -> None:
        nonlocal told
        if time.monotonic() - told >= _PROGRESS_SECONDS:
            told = time.monotonic()
            whose = outcome.account_id or "operator"
            click.echo(f"{outcome.provider} ({whose}): {outcome.tally.read} calls so far", err=True)

    return tell


def _show(report: Report) -> None:
    rows = []
    for one in report.lists:
        counts = one.tally.shown()
        rows.append((one.provider, one.account_id or "operator", one.outcome, *(counts[name] for name in _COUNTS)))
    headings = ("PROVIDER", "KEY OF", "OUTCOME", *(name.upper() for name in _COUNTS))
    table(rows, headings, empty="no key of any provider is configured or stored: nothing can be read")
    if report.stuck.asked:
        stuck = report.stuck.shown()
        click.echo(f"{stuck['asked']} sessions were asked for; {stuck['found']} of them had ended")
    days = [day for one in report.lists for day in one.days]
    if days:
        _table(days)


def _table(days: Sequence[Reconciliation]) -> None:
    told = [shown.reconciliation(day) for day in days]
    rows = [
        (
            one["day"], one["accountId"], one["provider"], one["sessions"], one["providerSessions"], one["found"],
            one["durationSeconds"], one["providerDurationSeconds"], f"{one['amount']} {one['currency'] or ''}".rstrip(),
            one["providerCostUsd"], one["margin"],
        )
        for one in told
    ]  # fmt: skip
    table(rows, _DAYS, empty="no day has been compared")
