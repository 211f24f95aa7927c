"""Prices of a month, settled: what a month's minutes cost together, less what its calls were charged one by one.

One adjustment for each account, card and month of origin, in each period in which something of them counts. It
follows from sums alone, so that the order in which calls arrive changes nothing. A correction that comes after a month
was closed settles that month again, by the difference, in the period in which it counts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import Connection, select, text

from billing import periods, posting
from billing.assessment import card_of
from billing.cost import USAGE
from billing.money import ARITHMETIC, ZERO, round_money, shown
from billing.rates import COMPONENTS, RateCard
from billing.statements.period_rows import PROVIDER
from relay.store.accounts import Account
from relay.store.rate_cards import Cards, RateCardRow
from relay.store.tables import statements

LINE: Final = "month_price"
# Only minutes have a price for the month; connect fees, minimums and maximums stay those of each call.
MINUTES: Final = (USAGE, *COMPONENTS)
_SECONDS_PER_MINUTE: Final = Decimal(60)
_NEVER: Final = datetime.min.replace(tzinfo=UTC)

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
        AND rate_card_id IS NOT NULL
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

    def with_more(self, more: Counted) -> Counted:
        """Both together, of calls; what is settled is of this one."""
        return replace(
            self,
            billed_seconds=self.billed_seconds + more.billed_seconds,
            charged=ARITHMETIC.add(self.charged, more.charged),
        )


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


def settle(
    connection: Connection, account: Account, period: date, *, cards: Cards, more: Iterable[Counted] = ()
) -> tuple[Adjustment, ...]:
    """The adjustments of a period, ordered by month of origin and card. Nothing is written.

    `cards` are the account's: those that were known when the period is, or was, settled. What was posted in this
    period already is not counted, so that it can be computed again at any time. `more` counts as if it were posted.
    """
    priced = [row.id for row in cards.by_id.values() if row.month_price is not None]
    if not priced:
        return ()
    wanted: dict[str, Any] = {"account": account.id, "period": period, "cards": priced}
    more = list(more)
    months = {period, *connection.execute(_ORIGINS, wanted).scalars(), *(one.month for one in more)}
    counted = {(one.month, one.card_id): one for month in months for one in _counted(connection, month, wanted)}
    for one in more:
        standing = counted.get((one.month, one.card_id), Counted(card_id=one.card_id, month=one.month))
        counted[one.month, one.card_id] = standing.with_more(one)
    fees = _fee_cards(connection, account, period, months=months, cards=cards, counted=counted)
    if (fee := fees[period]) is not None:
        counted.setdefault((period, fee), Counted(card_id=fee, month=period))
    found = [
        adjustment(one, card_of(cards.by_id[card_id]), period=period, fee_is_due=fees[month] == card_id)
        for (month, card_id), one in sorted(counted.items())
        if card_id in priced
    ]
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

    None before the month in which the account was made, whenever the card begins.
    """
    card = cards.at(periods.begins(month))
    if card is None or card.month_price is None or month < periods.month_of(account.created_at):
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


def _fee_cards(
    connection: Connection,
    account: Account,
    period: date,
    *,
    months: Collection[date],
    cards: Cards,
    counted: Mapping[tuple[date, str], Counted],
) -> dict[date, str | None]:
    """The card whose fee is due in each month.

    In one that was closed before it stays the card that was known then; a card that was added for it later is in its
    place once that month's calls are rated again by it. So a month never has two fees, and none is changed in passing.
    """
    closed = select(statements.c.month, statements.c.closed_at).where(
        statements.c.account_id == account.id, statements.c.month.in_(months), statements.c.month < period
    )
    closed_at = {row.month: row.closed_at for row in connection.execute(closed)}
    found = {}
    for month in months:
        by_now, then = cards.at(periods.begins(month)), cards
        if month < period and not (by_now and _has_minutes(counted.get((month, by_now.id)))):
            # A month without a statement had no fee; one whose closing is under way takes the cards that are there.
            at = closed_at.get(month, _NEVER)
            then = cards if at is None else known(cards, at)
        due = fee_card(then, account, month)
        found[month] = None if due is None else due.id
    return found


def _has_minutes(counted: Counted | None) -> bool:
    return counted is not None and counted.billed_seconds > 0


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
