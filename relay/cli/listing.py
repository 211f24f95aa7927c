"""Commands that show what happened. Metadata only: content was never stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
from sqlalchemy import Connection

from relay.cli.connecting import reading
from relay.cli.numbers import ROW_NUMBER
from relay.cli.output import json_option, lines, table
from relay.store import accounts
from relay.store import charges as charge_rows
from relay.store import deliveries as delivery_rows
from relay.store import sessions as session_rows

account_filter = click.option("--account", "account_id", metavar="ID", help="Only this account (default: all).")
limit_option = click.option(
    "--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many."
)


def _read(account_id: str | None, query: Callable[[Connection], list[Any]]) -> list[Any]:
    with reading() as connection:
        accounts.check(connection, account_id)
        return query(connection)


@click.command()
@account_filter
@click.option("--endpoint", "endpoint_id", metavar="ID", help="Only this endpoint.")
@click.option(
    "--status", type=click.Choice(["pending", "delivered", "dead", "content_lost"]), help="Only in this state."
)
@limit_option
@json_option
def deliveries(account_id: str | None, endpoint_id: str | None, status: Any, limit: int, as_json: bool) -> None:
    """Deliveries, newest first, with what became of them."""
    found = _read(
        account_id,
        lambda connection: delivery_rows.page(
            connection, account_id=account_id, endpoint_id=endpoint_id, status=status, limit=limit
        ),
    )
    if as_json:
        lines(found)
        return
    rows = [
        (
            d.event_id,
            d.endpoint_id,
            d.type,
            d.status,
            d.code,
            d.attempts,
            d.accepted_at,
            d.next_attempt_at,
        )
        for d in found
    ]
    headings = ("EVENT", "ENDPOINT", "TYPE", "STATUS", "CODE", "ATTEMPTS", "ACCEPTED", "NEXT ATTEMPT")
    table(rows, headings, empty="no deliveries yet")


@click.command()
@account_filter
@click.option(
    "--status",
    type=click.Choice(["pending", "active", "completed", "failed", "abandoned"]),
    help="Only in this state.",
)
@click.option("--unrated", is_flag=True, help="Only those that could not be charged.")
@limit_option
@json_option
def sessions(*, account_id: str | None, status: Any, unrated: bool, limit: int, as_json: bool) -> None:
    """Sessions, newest first, with their duration and cost."""
    found = _read(
        account_id,
        lambda connection: session_rows.page(
            connection, account_id=account_id, status=status, unrated=unrated or None, limit=limit
        ),
    )
    if as_json:
        lines(found)
        return
    rows = [
        (
            s.id,
            s.provider,
            s.conversation_id,
            s.status,
            s.duration_seconds,
            _money(s.cost, s.currency),
            s.unrated_reason,
        )
        for s in found
    ]
    headings = ("SESSION", "PROVIDER", "CONVERSATION", "STATUS", "SECONDS", "COST", "UNRATED")
    table(rows, headings, empty="no sessions yet")


@click.command()
@account_filter
@click.option("--session", "session_id", type=ROW_NUMBER, help="Only this session.")
@limit_option
@json_option
def charges(account_id: str | None, session_id: int | None, limit: int, as_json: bool) -> None:
    """The ledger, newest first, with the steps of each rating."""
    found = _read(
        account_id,
        lambda connection: charge_rows.page(connection, account_id=account_id, session_id=session_id, limit=limit),
    )
    if as_json:
        lines(found)
        return
    rows = [
        (c.id, c.kind, c.sequence, c.provider, c.conversation_id, _money(c.amount, c.currency), "; ".join(c.steps))
        for c in found
    ]
    headings = ("ID", "KIND", "SEQ", "PROVIDER", "CONVERSATION", "AMOUNT", "STEPS")
    table(rows, headings, empty="no charges yet")


def _money(amount: Any, currency: str | None) -> str | None:
    return None if amount is None else f"{amount} {currency}"
