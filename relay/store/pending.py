"""What Postgres takes for pending, deliveries and recordings: to be compared with the outbox, which alone knows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import Connection, select, text, tuple_

from relay.store.tables import deliveries, sessions


class Pending(NamedTuple):
    """One delivery; its first three fields, in this order, are its place in the list."""

    accepted_at: datetime
    event_id: str
    endpoint_id: str
    account_id: str


class Unmeasured(NamedTuple):
    """A call whose session is open; its first three fields, in this order, are its place in the list."""

    created_at: datetime
    account_id: str
    session_id: int
    call_id: str


_LOSE: Final = text("""
    UPDATE deliveries SET status = 'content_lost', code = 'content_lost', next_attempt_at = NULL, settled_at = now()
    FROM unnest(CAST(:events AS text[]), CAST(:endpoints AS text[])) AS lost (event_id, endpoint_id)
    WHERE deliveries.event_id = lost.event_id AND deliveries.endpoint_id = lost.endpoint_id
        AND deliveries.status = 'pending' AND deliveries.accepted_at < :accepted_before
""")


def page(
    connection: Connection, *, accepted_before: datetime, after: Pending | None = None, limit: int = 500
) -> list[Pending]:
    """Pending deliveries, oldest first, from behind `after` on."""
    place = (deliveries.c.accepted_at, deliveries.c.event_id, deliveries.c.endpoint_id)
    query = select(*place, deliveries.c.account_id).where(
        deliveries.c.status == "pending", deliveries.c.accepted_at < accepted_before
    )
    if after is not None:
        query = query.where(tuple_(*place) > tuple_(*after[:3]))
    return [Pending(*row) for row in connection.execute(query.order_by(*place).limit(limit))]


def lose(connection: Connection, lost: Sequence[Pending], *, accepted_before: datetime) -> int:
    """Say of these that their content is lost; how many were still pending.

    `last_stream_id` stays: should an outcome be on its way after all, it counts.
    """
    values = {
        "events": [one.event_id for one in lost],
        "endpoints": [one.endpoint_id for one in lost],
        "accepted_before": accepted_before,
    }
    return connection.execute(_LOSE, values).rowcount


def unmeasured(
    connection: Connection,
    *,
    provider: str,
    created_before: datetime,
    after: Unmeasured | None = None,
    limit: int = 500,
) -> list[Unmeasured]:
    """Calls of a provider whose session has not ended, oldest first, from behind `after` on."""
    place = (sessions.c.created_at, sessions.c.account_id, sessions.c.id)
    query = select(*place, sessions.c.conversation_id).where(
        sessions.c.status.in_(("pending", "active")),
        sessions.c.provider == provider,
        sessions.c.conversation_id.is_not(None),
        sessions.c.created_at < created_before,
    )
    if after is not None:
        query = query.where(tuple_(*place) > tuple_(*after[:3]))
    return [Unmeasured(*row) for row in connection.execute(query.order_by(*place).limit(limit))]
