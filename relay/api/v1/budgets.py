"""Budgets: what the account means to spend in a month, when it is to be told, and what it refuses to go beyond."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from billing.budgets import MAX_PERCENT, MAX_THRESHOLDS, USUAL_THRESHOLDS, money, percent, standings
from billing.periods import month_of
from relay.api.core.access import Access
from relay.api.core.families import OURS
from relay.api.core.fields import Shaped, ShownMoment, ShownMoney, absent
from relay.api.core.models import Input, Output
from relay.api.core.operations import Call, Group
from relay.api.core.pages import Page, PageQuery, made, page
from relay.calls import MAX_FACT_CHARS
from relay.errors import NotFound
from relay.store import shown
from relay.store.budgets import Standing
from relay.store.pages import Place

group = Group(OURS, tag="Budgets")

_BUDGET = "/api/v1/budgets/<id:budget_id>"

Amount = Annotated[
    str,
    Shaped(r"^[0-9]{1,12}(\.[0-9]{1,6})?$", "must be a decimal, such as 250.00, with at most 6 decimals"),
    Field(description="A decimal as text, more than 0, in the account's currency: `250.00`.", examples=["250.00"]),
]
Thresholds = Annotated[
    list[Annotated[int, Field(ge=1, le=MAX_PERCENT)]],
    Field(
        min_length=1,
        max_length=MAX_THRESHOLDS,
        examples=[list(USUAL_THRESHOLDS)],
        description="Distinct percentages of the amount; the account is told once in a month when each is reached.",
    ),
]
HardLimit = Annotated[bool, Field(description="No session begins that could go beyond it: 402 `budget_exceeded`.")]
Tag = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MAX_FACT_CHARS),
    Field(description="Only of calls whose template has this tag; null: of the whole account."),
]


class NewBudget(Input):
    """A budget to be made: of one tag, or of the whole account. There is one of each at most."""

    amount: Amount
    tag: Tag | None = None
    thresholds: Thresholds = Field(default=list(USUAL_THRESHOLDS))
    hard_limit: HardLimit = False


class BudgetChange(Input):
    """What is given is changed; `thresholds` are replaced as a whole."""

    amount: Amount = absent()
    thresholds: Thresholds = absent()
    hard_limit: HardLimit = absent()


class Budget(Output):
    """A budget, and how it stands in this month (UTC).

    `spent` is the sum of its calls that have ended; `reserved` what is held back for sessions that have not. `percent`
    is how much of the amount is spent, in whole percent, rounded down; `told` are the thresholds that the account was
    told of this month. `currency` is null before the account's first rate card.
    """

    id: Annotated[str, Field(examples=["bud_uw4c7v2e6bhf3yx5nq7mzkdt2a"])]
    tag: Annotated[str, Field(examples=["support"])] | None
    amount: ShownMoney
    currency: Annotated[str, Field(examples=["USD"])] | None
    thresholds: list[int]
    hard_limit: bool
    month: Annotated[str, Field(examples=["2026-11"])]
    spent: ShownMoney
    reserved: ShownMoney
    percent: int
    told: list[int]
    created_at: ShownMoment
    updated_at: ShownMoment


@group.operation("POST", "/api/v1/budgets", access=Access.WRITE, body=NewBudget, answers={201: Budget}, errors=(409,))
def create_budget(call: Call[NewBudget, None]) -> Budget:
    """Make a budget.

    409 `budget_exists` if there is one of this tag, or of the whole account. Who is told: endpoints with `operations`.
    """
    return _read(call, call.provisioning.create_budget(account_id=call.account_id, **call.body.given()).id)


@group.operation("GET", "/api/v1/budgets", access=Access.READ, query=PageQuery, answers={200: Page[Budget]})
def list_budgets(call: Call[None, PageQuery]) -> Page[Budget]:
    """List the account's budgets, the oldest first, and how each stands in this month."""
    query, after = call.query, call.query.after
    rows = sorted(_standings(call), key=_place)
    listed = [one for one in rows if after is None or _place(one) > after]
    return page(listed, query, _shown, place=_place)


@group.operation("GET", _BUDGET, access=Access.READ, answers={200: Budget})
def get_budget(call: Call[None, None], budget_id: str) -> Budget:
    """Get a budget, and how it stands in this month."""
    return _read(call, budget_id)


@group.operation("PATCH", _BUDGET, access=Access.WRITE, body=BudgetChange, answers={200: Budget})
def update_budget(call: Call[BudgetChange, None], budget_id: str) -> Budget:
    """Change a budget.

    A larger amount has those thresholds told again, once they are reached, that it lifts above what is spent.
    """
    call.provisioning.update_budget(account_id=call.account_id, budget_id=budget_id, **call.body.given())
    return _read(call, budget_id)


@group.operation("DELETE", _BUDGET, access=Access.WRITE, answers={204: None})
def delete_budget(call: Call[None, None], budget_id: str) -> None:
    """Delete a budget: nothing more is told of it, and it limits nothing."""
    call.provisioning.delete_budget(account_id=call.account_id, budget_id=budget_id)


def _read(call: Call[Any, Any], budget_id: str) -> Budget:
    for one in _standings(call):
        if one.budget.id == budget_id:
            return _shown(one)
    raise NotFound("this account has no budget by this id")


def _standings(call: Call[Any, Any]) -> list[Standing]:
    with call.services.database.begin() as connection:
        return standings(connection, [call.account_id], month_of(datetime.now(UTC)))


def _place(one: Standing) -> Place:
    return made(one.budget)


def _shown(one: Standing) -> Budget:
    standing = {
        "currency": one.currency,
        "month": f"{one.month:%Y-%m}",
        "spent": money(one.spent, one.currency),
        "reserved": money(one.reserved, one.currency),
        "percent": percent(one),
        "told": list(one.told),
    }
    return Budget.model_validate(shown.budget(one.budget) | standing)
