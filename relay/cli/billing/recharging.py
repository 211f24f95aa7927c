"""The command that makes the ledger again after Postgres was restored from a backup."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

import click
import msgspec

from relay.cli.billing.reconciliation import reconcile
from relay.cli.connecting import connected
from relay.cli.listing import account_filter
from relay.cli.moments import Past, shown_moment
from relay.cli.output import json_option, table
from relay.connections import redis_client
from relay.directory import Mirror
from relay.outbox import charged
from relay.sealing import KeyRing
from relay.settings import Settings
from relay.store import accounts
from workers.recharge import Answer, Prepared, Recharged
from workers.recharge import prepare as prepare_restored
from workers.recharge import recharge as recharge_since

_PROGRESS_SECONDS: Final = 1.0
_WORDS: Final = {
    Answer.CHARGED: "charged",
    Answer.CORRECTED: "corrected",
    Answer.UNRATED: "unrated",
    Answer.FREE: "without a charge",
    Answer.KNOWN: "there already",
    Answer.NO_ACCOUNT: "of accounts that are not there",
    Answer.REFUSED: "refused by Postgres",
    Answer.UNREADABLE: "batches that cannot be read",
}
_HINTS: Final = {
    Answer.CHARGED: "What was changed by hand since the backup has to be done again: calls that were rated again or "
    "waived, and durations that were stated.",
    Answer.UNRATED: "'switchhook billing unrated' says why: most often a rate card is missing that was made since the "
    "backup; a duration that was stated must be stated again.",
    Answer.NO_ACCOUNT: "Accounts that were made since the backup cannot come back under their ids: "
    "make them anew, and charge these calls by hand.",
    Answer.REFUSED: "The log says why (charge_refused). Once that is mended, run this again.",
    Answer.UNREADABLE: "Were they written by a newer version? Then run this with that one.",
}
_FAILURES: Final = (Answer.NO_ACCOUNT, Answer.REFUSED, Answer.UNREADABLE)


@click.command()
@click.option(
    "--since",
    type=Past(),
    required=True,
    metavar="TIME",
    help="The moment of the backup: 30m, 1h30m, 2d, or ISO 8601, UTC without a zone.",
)
@account_filter
@click.option("--providers", is_flag=True, help="Then ask the providers for what Redis did not have.")
@click.option("--dry-run", is_flag=True, help="Say what would be charged, at most, and change nothing.")
@json_option
@click.pass_context
def recharge(
    context: click.Context,
    *,
    since: datetime,
    account_id: str | None,
    providers: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Make the ledger again after Postgres was restored from a backup.

    Redis keeps the facts of charged calls for SWITCHHOOK_RECHARGE_HOURS: those since the backup are charged again, as
    they were. What is there already stays, so that this can be repeated. Before that the configuration in Redis is made
    that of Postgres, and ids that were used since the backup are not handed out again.

    With --providers it goes on with 'switchhook billing reconcile --since', whatever --account says.
    """
    if providers and dry_run:
        raise click.UsageError("--dry-run cannot say what the providers would add; leave out --providers")
    click.echo(f"since {shown_moment(since)}", err=True)
    settings = Settings.from_environ()
    with connected(settings) as database, redis_client(settings) as client:
        prepared = None
        if not dry_run:
            mirror = Mirror(client, KeyRing(settings.keys))
            prepared = prepare_restored(client, database, mirror, since=since)
        parts = recharge_since(client, database, since=since, account_id=account_id, dry_run=dry_run)
        [done] = deque(_telling_progress(parts), maxlen=1)
        if not done.counts:
            # Not before: Postgres may have lost an account that Redis has charges of.
            with database.begin() as connection:
                accounts.check(connection, account_id)
        reach_ms = charged.reaches_back_to(client)
    reach = None if reach_ms is None else datetime.fromtimestamp(reach_ms / 1000, UTC)
    if as_json:
        _show_json(done, prepared, since=since, reach=reach, dry_run=dry_run)
    else:
        _show(done, prepared, dry_run=dry_run)
    if providers:
        context.invoke(reconcile, provider=None, since=since, as_json=as_json)
    elif not as_json and (reach is None or reach > since):
        _show_reach(since, reach)
    if done.different or any(done.counts[answer] for answer in _FAILURES):
        raise click.exceptions.Exit(1)


def summary(counts: Counter[Answer], *, dry_run: bool) -> str:
    """One line: `120 charged, 1 corrected, 7 there already`. Pure."""
    told = [f"{counts[answer]} {words}" for answer, words in _WORDS.items() if counts[answer]]
    line = ", ".join(told) or "nothing was charged since"
    return f"at most: {line}" if dry_run and told else line


def _telling_progress(parts: Iterator[Recharged]) -> Iterator[Recharged]:
    told = time.monotonic()
    for done in parts:
        if time.monotonic() - told >= _PROGRESS_SECONDS:
            told = time.monotonic()
            through = datetime.fromtimestamp(done.through_ms / 1000, UTC)
            click.echo(f"{done.counts.total()} events so far, through {through:%Y-%m-%d %H:%M:%S} UTC", err=True)
        yield done


def _show_json(
    done: Recharged, prepared: Prepared | None, *, since: datetime, reach: datetime | None, dry_run: bool
) -> None:
    answer: dict[str, Any] = {
        "since": since,
        "reachesBackTo": reach,
        "dryRun": dry_run,
        "counts": {answer.value: done.counts[answer] for answer in Answer},
        "missingAccounts": sorted(done.missing_accounts),
        "different": done.different,
        "differences": [
            {"accountId": one.account_id, "sessionId": one.session_id, "was": one.was, "now": one.now}
            for one in done.differences
        ],
        "configurations": None if prepared is None else prepared.configurations,
    }
    click.echo(msgspec.json.encode(answer).decode())


def _show(done: Recharged, prepared: Prepared | None, *, dry_run: bool) -> None:
    if prepared is not None and prepared.configurations:
        click.echo(f"The configuration of {prepared.configurations} account(s) in Redis is that of Postgres again.")
    click.echo(summary(done.counts, dry_run=dry_run))
    for answer, hint in _HINTS.items():
        if done.counts[answer]:
            click.echo(hint)
    for account_id in sorted(done.missing_accounts):
        click.echo(f"  {account_id}")
    if done.different:
        click.echo(
            f"{done.different} call(s) cost something else than before. Was a card, a tag or a template changed?"
        )
        table(
            [(one.account_id, one.session_id, one.was, one.now) for one in done.differences],
            ("ACCOUNT", "SESSION", "WAS", "NOW"),
            empty="",
        )


def _show_reach(since: datetime, reach: datetime | None) -> None:
    kept = "Redis keeps nothing" if reach is None else f"Redis keeps nothing from before {reach:%Y-%m-%dT%H:%M:%SZ}"
    click.echo(f"{kept}: for what that leaves out, ask the providers:")
    click.echo(f"  switchhook billing reconcile --since {since:%Y-%m-%dT%H:%M:%SZ}")
