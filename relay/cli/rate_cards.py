"""Commands for rate cards."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from relay.cli.card_options import card_of_options, card_options
from relay.cli.changing import provisioning
from relay.cli.connecting import reading
from relay.cli.endpoints import account_option
from relay.cli.moments import Moment, shown_moment
from relay.cli.numbers import ROW_NUMBER
from relay.cli.output import json_option, lines, show, table, words
from relay.store import accounts, rate_cards, shown
from relay.store.rate_cards import RateCardRow

# What is shown of a card only where it says something: by default it says nothing of these.
_EXTRAS = ("connectFee", "freeSeconds", "minCharge", "maxCharge", "decimals", "rounding", "components", "markup",
           "monthPrice", "offered", "templateId", "tag")  # fmt: skip
_SILENT = {"connectFee": "0.00", "freeSeconds": 0, "decimals": 6, "rounding": "half_up", "offered": False}


@click.group("rate-card")
def rate_card() -> None:
    """Rate cards: what a minute costs, for whom, and from when."""


@rate_card.command("create")
@account_option
@click.option("--per-minute", metavar="PRICE", help="Price of a minute, as a decimal: 0.10. Needed without --markup.")
@card_options
@click.option(
    "--from",
    "effective_from",
    type=Moment(),
    metavar="ISO",
    help="In force from here, UTC without a zone (first card: always; later: now).",
)
@click.option("--offered", is_flag=True, help="Not in force by itself: templates of the account may choose it.")
@click.option(
    "--template", "template_id", type=ROW_NUMBER, metavar="ID", help="Only for the sessions of this template."
)
@click.option("--tag", help="Only for the sessions with this tag.")
@json_option
def create_rate_card(
    *,
    account_id: str,
    effective_from: datetime | None,
    offered: bool,
    template_id: int | None,
    tag: str | None,
    as_json: bool,
    **said: Any,
) -> None:
    """Add a rate card. Cards never change; a new price is a new card."""
    made = provisioning().create_rate_card(
        account_id=account_id,
        effective_from=effective_from,
        offered=offered,
        template_id=template_id,
        tag=tag,
        **card_of_options(said),
    )
    fields = {
        "id": made.id,
        "perMinute": str(made.per_minute),
        "currency": made.currency,
        "card": f"{made.initial_seconds}/{made.increment_seconds}",
        "effectiveFrom": made.effective_from if as_json else _begins(made),
    }
    show(fields | _extras(made), as_json=as_json, title="rate card created")


@rate_card.command("list")
@account_option
@json_option
def list_rate_cards(account_id: str, as_json: bool) -> None:
    """An account's rate cards, in the order in which they were made."""
    with reading() as connection:
        accounts.get(connection, account_id)
        found = rate_cards.of_account(connection, account_id=account_id)
    if as_json:
        lines([shown.rate_card(row) for row in found])
        return
    headings = ("ID", "PER MINUTE", "CARD", "FROM", "FOR", "MORE")
    table([_row(row) for row in found], headings, empty="no rate cards yet")


def _row(row: RateCardRow) -> tuple[Any, ...]:
    card, extras = shown.rate_card(row), _extras(row)
    scope = f"template {row.template_id}" if row.template_id else f"tag {row.tag}" if row.tag else "account"
    more = "; ".join(
        f"{name} {words(value)}" for name, value in extras.items() if name not in {"offered", "templateId", "tag"}
    )
    price = f"{card['perMinute']} {card['currency']}"
    return row.id, price, card["increments"], _begins(row), "who chooses it" if row.offered else scope, more


def _begins(row: RateCardRow) -> str:
    if row.offered:
        return "-"
    return "always" if row.effective_from is None else shown_moment(row.effective_from)


def _extras(row: RateCardRow) -> dict[str, Any]:
    """What a card says beyond a price per minute in increments."""
    card = shown.rate_card(row)
    return {name: card[name] for name in _EXTRAS if card[name] is not None and card[name] != _SILENT.get(name)}
