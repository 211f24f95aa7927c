"""Commands for budgets: what an account means to spend in a month."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click
from msgspec import UNSET

from billing.budgets import USUAL_THRESHOLDS, money, percent, standings
from billing.periods import month_of
from relay.cli.changing import provisioning
from relay.cli.connecting import reading
from relay.cli.endpoints import account_option
from relay.cli.output import json_option, lines, show, table
from relay.errors import NotFound
from relay.store import accounts, budgets, shown
from relay.store.budgets import Standing


@click.group("budget")
def budget() -> None:
    """Budgets: when an account is told what it has spent, and what it refuses to go beyond."""


_tag_option = click.option("--tag", help="Of the calls with this tag alone (default: of the whole account).")


@budget.command("set")
@account_option
@_tag_option
@click.option("--amount", help="In the account's currency, for each month (UTC): 250.00. A new budget needs it.")
@click.option(
    "--threshold",
    "thresholds",
    type=int,
    multiple=True,
    help="Told at so many percent; repeatable (default of a new one: 50, 80 and 100).",
)
@click.option(
    "--hard-limit/--no-hard-limit", default=None, help="Begin no session that could go beyond it (default: no)."
)
@json_option
def set_budget(
    *,
    account_id: str,
    tag: str | None,
    amount: str | None,
    thresholds: tuple[int, ...],
    hard_limit: bool | None,
    as_json: bool,
) -> None:
    """Make a budget, or change what is given of the one that there is."""
    with reading() as connection:
        currency = accounts.get(connection, account_id).currency
        known = budgets.find(connection, account_id=account_id, tag=tag)
    if known is None:
        if amount is None:
            raise click.UsageError("a new budget needs --amount")
        made = provisioning().create_budget(
            account_id=account_id,
            amount=amount,
            tag=tag,
            thresholds=thresholds or USUAL_THRESHOLDS,
            hard_limit=bool(hard_limit),
        )
    else:
        made = provisioning().update_budget(
            account_id=account_id,
            budget_id=known.id,
            amount=UNSET if amount is None else amount,
            thresholds=thresholds or UNSET,
            hard_limit=UNSET if hard_limit is None else hard_limit,
        )
    said = shown.budget(made)
    unit = {"currency": currency if currency or as_json else "that of the first rate card"}
    told = {name: said[name] for name in ("id", "tag", "amount")} | unit | said
    show(told, as_json=as_json, title="budget made" if known is None else "budget changed")


@budget.command("list")
@account_option
@json_option
def list_budgets(account_id: str, as_json: bool) -> None:
    """Budgets of an account, and how each stands in this month (UTC)."""
    with reading() as connection:
        accounts.get(connection, account_id)
        found = [_row(one) for one in standings(connection, [account_id], month_of(datetime.now(UTC)))]
    if as_json:
        lines(found)
        return
    columns = ("id", "tag", "amount", "currency", "spent", "reserved", "percent", "thresholds", "told", "hardLimit")
    cells = [[_text(one[column]) for column in columns] for one in found]
    headings = ("BUDGET", "TAG", "AMOUNT", "CURRENCY", "SPENT", "RESERVED", "%", "THRESHOLDS", "TOLD", "HARD LIMIT")
    table(cells, headings, empty="no budgets yet")


@budget.command("remove")
@account_option
@_tag_option
@json_option
def remove_budget(account_id: str, tag: str | None, as_json: bool) -> None:
    """Take a budget away: nothing more is told of it, and it limits nothing."""
    with reading() as connection:
        known = budgets.find(connection, account_id=account_id, tag=tag)
    if known is None:
        raise NotFound("this account has no such budget")
    provisioning().delete_budget(account_id=account_id, budget_id=known.id)
    if as_json:
        show({"id": known.id, "removed": True}, as_json=True, title="")
    else:
        click.echo(f"{known.id} is removed")


def _row(one: Standing) -> dict[str, Any]:
    """As `GET /api/v1/budgets` has it."""
    return shown.budget(one.budget) | {
        "currency": one.currency,
        "month": f"{one.month:%Y-%m}",
        "spent": money(one.spent, one.currency),
        "reserved": money(one.reserved, one.currency),
        "percent": percent(one),
        "told": list(one.told),
    }


def _text(value: object) -> object:
    return ",".join(map(str, value)) if isinstance(value, list) else value
