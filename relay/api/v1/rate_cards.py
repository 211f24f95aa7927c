"""Rate cards: what an account's minutes cost. They never change; a new price is a new card.

Whoever pays by a card does not write it: the operator's key makes cards, the account's keys read them and try them.
"""

from __future__ import annotations

from typing import Any, Final

from billing import card_fields, previews
from billing.assessment import card_of
from billing.rates import RateCard as Card
from relay.api.core.access import Access
from relay.api.core.families import OURS
from relay.api.core.operations import Call, Group
from relay.api.core.pages import Page, PageQuery, page
from relay.api.v1.rate_card_models import NewPreview, NewRateCard, Preview, RateCard
from relay.errors import BadRequest
from relay.store import rate_cards, shown
from relay.store.rate_cards import RateCardRow

group = Group(OURS, tag="Rate cards")

_NO_CALL: Final[dict[str, Any]] = {"billedSeconds": None, "exact": None, "amount": None, "steps": [], "lines": []}


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

    It holds for calls that begin from its moment on, until that of the next card of its scope: a template's cards come
    before a tag's, and those before the account's. 404 for a template that is not the account's. 409 for another
    currency than the account's, for a moment at which a card begins already, and within a month where a price for
    whole months begins or ends.
    """
    body = call.body
    made = call.provisioning.create_rate_card(
        account_id=account_id,
        effective_from=body.effective_from,
        offered=body.offered,
        template_id=body.template_id,
        tag=body.tag,
        **body.card(),
    )
    return _shown(made)


@group.operation("GET", "/api/v1/rate-cards", access=Access.READ, query=PageQuery, answers={200: Page[RateCard]})
def list_rate_cards(call: Call[None, PageQuery]) -> Page[RateCard]:
    """List the account's rate cards, the oldest first."""
    query = call.query
    with call.services.database.begin() as connection:
        rows = rate_cards.of_account(connection, account_id=call.account_id, after=query.after, limit=query.enough)
    return page(rows, query, _shown)


@group.operation(
    "POST", "/api/v1/rate-cards/preview", access=Access.READ, body=NewPreview, answers={200: Preview}, errors=()
)
def preview_price(call: Call[NewPreview, None]) -> Preview:
    """Say what a call would cost, and how that comes about.

    By one of the account's cards, or by a card that is not there yet. Nothing is charged, and nothing is stored. With
    `monthMinutes` alone it is the month that is priced, and of a call there is null.
    """
    body = call.body
    if body.seconds is None and body.month_minutes is None:
        raise BadRequest("is required, unless there are monthMinutes", field="seconds")
    card = _card_of(call)
    priced = _NO_CALL | {"currency": card.currency}
    if body.seconds is not None:
        priced = previews.of_call(body.seconds, card, provider_cost=body.provider_cost_usd)
    month = None if body.month_minutes is None else previews.of_month(body.month_minutes, card)
    return Preview.model_validate(priced | {"month": month})


def _card_of(call: Call[NewPreview, None]) -> Card:
    body, said = call.body, call.body.card()
    if body.rate_card_id is None:
        return card_fields.read(**said)
    if any(value is not None for value in said.values()):
        raise BadRequest("give rateCardId, or what a card says, and not both", field="rateCardId")
    return card_of(call.provisioning.rate_card(account_id=call.account_id, card_id=body.rate_card_id))


def _shown(row: RateCardRow) -> RateCard:
    return RateCard.model_validate(shown.rate_card(row))
