"""Rate cards: what a minute costs, for whom, and from when."""

from __future__ import annotations

from datetime import datetime
from typing import Final, Unpack

from sqlalchemy import Connection

from billing import card_fields, month_prices
from billing.assessment import card_of
from billing.card_fields import CardFields
from billing.rates import RateCard, RateCardError
from relay.errors import BadRequest, NotFound
from relay.provisioning.changes import Changes
from relay.provisioning.checks import checked_text
from relay.store import rate_cards, shown, templates
from relay.store.rate_cards import RateCardRow, Scope

MAX_TAG_CHARS: Final = 256


class RateCardChanges(Changes):
    """Adds rate cards; nothing changes one."""

    def create_rate_card(
        self,
        *,
        account_id: str,
        effective_from: datetime | None = None,
        offered: bool = False,
        template_id: int | None = None,
        tag: str | None = None,
        **said: Unpack[CardFields],
    ) -> RateCardRow:
        """A rate card; the first one of its scope holds from the beginning of time unless it says otherwise.

        Its scope is one of the account's templates, a tag, or the whole account. An `offered` one is not in force by
        itself: templates of the account may choose it.

        What it costs is `said` as billing.card_fields has it. Raises RateCardError and, for `monthPrice.*`, TiersError
        naming the field; NotFound for a template that is not the account's; Conflict for a currency that is not the
        account's, for a moment at which another card begins, and within a month whose minutes are settled together.
        """
        card = card_fields.read(**said)
        _check_scope(offered=offered, effective_from=effective_from, template_id=template_id, tag=tag)
        with self._locked(account_id) as connection:
            if template_id is not None:
                self._check_template(connection, account_id, template_id)
            row = _added(
                connection,
                account_id,
                card,
                effective_from=effective_from,
                offered=offered,
                scope=Scope(template_id, tag),
            )
            self._audit(connection, "rate_card.created", row.id, account_id=account_id, after=shown.rate_card(row))
        card_of(row)  # what was stored must be a card that rates
        return row

    def rate_card(self, *, account_id: str, card_id: str) -> RateCardRow:
        """One of the account's cards. Raises BadRequest `rate_card_unknown`, naming the field `rateCardId`."""
        with self._database.begin() as connection:
            found = rate_cards.of_accounts(connection, {account_id})[account_id].by_id.get(card_id)
        if found is None:
            text = "this account has no rate card by this id"
            raise BadRequest(text, code="rate_card_unknown", field="rateCardId")
        return found

    def _check_template(self, connection: Connection, account_id: str, template_id: int) -> None:
        try:
            templates.get(connection, self._ring, account_id=account_id, template_id=template_id)
        except NotFound:
            raise NotFound("this account has no template by this id", field="templateId") from None


def _added(
    connection: Connection,
    account_id: str,
    card: RateCard,
    *,
    effective_from: datetime | None,
    offered: bool,
    scope: Scope,
) -> RateCardRow:
    return rate_cards.add(
        connection,
        account_id,
        per_minute=card.per_minute,
        currency=card.currency,
        initial_seconds=card.initial_seconds,
        increment_seconds=card.increment_seconds,
        connect_fee=card.connect_fee,
        free_seconds=card.free_seconds,
        min_charge=card.min_charge,
        max_charge=card.max_charge,
        decimals=card.decimals,
        rounding=card.rounding,
        effective_from=effective_from,
        offered=offered,
        scope=scope,
        components={name: format(price, "f") for name, price in card.components} or None,
        markup=card.markup,
        month_price=None if card.month is None else month_prices.written(card.month),
    )


def _check_scope(*, offered: bool, effective_from: datetime | None, template_id: int | None, tag: str | None) -> None:
    """Raises RateCardError for what a card cannot be at once."""
    if offered and effective_from is not None:
        raise RateCardError("an offered card has no beginning: it holds where a template chooses it", field="from")
    if tag is not None:
        checked_text(tag, "tag", MAX_TAG_CHARS)
    if template_id is not None and tag is not None:
        raise RateCardError("a card is for a template or for a tag, not for both", field="tag")
    for field, scope in (("templateId", template_id), ("tag", tag)):
        if offered and scope is not None:
            raise RateCardError("an offered card has no scope: it holds where a template chooses it", field=field)
