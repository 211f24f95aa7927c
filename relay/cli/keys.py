"""Commands for API keys."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import click

from relay.cli.changing import provisioning
from relay.cli.connecting import reading
from relay.cli.endpoints import account_option
from relay.cli.moments import Moment
from relay.cli.output import json_option, lines, show, table
from relay.store import accounts, shown


@click.group()
def key() -> None:
    """API keys of an account."""


@key.command("create")
@account_option
@click.option("--name", help="What you call this key.")
@click.option(
    "--permissions",
    type=click.Choice(["read", "write"]),
    default="write",
    show_default=True,
    help="read: it changes nothing.",
)
@click.option(
    "--expires", "expires_at", type=Moment(), metavar="ISO", help="From then on it opens nothing; UTC without a zone."
)
@json_option
def create_key(
    *,
    account_id: str,
    name: str | None,
    permissions: Literal["read", "write"],
    expires_at: datetime | None,
    as_json: bool,
) -> None:
    """Create an API key. It is shown this once."""
    made = provisioning().create_key(
        account_id=account_id, name=name, can_write=permissions == "write", expires_at=expires_at
    )
    show(
        {
            "id": made.row.id,
            "permissions": permissions,
            "expiresAt": shown.moment(made.row.expires_at),
            "key": made.key,
        },
        as_json=as_json,
        title="key created",
        hint="Keep the key: it cannot be shown again.",
    )


@key.command("list")
@account_option
@json_option
def list_keys(account_id: str, as_json: bool) -> None:
    """API keys of an account, oldest first, revoked ones too; never the keys themselves."""
    with reading() as connection:
        accounts.get(connection, account_id)
        found = [shown.api_key(one) for one in accounts.keys(connection, account_id=account_id)]
    if as_json:
        lines(found)
        return
    columns = ("id", "prefix", "name", "permissions", "lastUsedAt", "expiresAt", "revokedAt")
    headings = ("KEY", "PREFIX", "NAME", "PERMISSIONS", "LAST USED", "EXPIRES", "REVOKED")
    table([[one[column] for column in columns] for one in found], headings, empty="no keys yet")


@key.command("revoke")
@account_option
@click.argument("key_id")
def revoke_key(account_id: str, key_id: str) -> None:
    """Make an API key worthless from now on, also the last one of its account."""
    provisioning().revoke_key(account_id=account_id, key_id=key_id, spare_last=False)
    click.echo(f"{key_id} is revoked")
