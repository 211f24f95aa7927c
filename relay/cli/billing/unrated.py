"""Commands for calls that could not be charged: which there are, and to charge them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import click
import msgspec

from billing import unrated as unrated_sessions
from billing.unrated import Count
from relay.cli.billing.naming import NOBODY, by_option
from relay.cli.connecting import connected, reading
from relay.cli.listing import account_filter
from relay.cli.moments import Past, shown_moment
from relay.cli.numbers import ROW_NUMBER
from relay.cli.output import json_option, lines, show, table
from relay.store import accounts, sessions
from relay.store.sessions import Session
from relay.store.shown import moment

_WAYS: tuple[tuple[frozenset[str], str], ...] = (
    (
        frozenset({"no_rate_card"}),
        "no_rate_card: add a rate card that is in force then, and run 'switchhook billing rate-unrated'.",
    ),
    (
        frozenset({"provider_cost_missing"}),
        "provider_cost_missing: the provider tells it later; then run 'switchhook billing rate-unrated'.",
    ),
    (
        frozenset({"duration_missing", "duration_invalid", "duration_negative", "duration_too_long"}),
        "duration_...: look it up at the provider; then 'switchhook billing rate-unrated --session' says it.",
    ),
)


_LISTED: Final = ("sessionId", "accountId", "provider", "conversationId", "reason", "durationSeconds", "ratedAt")


@click.command()
@account_filter
@click.option("--list", "each", is_flag=True, help="Each call, newest first, in place of their numbers.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="With --list: so many.")
@json_option
def unrated(*, account_id: str | None, each: bool, limit: int, as_json: bool) -> None:
    """Which calls could not be charged, by reason, and what to do."""
    with reading() as connection:
        accounts.check(connection, account_id)
        counted = unrated_sessions.counts(connection, account_id=account_id)
        found = sessions.page(connection, account_id=account_id, unrated=True, limit=limit) if each else []
    if each:
        _show_each(found, sum(one.sessions for one in counted), as_json=as_json)
    else:
        _show_counts(counted, as_json=as_json)


def _show_each(found: Sequence[Session], number: int, *, as_json: bool) -> None:
    rows = [
        (one.id, one.account_id, one.provider, one.conversation_id, one.unrated_reason, one.duration_seconds,
         one.rated_at)
        for one in found
    ]  # fmt: skip
    if as_json:
        lines([dict(zip(_LISTED, (*row[:-1], moment(row[-1])), strict=True)) for row in rows])
        return
    headings = ("SESSION", "ACCOUNT", "PROVIDER", "CONVERSATION", "REASON", "SECONDS", "RATED AT")
    table(rows, headings, empty="every call is charged")
    if number > len(found):
        click.echo(f"... and {number - len(found)} more")


def _show_counts(counted: Sequence[Count], *, as_json: bool) -> None:
    if as_json:
        named = ("accountId", "reason", "sessions", "since")
        lines([dict(zip(named, one, strict=True)) for one in counted])
        return
    table(counted, ("ACCOUNT", "REASON", "SESSIONS", "SINCE"), empty="every call is charged")
    reasons = {one.reason for one in counted}
    for meant, way in _WAYS:
        if meant & reasons:
            click.echo(way)


@click.command("rate-unrated")
@click.option("--account", "account_id", metavar="ID", help="Only of this account; needed with --session.")
@click.option(
    "--since",
    type=Past(),
    metavar="TIME",
    help="Only calls that began then or later: 2d, or ISO 8601, UTC without a zone.",
)
@click.option("--session", "session_id", metavar="ID", type=ROW_NUMBER, help="One session alone.")
@click.option("--seconds", metavar="N", help="How long that session's call was.")
@click.option("--reason", metavar="TEXT", help="How you know.")
@by_option
@json_option
def rate_unrated(
    *,
    account_id: str | None,
    since: datetime | None,
    session_id: int | None,
    seconds: str | None,
    reason: str | None,
    actor: str | None,
    as_json: bool,
) -> None:
    """Charge the calls whose rate card, or whose provider's cost, is known by now.

    With --session, --seconds and --reason one call is charged by the duration that you looked up; --by is who said so,
    in the audit trail and on the row of the ledger. A later word of the provider itself still corrects it.
    """
    stated = (account_id, session_id, seconds, reason)
    with connected() as database:
        if account_id and session_id and seconds is not None and reason is not None:
            bill = unrated_sessions.state_duration(
                database,
                account_id=account_id,
                session_id=session_id,
                seconds=seconds,
                reason=reason,
                actor=actor or NOBODY,
            )
            session = bill.session
            fields = {"sessionId": session.id, "cost": session.cost, "currency": session.currency}
            show(fields, as_json=as_json, title="Charged.")
            return
        if any(value is not None for value in (*stated[1:], actor)):
            raise click.UsageError("--session, --seconds and --reason go together, with --account; --by is for them")
        with database.begin() as connection:
            accounts.check(connection, account_id)
        done = unrated_sessions.rate_what_can_be(
            database,
            account_id=account_id,
            since=since,
            on_page=lambda done: click.echo(f"{done.seen} looked at, {done.rated} charged", err=True),
        )
    if as_json:
        click.echo(msgspec.json.encode({"seen": done.seen, "rated": done.rated}).decode())
    else:
        begun = "" if since is None else f" and that began at {shown_moment(since)} or later"
        click.echo(f"Charged {done.rated} of {done.seen} calls whose card or cost was missing{begun}.")
