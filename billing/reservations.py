"""Hard limits: a session begins only if what it may cost at most is left of its budgets.

What it may cost is held back until it ends; that it has ended is written together with what it cost, so that nothing is
counted twice or not at all. Webhooks never come here: what was begun is always charged.

What a call costs on a key of the account's own is 0. Where nobody can know what a call may cost (no rate card is in
force, or the price is a markup without a maximum), nothing is held back, and it begins while anything is left.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import Connection

from billing import periods
from billing.assessment import card_for, card_of
from billing.budgets import money, standings
from billing.cost import cost
from billing.money import ZERO
from billing.rates import RateCard
from relay.errors import BudgetExceeded
from relay.store import budgets, provider_keys, rate_cards, sessions, templates, terms
from relay.store.budgets import Standing
from relay.store.sessions import Session
from relay.store.terms import Offered

# How long a call may last whose template does not say (CanaryLLM's OpenAPI, `maxDurationSeconds`).
USUAL_SECONDS: Final = 600


def open_session(
    connection: Connection,
    *,
    account_id: str,
    provider: str,
    template_id: int | None = None,
    agent_id: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    text_only: bool = False,
    session_id: int | None = None,
    own_key: bool | None = None,
    key_taken: bool = True,
) -> Session:
    """Make a session of the API, with what is held back for it. Every session that the API makes is made here.

    `own_key` says whether the call will run on a key of the account's own; None: by whether it has stored one. With
    `key_taken` False the session does not say so until its provider has taken that key: relay.store.sessions.begun.

    The account's hard limits stay locked until the transaction ends: whoever begins a session at the same time waits,
    and counts with this one. Raises BudgetExceeded.
    """
    own_key = _has_own_key(connection, account_id, provider) if own_key is None else own_key
    reserved = None if own_key else _reserved(connection, account_id, template_id, locked=True)
    return sessions.create(
        connection,
        account_id=account_id,
        provider=provider,
        template_id=template_id,
        agent_id=agent_id,
        metadata=metadata,
        text_only=text_only,
        session_id=session_id,
        own_key=own_key and key_taken,
        reserved=reserved,
    )


def check(connection: Connection, *, account_id: str, provider: str, template_id: int | None = None) -> None:
    """The same before there is a session, or where there will be none of ours: nothing is held back or locked.

    Raises BudgetExceeded.
    """
    if not _has_own_key(connection, account_id, provider):
        _reserved(connection, account_id, template_id, locked=False)


def most(card: RateCard | None, seconds: int) -> Decimal | None:
    """What a call of at most so many seconds costs at most; None if nobody can know. Pure."""
    if card is None:
        return None
    # What it costs grows with its duration, and a price for whole months is settled when they are over.
    return card.max_charge if card.markup is not None else cost(seconds, card).amount


def fits(standing: Standing, amount: Decimal | None) -> bool:
    """Whether a budget has this much left; where nobody knows how much, whether it has anything left. Pure."""
    return standing.left > 0 if amount is None else standing.left >= amount


def _has_own_key(connection: Connection, account_id: str, provider: str) -> bool:
    return provider_keys.find(connection, account_id=account_id, provider=provider) is not None


def _reserved(connection: Connection, account_id: str, template_id: int | None, *, locked: bool) -> Decimal | None:
    offers = terms.of_templates(connection, set() if template_id is None else {template_id})
    its = offers.get((account_id, template_id or 0), Offered()).terms
    limits = budgets.limits(connection, account_id=account_id, tag=its.tag, locked=locked)
    if not limits or its.own_key:
        return None
    now = datetime.now(UTC)
    row = card_for(rate_cards.of_accounts(connection, {account_id})[account_id], now, its)
    seconds = templates.longest_call_of(connection, account_id=account_id, template_id=template_id) or USUAL_SECONDS
    amount = most(None if row is None else card_of(row), seconds)
    counted = {limit.id for limit in limits}
    for standing in standings(connection, [account_id], periods.month_of(now)):
        if standing.budget.id in counted and not fits(standing, amount):
            raise _exceeded(standing, amount)
    return amount


def _exceeded(standing: Standing, amount: Decimal | None) -> BudgetExceeded:
    budget, currency = standing.budget, standing.currency
    of_what = "of the account" if budget.tag is None else f"of the tag {budget.tag}"
    left = f"{money(max(standing.left, ZERO), currency)} {currency or ''}".strip()
    asked = "" if amount is None else f", and this session may cost {money(amount, currency)} {currency or ''}".rstrip()
    return BudgetExceeded(f"budget {budget.id} {of_what} has {left} left this month{asked}")
