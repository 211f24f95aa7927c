"""Budgets as they are kept, how they stand in a month, and which of their thresholds were told in it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from msgspec import UNSET, UnsetType
from sqlalchemy import ColumnElement, Connection, RowMapping, func, select, text

from relay.errors import Conflict, NotFound
from relay.store.ids import new_id
from relay.store.sessions import HELD
from relay.store.tables import budget_alerts, budgets


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What an account means to spend in a month (UTC): on all of its calls, or on those with one tag.

    `amount` is in the account's currency; `thresholds` are percentages of it, in order. With `hard_limit` no session
    begins that could go beyond it.
    """

    id: str
    account_id: str
    tag: str | None
    amount: Decimal
    thresholds: tuple[int, ...]
    hard_limit: bool
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a budget stands in a month.

    `spent` is the sum of its calls that have ended, each at its card's own price; `reserved` what is held back for
    sessions that have not; `told` are the thresholds whose crossing was told. `currency` is None before the account's
    first card.
    """

    budget: Budget
    month: date
    currency: str | None
    spent: Decimal
    reserved: Decimal
    told: tuple[int, ...]

    @property
    def left(self) -> Decimal:
        """What may still be spent; below zero if it is overspent."""
        return self.budget.amount - self.spent - self.reserved


# No call lasts longer than a day, at Agora 72 hours (billing.duration). By an hour later its provider was asked what
# became of it (relay.reconciliation); whatever it said, nothing is held back for it any more.
_ACTIVE: Final = timedelta(hours=25)
_ACTIVE_AT_AGORA: Final = timedelta(hours=73)
# The month's quarter-hours of each account are read once, by the index, however many budgets it has.
_STANDINGS: Final = text("""
    WITH wanted AS (
        SELECT unnest(CAST(:accounts AS text[])) AS account_id
    ), spent AS MATERIALIZED (
        SELECT w.account_id, u.tag, u.amount FROM wanted w CROSS JOIN LATERAL (
            SELECT tag, sum(amount) AS amount FROM usage_quarters q
            WHERE q.account_id = w.account_id AND q.quarter >= :begins AND q.quarter < :ends GROUP BY tag
        ) u
    ), reserved AS MATERIALIZED (
        SELECT w.account_id, r.tag, r.amount FROM wanted w CROSS JOIN LATERAL (
            SELECT COALESCE(tag, '') AS tag, sum(reserved) AS amount FROM sessions s
            WHERE s.account_id = w.account_id AND s.reserved IS NOT NULL
                AND CASE s.status
                    WHEN 'pending' THEN s.created_at > now() - :pending
                    WHEN 'active' THEN s.asked_at IS NULL AND s.created_at > now() - CASE s.provider
                        WHEN 'agora' THEN CAST(:agora AS interval) ELSE CAST(:active AS interval) END
                    ELSE false END
            GROUP BY 1
        ) r
    )
    SELECT b.*, a.currency,
        COALESCE((SELECT sum(s.amount) FROM spent s
            WHERE s.account_id = b.account_id AND s.tag = COALESCE(b.tag, s.tag)), 0) AS spent,
        COALESCE((SELECT sum(r.amount) FROM reserved r
            WHERE r.account_id = b.account_id AND r.tag = COALESCE(b.tag, r.tag)), 0) AS reserved,
        ARRAY(SELECT t.threshold FROM budget_alerts t WHERE t.budget_id = b.id AND t.month = :month
            AND t.rearmed_at IS NULL ORDER BY t.threshold) AS told
    FROM wanted w JOIN budgets b ON b.account_id = w.account_id JOIN accounts a ON a.id = b.account_id
    WHERE b.deleted_at IS NULL ORDER BY b.id
""")

# What a budget is must not change between the look at it and this: who changes it waits, or has changed it.
_TELL: Final = text("""
    INSERT INTO budget_alerts (id, budget_id, account_id, month, threshold, amount, spent)
    SELECT :id, b.id, b.account_id, :month, :threshold, b.amount, :spent FROM (
        SELECT id, account_id, amount FROM budgets
        WHERE id = :budget AND amount = :amount AND deleted_at IS NULL FOR SHARE
    ) b
    ON CONFLICT DO NOTHING RETURNING at
""")


def create(
    connection: Connection,
    *,
    account_id: str,
    amount: Decimal,
    thresholds: Sequence[int],
    tag: str | None = None,
    hard_limit: bool = False,
) -> Budget:
    """Make a budget. Raises Conflict `budget_exists` if there is one of this tag, or of the whole account."""
    if find(connection, account_id=account_id, tag=tag) is not None:
        raise Conflict("there is a budget of this tag, or of the whole account; change that", code="budget_exists")
    row = {
        "id": new_id("bud"),
        "account_id": account_id,
        "tag": tag,
        "amount": amount,
        "thresholds": list(thresholds),
        "hard_limit": hard_limit,
    }
    return _budget(connection.execute(budgets.insert().values(row).returning(*budgets.c)).mappings().one())


def find(connection: Connection, *, account_id: str, tag: str | None) -> Budget | None:
    """The budget of a tag, or that of the whole account."""
    this = (budgets.c.account_id == account_id, budgets.c.tag.is_not_distinct_from(tag))
    row = connection.execute(select(budgets).where(*this, budgets.c.deleted_at.is_(None))).mappings().one_or_none()
    return None if row is None else _budget(row)


def get(connection: Connection, *, account_id: str, budget_id: str, for_change: bool = False) -> Budget:
    """Raises NotFound. `for_change`: nobody else changes it, or counts with it, until the transaction ends."""
    found = select(budgets).where(*_this(account_id, budget_id))
    row = connection.execute(found.with_for_update() if for_change else found).mappings().one_or_none()
    if row is None:
        raise NotFound("this account has no budget by this id")
    return _budget(row)


def count(connection: Connection, *, account_id: str) -> int:
    """How many budgets an account has."""
    mine = (budgets.c.account_id == account_id, budgets.c.deleted_at.is_(None))
    return int(connection.execute(select(func.count()).select_from(budgets).where(*mine)).scalar_one())


def limits(connection: Connection, *, account_id: str, tag: str | None, locked: bool) -> list[Budget]:
    """The hard limits for a session with this tag; `locked` until the transaction ends, in the order of their ids."""
    applies = budgets.c.tag.is_(None) if tag is None else budgets.c.tag.is_(None) | (budgets.c.tag == tag)
    these = (budgets.c.account_id == account_id, budgets.c.deleted_at.is_(None), budgets.c.hard_limit, applies)
    found = select(budgets).where(*these).order_by(budgets.c.id)
    rows = connection.execute(found.with_for_update() if locked else found).mappings()
    return [_budget(row) for row in rows]


def update(
    connection: Connection,
    *,
    account_id: str,
    budget_id: str,
    amount: Decimal | UnsetType = UNSET,
    thresholds: Sequence[int] | UnsetType = UNSET,
    hard_limit: bool | UnsetType = UNSET,
) -> Budget:
    """Change what is given and leave the rest. Raises NotFound."""
    given: dict[str, Any] = {"amount": amount, "thresholds": thresholds, "hard_limit": hard_limit}
    values = {name: value for name, value in given.items() if value is not UNSET} | {"updated_at": func.now()}
    changed = budgets.update().where(*_this(account_id, budget_id)).values(values).returning(*budgets.c)
    row = connection.execute(changed).mappings().one_or_none()
    if row is None:
        raise NotFound("this account has no budget by this id")
    return _budget(row)


def delete(connection: Connection, *, account_id: str, budget_id: str) -> None:
    """Take a budget away; what was told of it stays. Raises NotFound."""
    gone = budgets.update().where(*_this(account_id, budget_id)).values(deleted_at=func.now())
    if not connection.execute(gone).rowcount:
        raise NotFound("this account has no budget by this id")


def accounts_with_any(connection: Connection, *, after: str = "", limit: int) -> list[str]:
    """The accounts that have budgets, by their ids."""
    found = select(budgets.c.account_id).where(budgets.c.deleted_at.is_(None), budgets.c.account_id > after)
    return list(connection.execute(found.distinct().order_by(budgets.c.account_id).limit(limit)).scalars())


def standings(
    connection: Connection, account_ids: Collection[str], *, month: date, begins: datetime, ends: datetime
) -> list[Standing]:
    """How the budgets of these accounts stand in a month, in the order of their ids."""
    longest = {"pending": HELD, "active": _ACTIVE, "agora": _ACTIVE_AT_AGORA}
    given = {"accounts": list(account_ids), "month": month, "begins": begins, "ends": ends, **longest}
    return [_standing(row, month) for row in connection.execute(_STANDINGS, given).mappings()]


def tell(connection: Connection, standing: Standing, threshold: int) -> tuple[str, datetime] | None:
    """Note that a crossing is told: the alert's id and moment. None: it is already, or the budget was changed."""
    budget, alert_id = standing.budget, new_id("bal")
    given = {
        "id": alert_id,
        "budget": budget.id,
        "month": standing.month,
        "threshold": threshold,
        "amount": budget.amount,
        "spent": standing.spent,
    }
    at: datetime | None = connection.execute(_TELL, given).scalar_one_or_none()
    return None if at is None else (alert_id, at)


def rearm(connection: Connection, budget_id: str, *, month: date, thresholds: Collection[int]) -> None:
    """Have the crossing of these thresholds told again in this month."""
    again = budget_alerts.update().where(
        budget_alerts.c.budget_id == budget_id,
        budget_alerts.c.month == month,
        budget_alerts.c.threshold.in_(thresholds),
        budget_alerts.c.rearmed_at.is_(None),
    )
    connection.execute(again.values(rearmed_at=func.now()))


def _this(account_id: str, budget_id: str) -> tuple[ColumnElement[bool], ...]:
    return budgets.c.account_id == account_id, budgets.c.id == budget_id, budgets.c.deleted_at.is_(None)


def _budget(row: RowMapping) -> Budget:
    return Budget(**{column.name: row[column.name] for column in budgets.c} | {"thresholds": tuple(row["thresholds"])})


def _standing(row: RowMapping, month: date) -> Standing:
    return Standing(
        budget=_budget(row),
        month=month,
        currency=row["currency"],
        spent=row["spent"],
        reserved=row["reserved"],
        told=tuple(row["told"]),
    )
