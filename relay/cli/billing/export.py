"""Commands for exports: charges that are sent to Stripe, Lago or OpenMeter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import click

from relay.cli.changing import provisioning
from relay.cli.connecting import reading
from relay.cli.endpoints import account_option
from relay.cli.moments import Past
from relay.cli.output import json_option, lines, show, table
from relay.settings import ExportAccess, Settings
from relay.store import exports, shown
from relay.store.exports import DESTINATIONS, Backlog, Dead

_some_account = click.option("--account", "account_id", metavar="ID", help="Of this account alone.")


def _destination_option(*, required: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    told = "The billing system." if required else "For this billing system alone."
    return click.option("--destination", type=click.Choice(DESTINATIONS), required=required, help=told)


@click.group()
def export() -> None:
    """Exports: charges that are sent to Stripe, Lago or OpenMeter."""


@export.command("set")
@account_option
@_destination_option(required=True)
@click.option("--customer", required=True, help="What the account is called there.")
@json_option
def set_export(*, account_id: str, destination: str, customer: str, as_json: bool) -> None:
    """Send an account's charges to a billing system from now on."""
    made = provisioning().put_export(account_id=account_id, destination=destination, customer=customer)
    access: ExportAccess = getattr(Settings.from_environ(), destination)
    hint = f"here {destination} is not configured: charges wait until a worker has its settings"
    show(shown.export(made), as_json=as_json, title="set", hint="" if access.is_configured else hint)


@export.command("remove")
@account_option
@_destination_option(required=True)
def remove_export(*, account_id: str, destination: str) -> None:
    """Send no more of an account's charges there, nor what is still waiting."""
    left = provisioning().remove_export(account_id=account_id, destination=destination)
    click.echo(f"nothing more goes to {destination}; rows that were still waiting: {left}")


@export.command("list")
@_some_account
@json_option
def list_exports(*, account_id: str | None, as_json: bool) -> None:
    """What accounts are called at which billing system."""
    with reading() as connection:
        named = exports.customers(connection, account_id=account_id)
    found = [{"accountId": one.account_id} | shown.export(one) for one in named]
    if as_json:
        lines(found)
        return
    columns = ("accountId", "destination", "customer", "createdAt")
    headings = ("ACCOUNT", "DESTINATION", "CUSTOMER", "SINCE")
    table([[one[column] for column in columns] for one in found], headings, empty="no charges are sent anywhere yet")


@export.command("status")
@_some_account
@json_option
def show_status(*, account_id: str | None, as_json: bool) -> None:
    """What waits for each billing system, since when, and what nobody tries any more."""
    with reading() as connection:
        found = exports.backlogs(connection, account_id=account_id)
        codes = exports.dead_codes(connection, account_id=account_id)
    rows = [_status(one, codes.get(one.destination, {})) for one in found]
    if as_json:
        lines(rows)
        return
    told = [[one["destination"], one["waiting"], one["oldestAt"], one["dead"], _counts(one["codes"])] for one in rows]
    table(told, ("DESTINATION", "WAITING", "OLDEST", "DEAD", "WHY"), empty="nothing waits")


def _status(backlog: Backlog, codes: dict[str, int]) -> dict[str, Any]:
    return {
        "destination": backlog.destination,
        "waiting": backlog.waiting,
        "oldestAt": shown.moment(backlog.oldest_at),
        "dead": backlog.dead,
        "codes": codes,
    }


def _counts(codes: dict[str, int]) -> str:
    return ", ".join(f"{code}: {count}" for code, count in codes.items())


def _dead_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        json_option,
        click.option("--code", help="Those that are dead for this reason alone (see `status`)."),
        _destination_option(required=False),
        _some_account,
    ):
        command = option(command)
    return command


@export.command("retry")
@_dead_options
def retry_exports(*, account_id: str | None, destination: str | None, code: str | None, as_json: bool) -> None:
    """Try again what nobody tries any more.

    Rows with the code unknown_outcome only where --code names it: the destination may have them, and has forgotten
    their identifiers by now.
    """
    changed = provisioning().retry_exports(account_id=account_id, destination=destination, code=code)
    _show_changed(changed, as_json=as_json, none="there was nothing to try again")


@export.command("drop")
@_dead_options
def drop_exports(*, account_id: str | None, destination: str | None, code: str | None, as_json: bool) -> None:
    """Forget what nobody tries any more: the destination has it, or is not to have it.

    Rows with the code unknown_outcome only where --code names it.
    """
    changed = provisioning().drop_exports(account_id=account_id, destination=destination, code=code)
    _show_changed(changed, as_json=as_json, none="there was nothing to drop")


def _show_changed(changed: Sequence[Dead], *, as_json: bool, none: str) -> None:
    found = [{"accountId": one.account_id, "destination": one.destination, "rows": one.count} for one in changed]
    if as_json:
        lines(found)
        return
    table([list(one.values()) for one in found], ("ACCOUNT", "DESTINATION", "ROWS"), empty=none)


@export.command("backfill")
@account_option
@_destination_option(required=True)
@click.option(
    "--since",
    type=Past(),
    required=True,
    metavar="TIME",
    help="Rows written since then: 30d, or 2026-01-01T00:00:00Z; UTC without a zone.",
)
@json_option
def backfill(*, account_id: str, destination: str, since: datetime, as_json: bool) -> None:
    """Queue charges from before an account had its name there, each once.

    Stripe takes nothing that is older than 35 days.
    """
    queued = provisioning().backfill_export(account_id=account_id, destination=destination, since=since)
    show({"destination": destination, "queued": queued}, as_json=as_json, title="queued")
