"""Budgets: how much of one is spent in a month (UTC), and which of its thresholds are to be told now.

A crossing is told once a month. Spending that a correction takes back and that grows again is no news; a larger budget
is: the thresholds that it lifts above what is spent are told when they are crossed again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import ROUND_FLOOR, Decimal
from typing import Any, Final

from sqlalchemy import Connection

from billing import periods
from billing.money import ARITHMETIC, format_price, to_money
from billing.statements import DRAFT
from relay.errors import BadRequest
from relay.store import budgets, notices
from relay.store.budgets import Budget, Standing

USUAL_THRESHOLDS: Final = (50, 80, 100)
MAX_THRESHOLDS: Final = 20
MAX_PERCENT: Final = 1000
ALERT: Final = "budget.alert"
_WHOLE: Final = Decimal(100)
# What NUMERIC(18,6) holds.
_MOST: Final = Decimal(10**12)


def checked_amount(value: object) -> Decimal:
    """A budget's amount. Raises BillingError or BadRequest naming `amount`: it must be more than 0."""
    amount = to_money(value, field="amount")
    if not 0 < amount < _MOST:
        raise BadRequest("amount must be more than 0, and below 1,000,000,000,000", field="amount")
    return amount


def checked_thresholds(given: Sequence[int]) -> tuple[int, ...]:
    """Percentages in order. Raises BadRequest naming `thresholds`: 1 to 20 distinct ones from 1 to 1000."""
    found = tuple(sorted(set(given)))
    if len(found) != len(given) or not 1 <= len(found) <= MAX_THRESHOLDS:
        raise BadRequest(f"thresholds must be 1 to {MAX_THRESHOLDS} distinct percentages", field="thresholds")
    if not 1 <= found[0] <= found[-1] <= MAX_PERCENT:
        raise BadRequest(f"thresholds are percentages from 1 to {MAX_PERCENT}", field="thresholds")
    return found


def crossed(amount: Decimal, thresholds: Collection[int], spent: Decimal) -> tuple[int, ...]:
    """The thresholds that spending has reached, in order. Pure."""
    reached = ARITHMETIC.multiply(spent, _WHOLE)
    return tuple(one for one in sorted(thresholds) if reached >= ARITHMETIC.multiply(amount, Decimal(one)))


def untold(standing: Standing) -> tuple[int, ...]:
    """The thresholds that are crossed and were not told of yet this month, in order. Pure."""
    budget = standing.budget
    return tuple(one for one in crossed(budget.amount, budget.thresholds, standing.spent) if one not in standing.told)


def rearmed(standing: Standing, amount: Decimal) -> tuple[int, ...]:
    """What was told and is to be told again once it is crossed, if the budget is changed to this amount. Pure."""
    return tuple(one for one in standing.told if one not in crossed(amount, standing.told, standing.spent))


def percent(standing: Standing) -> int:
    """How much of a budget is spent, in whole percent, rounded down: 100 is all of it. Pure."""
    share = ARITHMETIC.divide(ARITHMETIC.multiply(standing.spent, _WHOLE), standing.budget.amount)
    return int(share.to_integral_value(ROUND_FLOOR, ARITHMETIC))


def months(now: datetime) -> tuple[date, ...]:
    """The months whose budgets are watched: this one, and the one before while its calls are still told. Pure."""
    this, late = periods.month_of(now), periods.month_of(now - DRAFT)
    return (this,) if late == this else (late, this)


def standings(connection: Connection, account_ids: Collection[str], month: date) -> list[Standing]:
    """How the budgets of these accounts stand in a month."""
    begins, ends = periods.begins(month), periods.begins(periods.next_month(month))
    return budgets.standings(connection, account_ids, month=month, begins=begins, ends=ends)


def watch(connection: Connection, account_ids: Collection[str], now: datetime) -> int:
    """Have these accounts told of what was crossed; how many crossings there were.

    Noted and to be sent in one transaction: several processes may do this at once, and die at any moment.
    """
    count = 0
    for month in months(now):
        for standing in standings(connection, account_ids, month):
            if month < periods.month_of(standing.budget.created_at):
                continue  # it was of no month before its first
            count += sum(_tell(connection, standing, threshold) for threshold in untold(standing))
    return count


def change(connection: Connection, before: Budget, **given: Any) -> Budget:
    """Change a budget that is locked, and have the thresholds told again that its new amount lifts above what is spent.

    `given` is as relay.store.budgets.update takes it.
    """
    after = budgets.update(connection, account_id=before.account_id, budget_id=before.id, **given)
    if after.amount != before.amount:
        month = periods.month_of(datetime.now(UTC))
        for standing in standings(connection, [before.account_id], month):
            if standing.budget.id == after.id:
                budgets.rearm(connection, after.id, month=month, thresholds=rearmed(standing, after.amount))
    return after


def _tell(connection: Connection, standing: Standing, threshold: int) -> bool:
    told = budgets.tell(connection, standing, threshold)
    if told is None:
        return False
    alert_id, at = told
    budget = standing.budget
    body = alert(standing, threshold, at)
    notices.add(connection, account_id=budget.account_id, kind=ALERT, subject=budget.id, key=alert_id, body=body)
    return True


def alert(standing: Standing, threshold: int, at: datetime) -> Mapping[str, Any]:
    """What an account is told of a crossing. Pure."""
    budget = standing.budget
    return {
        "budgetId": budget.id,
        "tag": budget.tag,
        "month": f"{standing.month:%Y-%m}",
        "threshold": threshold,
        "amount": money(budget.amount, standing.currency),
        "spent": money(standing.spent, standing.currency),
        "currency": standing.currency,
        "at": at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }


def money(amount: Decimal, currency: str | None) -> str:
    """An amount as text; before an account has a currency, as if that had cents. Pure."""
    return format_price(amount, currency or "USD")
