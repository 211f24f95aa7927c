"""What charges that are not posted yet will make of the prices of whole months, before anybody posts them.

A charge's own amount is only a part of what it does to a statement: settling the month takes it off again, and counts
its minutes instead. So both are settled, what is posted and that with the charges on top, and compared.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal

from sqlalchemy import Connection

from billing import periods
from billing.entries import Entry
from billing.money import ARITHMETIC, ZERO
from billing.statements import settlement
from billing.statements.settlement import Counted
from relay.store import accounts, rate_cards


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceDifference:
    """How much more the price of a month adds to what its calls are charged, by one card, below zero how much less."""

    month: date
    card_id: str
    amount: Decimal


@dataclass(slots=True)
class Minutes:
    """What rows for the ledger add to, and take off, the minutes of each month and card."""

    by_month: dict[tuple[date, str], Counted] = field(default_factory=dict)

    def add(self, entries: Iterable[Entry]) -> None:
        """Count rows of calls; what is waived, and what is not a minute, has no price for the month."""
        for entry in entries:
            if entry.rate_card_id is None or entry.reason is not None or entry.line not in settlement.MINUTES:
                continue
            key = periods.month_of(entry.started_at), entry.rate_card_id
            one = Counted(
                month=key[0],
                card_id=key[1],
                billed_seconds=entry.billed_seconds if entry.part == 0 else 0,
                charged=entry.amount,
            )
            self.by_month[key] = self.by_month[key].with_more(one) if key in self.by_month else one


def price_differences(connection: Connection, account_id: str, minutes: Minutes) -> list[PriceDifference]:
    """What these minutes change of the adjustments of their statements, by month and card. Nothing is written."""
    account = accounts.get(connection, account_id)
    cards = rate_cards.of_accounts(connection, [account_id])[account_id]
    by_period = defaultdict[date, list[Counted]](list)
    for one in minutes.by_month.values():
        period, _ = periods.period_of(periods.begins(one.month), account.closed_through)
        by_period[period].append(one)
    found = defaultdict[tuple[date, str], Decimal](lambda: ZERO)
    for period, more in by_period.items():
        for after in settlement.settle(connection, account, period, cards=cards, more=more):
            key = after.month, after.card_id
            found[key] = ARITHMETIC.add(found[key], after.amount)
        for before in settlement.settle(connection, account, period, cards=cards):
            key = before.month, before.card_id
            found[key] = ARITHMETIC.subtract(found[key], before.amount)
    return [PriceDifference(month=month, card_id=card_id, amount=amount)
            for (month, card_id), amount in sorted(found.items()) if amount]  # fmt: skip
