"""`switchhook price`: what a call would cost, step by step, before anybody is charged."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import click

from billing import card_fields, previews
from billing.assessment import card_for, card_of
from billing.rates import RateCard
from relay.cli.card_options import card_of_options, card_options
from relay.cli.connecting import reading
from relay.cli.moments import Moment
from relay.cli.numbers import ROW_NUMBER
from relay.cli.output import json_option, show
from relay.errors import NotFound
from relay.store import accounts, rate_cards
from relay.store.terms import Terms, of_templates

_PER_MINUTE = "0.10"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Whose call it would be, and when it would begin."""

    account_id: str
    at: datetime
    template_id: int | None
    tag: str | None


@click.command()
@click.option("--seconds", multiple=True, metavar="N", help="How long the call lasts; repeatable. 0.4 counts as 1.")
@click.option("--per-minute", metavar="PRICE", help=f"Price of a minute (default: {_PER_MINUTE}).")
@card_options
@click.option("--provider-cost", metavar="USD", help="What the provider asks for the call, for a card with a markup.")
@click.option("--month-minutes", metavar="N", help="Billed minutes of a month, for a card with a --month-price.")
@click.option("--account", "account_id", metavar="ID", help="By the card that is in force for this account.")
@click.option(
    "--at", type=Moment(), metavar="ISO", help="In force then, UTC without a zone (default: now). With --account."
)
@click.option("--template", "template_id", type=ROW_NUMBER, metavar="ID", help="For a session of it. With --account.")
@click.option("--tag", help="For a session with it (default: the template's). With --account.")
@json_option
def price(
    *,
    seconds: tuple[str, ...],
    provider_cost: str | None,
    month_minutes: str | None,
    account_id: str | None,
    at: datetime | None,
    template_id: int | None,
    tag: str | None,
    as_json: bool,
    **said: Any,
) -> None:
    """Show what calls would cost by a card, or by the one that an account has. Nothing is charged.

    Without --account neither a database nor Redis is needed.
    """
    if not seconds and month_minutes is None:
        raise click.UsageError("give --seconds, or --month-minutes")
    given = card_of_options(said)
    if account_id is not None:
        if given:
            raise click.UsageError("--account has cards of its own: give no part of one")
        card = _in_force(Wanted(account_id=account_id, at=at or datetime.now(UTC), template_id=template_id, tag=tag))
    elif at is not None or template_id is not None or tag is not None:
        raise click.UsageError("--at, --template and --tag choose among an account's cards: give --account")
    else:
        if "markup" not in given:
            given.setdefault("per_minute", _PER_MINUTE)
        card = card_fields.read(**given)
    calls = [{"seconds": one} | previews.of_call(one, card, provider_cost=provider_cost) for one in seconds]
    month = None if month_minutes is None else previews.of_month(month_minutes, card)
    if as_json:
        show({"calls": calls, "month": month}, as_json=True, title="")
        return
    for call in calls:
        _print_call(call)
    if month is not None:
        _print_month(month)


def _in_force(wanted: Wanted) -> RateCard:
    with reading() as connection:
        accounts.get(connection, wanted.account_id)
        cards = rate_cards.of_accounts(connection, {wanted.account_id})[wanted.account_id]
        terms = Terms(tag=wanted.tag)
        if wanted.template_id is not None:
            found = of_templates(connection, {wanted.template_id}).get((wanted.account_id, wanted.template_id))
            if found is None:
                raise NotFound("this account has no template by this id", field="templateId")
            terms = found.terms._replace(tag=wanted.tag or found.terms.tag)
    row = card_for(cards, wanted.at, terms)
    if row is None:
        text = "no rate card is in force for this account then: its calls would be unrated"
        raise NotFound(text, code="no_rate_card")
    return card_of(row)


def _print_call(call: dict[str, Any]) -> None:
    click.echo(f"{call['seconds']} s: {call['amount']} {call['currency']}")
    for step in call["steps"]:
        click.echo(f"  {step}")
    for line in call["lines"]:
        click.echo(f"  - {line['line']}: {line['quantity']} x {line['unitPrice']} = {line['amount']}")
    click.echo(f"  billed seconds {call['billedSeconds']}, exact {call['exact']}, rounded {call['amount']}")


def _print_month(month: dict[str, Any]) -> None:
    click.echo(f"a month of {month['minutes']} min: {month['amount']} {month['currency']}")
    for one in month["slices"]:
        click.echo(f"  {one['words']} = {one['exact']}")
