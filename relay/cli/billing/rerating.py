"""The command that rates charged calls again."""

from __future__ import annotations

import sys
import time
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import click
import msgspec

from billing import rerating
from billing.money import summed
from billing.rerating import Change, Difference, Selection, Totals
from billing.statements import period_rows
from billing.statements.consequences import PriceDifference, price_differences
from relay.cli.billing.naming import NOBODY, by_option
from relay.cli.connecting import connected
from relay.cli.moments import Moment, shown_moment
from relay.cli.numbers import ROW_NUMBER
from relay.cli.output import json_option, table
from relay.store.database import Database

_PROGRESS_SECONDS: Final = 1.0
_SHOWN: Final = 20


@click.command()
@click.option("--account", "account_id", metavar="ID", required=True, help="Whose calls.")
@click.option(
    "--from",
    "begin",
    type=Moment(),
    required=True,
    help="Calls that began then or later; ISO 8601, UTC without a zone.",
)
@click.option(
    "--to", "end", type=Moment(), required=True, help="Calls that began before then; ISO 8601, UTC without a zone."
)
@click.option(
    "--card", "card_id", metavar="ID", help="By this rate card; else by the one that is in force for each by now."
)
@click.option("--template", "template_id", metavar="ID", type=ROW_NUMBER, help="Only of a template.")
@click.option("--tag", metavar="TEXT", help="Only with this tag.")
@click.option("--waive", metavar="REASON", help="Charge nothing, for this reason; the list price stays shown.")
@click.option("--charge-waived", is_flag=True, help="Charge those again that were waived.")
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@click.option(
    "--show", type=click.IntRange(1), default=_SHOWN, show_default=True, help="Show so many of the calls that change."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@by_option
@json_option
def rerate(
    *,
    account_id: str,
    begin: datetime,
    end: datetime,
    card_id: str | None,
    template_id: int | None,
    tag: str | None,
    waive: str | None,
    charge_waived: bool,
    dry_run: bool,
    show: int,
    yes: bool,
    actor: str | None,
    as_json: bool,
) -> None:
    """Rate charged calls again: show the difference, then post reversals and charges.

    The difference is of the calls, and of the prices of whole months (tiers, fees) that their minutes change.

    For a card that was added for the past, or a price that was wrong. Calls are chosen by when they began, which also
    chooses their cards. What is rated by --card stays so, also when a later event corrects its duration; so does what
    is waived. Calls of closed months are corrected in the first open one. If this is interrupted, run it again.
    """
    if end <= begin:
        raise click.UsageError("--to must be later than --from")
    if waive is not None and charge_waived:
        raise click.UsageError("--waive and --charge-waived exclude each other")
    change = Change(card_id=card_id, waive=waive, charge_waived=charge_waived)
    rerating.check(change)
    selection = Selection(account_id=account_id, begin=begin, end=end, template_id=template_id, tag=tag)
    with connected() as database:
        expected, first = _surveyed(database, selection, change, most=show)
        with database.begin() as connection:
            period_rows.take_time(connection)
            prices = price_differences(connection, account_id, expected.minutes)
        posted = None
        if not as_json:
            click.echo(f"Calls that began from {shown_moment(begin)} on and before {shown_moment(end)}:")
            _show(expected, first, prices)
        if not dry_run and expected.changed and _is_wanted(expected, yes=yes, as_json=as_json):
            told = _Progress(expected.sessions)
            posted = rerating.rerate(
                database, selection, change, actor=actor or NOBODY, expected=expected, on_page=told
            )
    if as_json:
        range_ = {"from": selection.begin, "to": selection.end}
        click.echo(msgspec.json.encode(range_ | _answer(expected, first, prices, posted)).decode())
    elif posted is not None:
        click.echo(f"Rated {posted.changed} call(s) again.")


class _Progress:
    """A line on standard error once a second."""

    def __init__(self, sessions: int) -> None:
        self._sessions = sessions
        self._told = time.monotonic()

    def __call__(self, totals: Totals) -> None:
        if time.monotonic() - self._told >= _PROGRESS_SECONDS:
            self._told = time.monotonic()
            click.echo(f"{totals.sessions} of {self._sessions} calls", err=True)


def _surveyed(
    database: Database, selection: Selection, change: Change, *, most: int
) -> tuple[Totals, list[Difference]]:
    totals, first = Totals(), list[Difference]()
    told = time.monotonic()
    for one in rerating.survey(database, selection, change):
        totals.add(one)
        if one is not None and len(first) < most:
            first.append(one)
        if time.monotonic() - told >= _PROGRESS_SECONDS:
            told = time.monotonic()
            click.echo(f"{totals.sessions} calls looked at", err=True)
    return totals, first


def _is_wanted(expected: Totals, *, yes: bool, as_json: bool) -> bool:
    if yes:
        return True
    if as_json or not sys.stdin.isatty():
        raise click.UsageError("nobody is there to be asked: give --yes, or --dry-run")
    return click.confirm(f"Rate {expected.changed} call(s) again?")


def _show(totals: Totals, first: list[Difference], prices: list[PriceDifference]) -> None:
    rows = [
        (one.rated_at, one.session_id, one.old_card_id, one.old_amount, one.new_card_id,
         "" if one.refused else one.new_amount, one.refused or f"{one.difference:+f}")
        for one in first
    ]  # fmt: skip
    if rows:
        table(rows, ("BEGAN", "SESSION", "CARD", "WAS", "NEW CARD", "WILL BE", "DIFFERENCE"), empty="")
    rest = totals.changed + totals.refused - len(first)
    if rest > 0:
        click.echo(f"... and {rest} more")
    if totals.refused:
        click.echo(f"{totals.refused} cannot be rated so, and stay as they are")
    if not totals.changed:
        click.echo(f"{totals.sessions} charged call(s), and none of them changes")
        return
    currency = first[0].currency
    click.echo(
        f"{totals.sessions} charged call(s), {totals.changed} change: {totals.old_amount:f} {currency} becomes "
        f"{totals.new_amount:f} {currency} ({totals.difference:+f} {currency})"
    )
    for one in prices:
        click.echo(f"The price of {one.month:%Y-%m} as a whole by {one.card_id} changes by {one.amount:+f} {currency}")
    if prices:
        click.echo(f"Statements change by {_of_statements(totals, prices):+f} {currency} in all")


def _of_statements(totals: Totals, prices: list[PriceDifference]) -> Decimal:
    return summed((totals.difference, *(one.amount for one in prices)))


def _answer(
    expected: Totals, first: list[Difference], prices: list[PriceDifference], posted: Totals | None
) -> dict[str, Any]:
    return {
        "sessions": expected.sessions,
        "changed": expected.changed,
        "refused": expected.refused,
        "oldAmount": expected.old_amount,
        "newAmount": expected.new_amount,
        "difference": expected.difference,
        "monthPrices": [
            {"month": f"{one.month:%Y-%m}", "rateCardId": one.card_id, "difference": one.amount} for one in prices
        ],
        "statementDifference": _of_statements(expected, prices),
        "posted": None if posted is None else posted.changed,
        "first": [
            {
                "sessionId": one.session_id,
                "conversationId": one.conversation_id,
                "ratedAt": one.rated_at,
                "oldAmount": one.old_amount,
                "newAmount": one.new_amount,
                "currency": one.currency,
                "oldRateCardId": one.old_card_id,
                "newRateCardId": one.new_card_id,
                "refused": one.refused,
            }
            for one in first
        ],
    }
