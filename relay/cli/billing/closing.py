"""The commands that close months, give back of them, and compute them again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from datetime import date, datetime
from typing import Any, Final

import click
import msgspec
from sqlalchemy import Connection

from billing.statements import closing, credit_notes, period_rows, verifying
from billing.statements.closing import Closed
from billing.statements.verifying import Difference
from relay.cli.billing.months import MONTH
from relay.cli.connecting import connected, reading
from relay.cli.listing import account_filter
from relay.cli.output import json_option, show, table
from relay.errors import NotFound, SwitchhookError
from relay.store import accounts, server
from relay.store.database import Database

_PROGRESS_SECONDS: Final = 1.0


@click.command()
@click.argument("month", type=MONTH)
@account_filter
@click.option("--now", "early", is_flag=True, help="Do not wait for the end of the draft's 72 hours.")
@click.option("--dry-run", is_flag=True, help="Say what would be closed, and change nothing.")
@json_option
def close(*, month: date, account_id: str | None, early: bool, dry_run: bool, as_json: bool) -> None:
    """Close a month (2026-10), and the ones before it that are not closed yet.

    Each statement gets its number, is frozen and is hashed; what comes later counts in the next one. Workers do this by
    themselves 72 hours after a month's end. If this is interrupted, run it again.
    """
    with connected() as database:
        with database.begin() as connection:
            # Closing cannot be undone: Postgres' clock says which months are over, whatever this host's does.
            now = server.now(connection)
            closing.check(month, now=now, early=early)
            expected = list(closing.waiting(connection, month, account_id=account_id))
            every = [account_id] if account_id else [one.id for one in accounts.every(connection)]
            unrated = _unrated(connection, {*expected, *((account, month) for account in every)})
        if not as_json or dry_run:
            _show_expected(expected, unrated, as_json=as_json)
        if dry_run:
            _tell_unrated(unrated)
            return
        done, failed = _closed(database, every, month, now=now, early=early)
    if as_json:
        click.echo(msgspec.json.encode([_shown(one, unrated) for one in done]).decode())
    else:
        rows = [
            (one.number, one.account_id, f"{one.month:%Y-%m}", f"{one.total:f} {one.currency}",
             unrated[one.account_id, one.month])
            for one in done
        ]  # fmt: skip
        table(rows, ("NUMBER", "ACCOUNT", "MONTH", "TOTAL", "UNCHARGED"), empty="no statement was made")
    _tell_unrated(unrated)
    if failed:
        raise click.exceptions.Exit(1)


@click.command("credit-note")
@click.option("--account", "account_id", metavar="ID", required=True, help="Whose statement.")
@click.option("--month", type=MONTH, required=True, help="Of the closed statement that it gives back of.")
@click.option("--amount", metavar="AMOUNT", required=True, help="At most what is left of the statement's total.")
@click.option("--reason", metavar="TEXT", required=True, help="Printed on the next statement.")
@click.option("--by", "actor", metavar="NAME", required=True, help="Who writes it.")
@click.option("--approved-by", "approver", metavar="NAME", required=True, help="Who approved it: somebody else.")
@json_option
def credit_note(
    *, account_id: str, month: date, amount: str, reason: str, actor: str, approver: str, as_json: bool
) -> None:
    """Give back a part of a closed statement; it is taken off the first month that is open."""
    with connected() as database:
        note = credit_notes.issue(
            database, account_id, month, amount=amount, reason=reason, actor=actor, approver=approver
        )
    show(credit_notes.shown(note), as_json=as_json, title=f"Credit note {note.number} of statement {note.reference}")


@click.command()
@click.argument("month", type=MONTH)
@account_filter
@json_option
def verify(*, month: date, account_id: str | None, as_json: bool) -> None:
    """Compute a month's closed statements again from what the ledger froze; end with 1 if anything differs.

    Each charge is rated again by its rate card and duration, each reversal compared with its charge, month prices and
    credit notes computed again, and the text and its digest with them. Only reads.
    """
    found: list[Difference] = []
    with reading() as connection:
        accounts.check(connection, account_id)
        listed = verifying.months(connection, month, account_id=account_id)
        if account_id is not None and not listed:
            raise NotFound(f"this account has no closed statement of {month:%Y-%m}")
        told = _Progress()
        for one, _ in listed:
            found += verifying.verify(connection, one, month, on_progress=told)
    if as_json:
        click.echo(msgspec.json.encode({"statements": len(listed), "differences": found}).decode())
    else:
        rows = [(one.statement, one.what, one.field, one.stands, one.computed) for one in found]
        headings = ("STATEMENT", "WHAT", "FIELD", "STANDS", "COMPUTED")
        table(rows, headings, empty=_as_closed(len(listed), month))
    if found:
        raise click.exceptions.Exit(1)


def _as_closed(number: int, month: date) -> str:
    if not number:
        return f"no statement of {month:%Y-%m} is closed"
    return f"{number} statement(s) of {month:%Y-%m} come out as they were closed"


class _Progress:
    """A line on standard error once a second."""

    def __init__(self) -> None:
        self._told = time.monotonic()

    def __call__(self, number: str, count: int) -> None:
        if time.monotonic() - self._told >= _PROGRESS_SECONDS:
            self._told = time.monotonic()
            click.echo(f"{number}: {count} charges rated again", err=True)


def _closed(
    database: Database, account_ids: list[str], month: date, *, now: datetime, early: bool
) -> tuple[list[Closed], int]:
    """One account after the other; what one of them has is no reason to leave the others."""
    done: list[Closed] = []
    failed = 0
    for account_id in account_ids:
        try:
            done += closing.close(
                database,
                account_id,
                month,
                actor="cli",
                now=now,
                early=early,
                on_step=lambda account, month: click.echo(f"closing {month:%Y-%m} of {account}", err=True),
            )
        except SwitchhookError as error:
            failed += 1
            click.echo(f"{account_id} is not closed: {error.detail}", err=True)
    return done, failed


def _unrated(connection: Connection, months: Iterable[tuple[str, date]]) -> Counter[tuple[str, date]]:
    """How many calls of each month could not be charged: they are in none of its amounts."""
    found = {key: sum(period_rows.unrated(connection, *key).values()) for key in months}
    return Counter({key: number for key, number in found.items() if number})


def _tell_unrated(unrated: Counter[tuple[str, date]]) -> None:
    """On standard error, also of accounts that get no statement because none of their calls was charged."""
    if unrated:
        whose = len({account for account, _ in unrated})
        click.echo(
            f"{unrated.total()} call(s) of these months, of {whose} account(s), are not charged; "
            "'switchhook billing unrated --list' says which",
            err=True,
        )


def _show_expected(expected: list[tuple[str, date]], unrated: Counter[tuple[str, date]], *, as_json: bool) -> None:
    if as_json:
        listed = [
            {"accountId": account, "month": f"{month:%Y-%m}", "unrated": unrated[account, month]}
            for account, month in expected
        ]
        click.echo(msgspec.json.encode(listed).decode())
        return
    rows = [(account, f"{month:%Y-%m}", unrated[account, month]) for account, month in expected]
    table(rows, ("TO BE CLOSED", "MONTH", "UNCHARGED"), empty="nothing was charged in the months to be closed")


def _shown(one: Closed, unrated: Counter[tuple[str, date]]) -> dict[str, Any]:
    return {
        "accountId": one.account_id,
        "month": f"{one.month:%Y-%m}",
        "number": one.number,
        "total": f"{one.total:f}",
        "currency": one.currency,
        "sha256": one.sha256,
        "unrated": unrated[one.account_id, one.month],
    }
