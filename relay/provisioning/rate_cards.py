"""Rate cards: what a minute costs, and from when."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime

from pydantic.alias_generators import to_camel

from billing.assessment import card_of
from billing.rates import RateCard, RateCardError, parse_increments
from relay.provisioning.changes import Changes
from relay.store import rate_cards, shown
from relay.store.rate_cards import RateCardRow


class RateCardChanges(Changes):
    """Adds rate cards; nothing changes one."""

    def create_rate_card(
        self,
        *,
        account_id: str,
        per_minute: str,
        currency: str = "USD",
        increments: str = "1/1",
        connect_fee: str = "0",
        free_seconds: int = 0,
        min_charge: str | None = None,
        max_charge: str | None = None,
        decimals: int = 6,
        rounding: str = "half_up",
        effective_from: datetime | None = None,
        offered: bool = False,
    ) -> RateCardRow:
        """A rate card; the account's first one holds from the beginning of time unless it says otherwise.

        An `offered` one is not in force by itself: templates of the account may choose it.

        Money is decimal text in `currency`. Raises RateCardError naming the field, Conflict for a currency that is not
        the account's and for a moment at which another card begins.
        """
        try:
            initial, increment = parse_increments(increments)
            card = RateCard(
                per_minute,
                currency,
                initial_seconds=initial,
                increment_seconds=increment,
                connect_fee=connect_fee,
                free_seconds=free_seconds,
                min_charge=min_charge,
                max_charge=max_charge,
                decimals=decimals,
                rounding=rounding,
            )
        except RateCardError as error:
            raise _in_words_of_the_api(error) from None
        if offered and effective_from is not None:
            raise RateCardError("an offered card has no beginning: it holds where a template chooses it", field="from")
        with self._locked(account_id) as connection:
            row = rate_cards.add(
                connection,
                account_id,
                per_minute=card.per_minute,
                currency=card.currency,
                initial_seconds=initial,
                increment_seconds=increment,
                connect_fee=card.connect_fee,
                free_seconds=card.free_seconds,
                min_charge=card.min_charge,
                max_charge=card.max_charge,
                decimals=card.decimals,
                rounding=card.rounding,
                effective_from=effective_from,
                offered=offered,
            )
            self._audit(connection, "rate_card.created", row.id, account_id=account_id, after=shown.rate_card(row))
        card_of(row)  # what was stored must be a card that rates
        return row


def _in_words_of_the_api(error: RateCardError) -> RateCardError:
    """The same with the field as customers write it: perMinute."""
    text = error.detail
    for one in fields(RateCard):
        text = text.replace(one.name, to_camel(one.name))
    return RateCardError(text, field=to_camel(error.field or ""))
