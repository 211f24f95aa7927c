"""Prices of a month, settled: what a month's minutes cost together, less what its calls were charged one by one.

One adjustment for each account, card and month of origin, in each period in which something of them counts. It
follows from sums alone, so that the order in which calls arrive changes nothing. A correction that comes after a month
was closed settles that month again, by the difference, in the period in which it counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import Connection, text

from billing import periods, posting
from billing.assessment import card_of
from billing.cost import USAGE
from billing.money import ARITHMETIC, ZERO, round_money, shown
from billing.rates import COMPONENTS, RateCard
from billing.statements.period_rows import PROVIDER
from relay.store.accounts import Account
from relay.store.rate_cards import Cards, RateCardRow

LINE: Final = "month_price"
# Only minutes have a price for the month; connect fees, minimums and maximums stay those of each call.
MINUTES: Final = (USAGE, *COMPONENTS)
_SECONDS_PER_MINUTE: Final = Decimal(60)

_ORIGINS: Final = text("""
    SELECT DISTINCT date_trunc('month', started_at AT TIME ZONE 'UTC')::date FROM ledger
    WHERE account_id = :account AND period = :period AND reference IS NOT NULL AND rate_card_id = ANY(:cards)
""")
_COUNTED: Final = text("""
    SELECT rate_card_id AS card_id,
        COALESCE(sum(billed_seconds) FILTER (WHERE part = 0 AND kind <> 'adjustment'), 0) AS billed_seconds,
        COALESCE(sum(amount) FILTER (WHERE kind <> 'adjustment'), 0) AS charged,
        COALESCE(sum(amount) FILTER (WHERE kind = 'adjustment'), 0) AS settled,
        count(*) FILTER (WHERE kind = 'adjustment') AS settlements
    FROM ledger
    WHERE account_id = :account AND started_at >= :begins AND started_at < :ends AND period <= :period
        AND rate_card_id = ANY(:cards)
        AND CASE kind WHEN 'adjustment' THEN line = :line AND period < :period
            ELSE reason IS NULL AND line = ANY(:minutes) END
    GROUP BY rate_card_id
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What counts of one month's calls on one card, up to a period.

    `charged` is what those calls' minutes were charged, `settled` what `settlements` adjustments of earlier periods
    come to.
    """

    card_id: str
    month: date
    billed_seconds: int = 0
    charged: Decimal = ZERO
    settled: Decimal = ZERO
    settlements: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjustment:
    """A row for the ledger: the difference that the price of `month` makes, in the statement of `period`."""

    card_id: str
    month: date
    period: date
    sequence: int
    amount: Decimal
    currency: str
    steps: tuple[str, ...]

    @property
    def conversation_id(self) -> str:
        """What stands where other rows have their conversation."""
        return f"month-{self.card_id}-{self.month:%Y-%m}"


def settle(connection: Connection, account: Account, period: date, *, cards: Cards) -> tuple[Adjustment, ...]:
    """The adjustments of a period, ordered by month of origin and card. Nothing is written.

    `cards` are the account's: those that were known when the period is, or was, settled. What was posted in this
    period already is not counted, so that it can be computed again at any time.
    """
    priced = [row for row in cards.by_id.values() if row.month_price is not None]
    if not priced:
        return ()
    wanted: dict[str, Any] = {"account": account.id, "period": period, "cards": [row.id for row in priced]}
    months = {period, *connection.execute(_ORIGINS, wanted).scalars()}
    counted = {(one.month, one.card_id): one for month in months for one in _counted(connection, month, wanted)}
    fee = fee_card(cards, account, period)
    if fee is not None:
        counted.setdefault((period, fee.id), Counted(card_id=fee.id, month=period))
    found = []
    for (month, card_id), one in sorted(counted.items()):
        due = fee_card(cards, account, month)
        is_due = due is not None and due.id == card_id
        found.append(adjustment(one, card_of(cards.by_id[card_id]), period=period, fee_is_due=is_due))
    return tuple(one for one in found if one is not None)


def adjustment(counted: Counted, card: RateCard, *, period: date, fee_is_due: bool) -> Adjustment | None:
    """What the month's price of a card adds to, or takes off, what its calls were charged. Pure.

    Without any minutes nothing is due but the fee of a card that was in force. None where there is nothing to say:
    nothing was billed, or a correction of an earlier month makes no difference.
    """
    if card.month is None:
        raise ValueError("only a card with a price for the month can be settled")
    minutes = ARITHMETIC.divide(Decimal(counted.billed_seconds), _SECONDS_PER_MINUTE)
    slices = card.month.slices(minutes) if minutes or fee_is_due else ()
    required = card.month.price(minutes) if slices else ZERO
    rounded = round_money(required, decimals=card.decimals, rounding=card.rounding)
    amount = ARITHMETIC.subtract(ARITHMETIC.subtract(rounded, counted.charged), counted.settled)
    if not amount and (counted.month < period or not (slices or counted.settlements)):
        return None
    steps = [f"{one.words} = {shown(one.exact)}" for one in slices]
    steps.append(f"{shown(minutes)} min of {counted.month:%Y-%m} cost {rounded:f} {card.currency} together")
    steps.append(f"less {counted.charged:f} charged call by call")
    if counted.settlements:
        steps.append(f"less {counted.settled:f} settled in earlier statements")
    return Adjustment(
        card_id=counted.card_id,
        month=counted.month,
        period=period,
        sequence=counted.settlements + 1,
        amount=amount,
        currency=card.currency,
        steps=(*steps, f"leaves {amount:f}"),
    )


def fee_card(cards: Cards, account: Account, month: date) -> RateCardRow | None:
    """The card whose monthly fee is due even if nobody calls: the account's own that is in force then, if it has one.

    A card that begins with no moment of its own has fees from the month on in which its account was made.
    """
    card = cards.at(periods.begins(month))
    if card is None or card.month_price is None:
        return None
    if card.effective_from is None and month < periods.month_of(account.created_at):
        return None
    price = card_of(card).month
    return card if price is not None and price.price(0) else None


def known(cards: Cards, at: datetime) -> Cards:
    """The cards that had been made by then."""
    before = Cards(by_id={row.id: row for row in cards.by_id.values() if row.created_at <= at})
    for scope, timeline in cards.timelines.items():
        before.timelines[scope] = [row for row in timeline if row.id in before.by_id]
    return before


def post(
    connection: Connection,
    account_id: str,
    adjustments: Sequence[Adjustment],
    *,
    references: Mapping[date, str],
) -> None:
    """Write adjustments into the ledger; those that are there already stay as they are.

    `references` are the numbers of the closed statements that later adjustments refer to, by month.
    """
    posting.add_rows(connection, [_row(account_id, one, references) for one in adjustments])


def _counted(connection: Connection, month: date, wanted: dict[str, Any]) -> list[Counted]:
    ends = periods.begins(periods.next_month(month))
    given = wanted | {"begins": periods.begins(month), "ends": ends, "line": LINE, "minutes": list(MINUTES)}
    return [Counted(month=month, **row) for row in connection.execute(_COUNTED, given).mappings()]


def _row(account_id: str, one: Adjustment, numbers: Mapping[date, str]) -> dict[str, Any]:
    is_late = one.month < one.period
    return {
        "account_id": account_id,
        "provider": PROVIDER,
        "conversation_id": one.conversation_id,
        "kind": "adjustment",
        "sequence": one.sequence,
        "rate_card_id": one.card_id,
        "started_at": periods.begins(one.month),
        "duration_seconds": None,
        "billed_seconds": 0,
        "unit_price": one.amount,
        "exact": one.amount,
        "amount": one.amount,
        "currency": one.currency,
        "steps": one.steps,
        "line": LINE,
        "part": 0,
        "quantity": 1,
        "reference": numbers.get(one.month, f"{one.month:%Y-%m}") if is_late else None,
        "period": one.period,
    }
