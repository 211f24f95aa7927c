"""The audit trail on the command line."""

from __future__ import annotations

from datetime import datetime

import click

from relay.cli.connecting import reading
from relay.cli.listing import account_filter, limit_option
from relay.cli.moments import Past
from relay.cli.output import json_option, lines, table
from relay.store import accounts, shown
from relay.store import audit as changes


@click.command()
@account_filter
@click.option("--action", help="Only such: endpoint.updated.")
@click.option("--object", "object_id", metavar="ID", help="Only changes of this object.")
@click.option(
    "--since",
    type=Past(),
    metavar="TIME",
    help="Only from then on: ISO 8601, UTC without a zone, or how long ago (2h).",
)
@limit_option
@json_option
def audit(
    *,
    account_id: str | None,
    action: str | None,
    object_id: str | None,
    since: datetime | None,
    limit: int,
    as_json: bool,
) -> None:
    """Who changed what, newest first. Digests are SHA-256 of the object as the API shows it."""
    with reading() as connection:
        accounts.check(connection, account_id)
        found = changes.page(
            connection, account_id=account_id, action=action, object_id=object_id, since=since, limit=limit
        )
    listed = [shown.change(one) | {"accountId": one.account_id} for one in found]
    if as_json:
        lines(listed)
        return
    rows = [
        [one["at"], one["accountId"], one["actor"], one["action"], one["objectId"], _short(one["before"]),
         _short(one["after"])]
        for one in listed
    ]  # fmt: skip
    headings = ("AT", "ACCOUNT", "ACTOR", "ACTION", "OBJECT", "BEFORE", "AFTER")
    table(rows, headings, empty="no changes yet")


def _short(digest: str | None) -> str | None:
    """Enough of a digest to compare by."""
    return None if digest is None else digest[:12]
