"""Sessions: one row for each conversation. The API makes them here; what ends them is charged by `billing`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Literal

import msgspec
from sqlalchemy import Connection, Double, cast, select, tuple_

from relay.errors import NotFound
from relay.store.tables import session_ids, sessions

SessionStatus = Literal["pending", "active", "completed", "failed", "abandoned"]


class Session(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A session as JSON shows it: camelCase names, money as strings, seconds as numbers, times in UTC.

    `cost` None with an `unrated_reason` is a session that could not be charged; None is not zero.
    """

    account_id: str
    id: int
    provider: str
    conversation_id: str | None
    template_id: int | None
    agent_id: str | None
    status: SessionStatus
    started_at: datetime | None
    ended_at: datetime | None
    duration_seconds: float | None
    billed_seconds: int | None
    currency: str | None
    cost: Decimal | None
    unrated_reason: str | None
    rate_card_id: str | None
    charge_sequence: int
    provider_cost_usd: Decimal | None
    provider_credits: Decimal | None
    livemode: bool
    metadata: dict[str, Any] | None
    created_at: datetime
    completed_at: datetime | None
    failure_code: str | None
    text_only: bool
    deleted_at: datetime | None


_SHOWN: Final = tuple(
    cast(column, Double).label(column.name) if column is sessions.c.duration_seconds else column
    for column in sessions.c
    if column not in {sessions.c.terminal_rank, sessions.c.terminal_ms}
)


def create(
    connection: Connection,
    *,
    account_id: str,
    provider: str,
    template_id: int | None = None,
    agent_id: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    livemode: bool = True,
) -> Session:
    """Make a pending session with the next id; its conversation is not known yet."""
    row = {
        "account_id": account_id,
        "id": connection.execute(select(session_ids.next_value())).scalar_one(),
        "provider": provider,
        "template_id": template_id,
        "agent_id": agent_id,
        "metadata": None if metadata is None else dict(metadata),
        "livemode": livemode,
    }
    return Session(**connection.execute(sessions.insert().values(row).returning(*_SHOWN)).mappings().one())


def get(connection: Connection, *, account_id: str, session_id: int) -> Session:
    """Raises NotFound, also for a session of another account."""
    found = select(*_SHOWN).where(sessions.c.account_id == account_id, sessions.c.id == session_id)
    row = connection.execute(found).mappings().one_or_none()
    if row is None:
        raise NotFound("this account has no session by this id")
    return Session(**row)


def page(
    connection: Connection,
    *,
    account_id: str | None = None,
    template_id: int | None = None,
    status: SessionStatus | None = None,
    before: tuple[datetime, int] | None = None,
    limit: int = 100,
) -> list[Session]:
    """Sessions, newest first, of one account or of all; `before` is `(created_at, id)` of the last one seen."""
    newest = select(*_SHOWN).order_by(sessions.c.created_at.desc(), sessions.c.id.desc()).limit(limit)
    if account_id is not None:
        newest = newest.where(sessions.c.account_id == account_id)
    if template_id is not None:
        newest = newest.where(sessions.c.template_id == template_id)
    if status is not None:
        newest = newest.where(sessions.c.status == status)
    if before is not None:
        newest = newest.where(tuple_(sessions.c.created_at, sessions.c.id) < before)
    return [Session(**row) for row in connection.execute(newest).mappings()]
