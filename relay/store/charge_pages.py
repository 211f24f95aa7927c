"""Listing an account's charges: by when their calls began, or by the statement in which they count."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, select, tuple_, union_all

from relay.store.charges import SHOWN, Charge, ChargeKind
from relay.store.tables import ledger


class Place(NamedTuple):
    """The last row of a page: the next one begins behind it."""

    started_at: datetime
    id: int


def page(
    connection: Connection,
    *,
    account_id: str,
    begins: datetime | None = None,
    ends: datetime | None = None,
    period: date | None = None,
    session_id: int | None = None,
    kind: ChargeKind | None = None,
    before: Place | None = None,
    limit: int = 100,
) -> list[Charge]:
    """Rows of the ledger of one account, those of the newest calls first.

    `begins` and `ends` are a half-open range of `started_at`; `period` is the first day of a month: the rows of its
    statement, those too that correct an earlier one in it.
    """
    narrowed = _narrowed(account_id, begins, ends, session_id, kind)
    if before is not None:
        narrowed.append(tuple_(ledger.c.started_at, ledger.c.id) < before)
    if period is None:
        found: Select[Any] = _newest(narrowed, limit)
    else:
        # Each has an index of its own, in which a page is found without reading the whole month.
        its_own = [ledger.c.started_at >= _midnight(period), ledger.c.started_at < _midnight(_next(period))]
        parts = (
            _newest([*narrowed, *its_own, ledger.c.reference.is_(None)], limit),
            _newest([*narrowed, ledger.c.period == period, ledger.c.reference.is_not(None)], limit),
        )
        both = union_all(*(part.subquery().select() for part in parts)).subquery()
        found = select(both).order_by(both.c.started_at.desc(), both.c.id.desc()).limit(limit)
    return [Charge(**row) for row in connection.execute(found).mappings()]


def _narrowed(
    account_id: str,
    begins: datetime | None,
    ends: datetime | None,
    session_id: int | None,
    kind: ChargeKind | None,
) -> list[ColumnElement[bool]]:
    narrowed = [ledger.c.account_id == account_id]
    if begins is not None:
        narrowed.append(ledger.c.started_at >= begins)
    if ends is not None:
        narrowed.append(ledger.c.started_at < ends)
    if session_id is not None:
        narrowed.append(ledger.c.session_id == session_id)
    if kind is not None:
        narrowed.append(ledger.c.kind == kind)
    return narrowed


def _newest(narrowed: list[ColumnElement[bool]], limit: int) -> Select[Any]:
    return select(*SHOWN).where(*narrowed).order_by(ledger.c.started_at.desc(), ledger.c.id.desc()).limit(limit)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _next(month: date) -> date:
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)
