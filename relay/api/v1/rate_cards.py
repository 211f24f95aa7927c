"""Rate cards: what an account's minutes cost. They never change; a new price is a new card.

Whoever pays by a card does not write it: the operator's key makes cards, the account's keys read them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from relay.api.core.access import Access
from relay.api.core.families import OURS
from relay.api.core.fields import GivenMoment, RateCardId, ShownMoment, ShownMoney
from relay.api.core.models import Input, Output
from relay.api.core.operations import Call, Group
from relay.api.core.pages import Page, PageQuery, page
from relay.store import rate_cards, shown
from relay.store.rate_cards import RateCardRow

group = Group(OURS, tag="Rate cards")

Money = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9]{1,9}(\.[0-9]{1,6})?$"),
    Field(description="A decimal as text, in the card's currency: `0.10`.", examples=["0.10"]),
]
Increments = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9]{1,5}/[0-9]{1,5}$"),
    Field(description="The first and the further seconds that are billed: `60/6`.", examples=["60/6"]),
]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$"), Field(description="ISO 4217; one per account.")]
Rounding = Literal["half_up", "half_even", "half_down", "up", "down"]


class NewRateCard(Input):
    """A rate card to be made. Without `from` the account's first card holds from ever, a later one from now."""

    per_minute: Money
    currency: Currency = "USD"
    increments: Increments = "1/1"
    connect_fee: Money = "0"
    free_seconds: Annotated[int, Field(ge=0, le=86_400)] = 0
    min_charge: Money | None = None
    max_charge: Money | None = None
    decimals: Annotated[int, Field(ge=0, le=6, description="What a charge is rounded to.")] = 6
    rounding: Rounding = "half_up"
    effective_from: Annotated[GivenMoment | None, Field(alias="from")] = None
    offered: Annotated[bool, Field(description="Not in force by itself: templates of the account may choose it.")] = (
        False
    )


class RateCard(Output):
    """A rate card; `from` null: from the beginning of time."""

    id: RateCardId
    per_minute: ShownMoney
    currency: Annotated[str, Field(examples=["USD"])]
    increments: Annotated[str, Field(examples=["60/6"])]
    connect_fee: ShownMoney
    free_seconds: int
    min_charge: ShownMoney | None
    max_charge: ShownMoney | None
    decimals: int
    rounding: Rounding
    effective_from: Annotated[ShownMoment | None, Field(alias="from")]
    offered: bool
    created_at: ShownMoment


@group.operation(
    "POST",
    "/api/v1/accounts/<id:account_id>/rate-cards",
    access=Access.OPERATE,
    body=NewRateCard,
    answers={201: RateCard},
    errors=(409,),
)
def create_rate_card(call: Call[NewRateCard, None], account_id: str) -> RateCard:
    """Add a rate card to an account.

    It holds for calls that begin from its moment on, until that of the next card. 409 for another currency than the
    account's, and for a moment at which a card begins already.
    """
    return _shown(call.provisioning.create_rate_card(account_id=account_id, **call.body.given()))


@group.operation("GET", "/api/v1/rate-cards", access=Access.READ, query=PageQuery, answers={200: Page[RateCard]})
def list_rate_cards(call: Call[None, PageQuery]) -> Page[RateCard]:
    """List the account's rate cards, the oldest first."""
    query = call.query
    with call.services.database.begin() as connection:
        rows = rate_cards.of_account(connection, account_id=call.account_id, after=query.after, limit=query.enough)
    return page(rows, query, _shown)


def _shown(row: RateCardRow) -> RateCard:
    return RateCard.model_validate(shown.rate_card(row))
