"""Commands for what accounts may use with the operator's keys at providers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from relay.cli.changing import provisioning
from relay.cli.connecting import reading
from relay.cli.endpoints import account_option
from relay.cli.output import json_option, lines, show, table
from relay.provisioning.grants import PROVIDERS_WITH_GRANTS
from relay.store import grants, shown


def _provider_option(command: Callable[..., Any]) -> Callable[..., Any]:
    kinds = click.Choice(PROVIDERS_WITH_GRANTS)
    return click.option("--provider", type=kinds, required=True, help="Where it is.")(command)


@click.group()
def grant() -> None:
    """Grants: agents and projects that an account may use with your key at a provider."""


@grant.command("add")
@account_option
@_provider_option
@click.argument("object_id")
@json_option
def add_grant(*, account_id: str, provider: str, object_id: str, as_json: bool) -> None:
    """Let an account use an agent, or a project of Agora by its app id, with your key."""
    made = provisioning().add_grant(account_id=account_id, provider=provider, object_id=object_id)
    show(shown.grant(made), as_json=as_json, title="granted")


@grant.command("remove")
@account_option
@_provider_option
@click.argument("object_id")
def remove_grant(account_id: str, provider: str, object_id: str) -> None:
    """Take a grant back: no session is started with it any more."""
    provisioning().remove_grant(account_id=account_id, provider=provider, object_id=object_id)
    click.echo(f"{object_id} is not granted any more")


@grant.command("list")
@account_option
@json_option
def list_grants(account_id: str, as_json: bool) -> None:
    """What an account may use with your keys besides what was made for it here."""
    with reading() as connection:
        found = [shown.grant(one) for one in grants.of_account(connection, account_id=account_id)]
    if as_json:
        lines(found)
        return
    columns = ("provider", "objectId", "createdAt")
    table([[one[column] for column in columns] for one in found], ("PROVIDER", "ID", "SINCE"), empty="no grants yet")
