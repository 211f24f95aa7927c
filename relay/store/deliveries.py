"""Deliveries and their attempts as they are shown. `workers.record` writes them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple

import msgspec
from sqlalchemy import Connection, Select, exists, select, tuple_

from relay.store.snapshot import EndpointState
from relay.store.tables import attempts, deliveries, endpoints, events

DeliveryStatus = Literal["pending", "delivered", "dead", "content_lost"]


_EVENT_FACTS: Final = (
    events.c.provider,
    events.c.kind,
    events.c.session_id,
    events.c.conversation_id,
    events.c.livemode,
)


class Cursor(NamedTuple):
    """A delivery in the order of their lists: where a page begins."""

    accepted_at: datetime
    event_id: str
    endpoint_id: str


class Attempt(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One try to deliver. `code` is for tenants, `detail` for operators only."""

    number: int
    at: datetime
    http_status: int | None
    code: str | None
    detail: str | None
    duration_ms: int | None
    response_bytes: int | None


class Delivery(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One event for one endpoint, as JSON shows it; `attempts` is how many were made, `history` what became of them.

    `type`, `session_id` and `conversation_id` are the event's; they are None once its own record is gone.
    """

    event_id: str
    endpoint_id: str
    account_id: str
    type: str | None
    session_id: int | None
    conversation_id: str | None
    livemode: bool | None
    status: DeliveryStatus
    code: str | None
    attempts: int
    next_attempt_at: datetime | None
    accepted_at: datetime
    settled_at: datetime | None
    history: list[Attempt]

    @property
    def cursor(self) -> Cursor:
        """Where the page after this one begins."""
        return Cursor(self.accepted_at, self.event_id, self.endpoint_id)


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery that may be replayed, with what decides it.

    `endpoint_state` is None for an endpoint that does not exist any more, `retention_hours` None for the setting's
    default. `is_latest` is False if the event came again on a later day and has a newer record: this one is history.
    """

    event_id: str
    endpoint_id: str
    account_id: str
    status: DeliveryStatus
    attempts: int
    accepted_at: datetime
    endpoint_state: EndpointState | None
    retention_hours: int | None
    is_latest: bool

    @property
    def cursor(self) -> Cursor:
        """Where the page after this one begins."""
        return Cursor(self.accepted_at, self.event_id, self.endpoint_id)


def sortable(stream_id: str) -> str:
    """A Redis stream id in the form of `last_stream_id`, which sorts as text: `1-2` padded to 15 and 20 digits."""
    milliseconds, _, sequence = stream_id.partition("-")
    return f"{int(milliseconds):015d}-{int(sequence):020d}"


def page(
    connection: Connection,
    *,
    account_id: str | None = None,
    endpoint_id: str | None = None,
    event_id: str | None = None,
    session_id: int | None = None,
    status: DeliveryStatus | None = None,
    since: datetime | None = None,
    before: Cursor | None = None,
    limit: int = 100,
) -> list[Delivery]:
    """Deliveries with their attempts, newest first, of one account or of all.

    `session_id` narrows to the events that went under it; `since` is the earliest acceptance; `before` is the `cursor`
    of the last one seen.
    """
    order = (deliveries.c.accepted_at, deliveries.c.event_id, deliveries.c.endpoint_id)
    newest = (
        select(deliveries, *_EVENT_FACTS)
        .select_from(deliveries.outerjoin(events, deliveries.c.event_id == events.c.id))
        .order_by(*(column.desc() for column in order))
        .limit(limit)
    )
    newest = _narrowed(
        newest, since=since, account_id=account_id, endpoint_id=endpoint_id, event_id=event_id, status=status
    )
    if session_id is not None:
        newest = newest.where(events.c.session_id == session_id, events.c.account_id == deliveries.c.account_id)
    if before is not None:
        newest = newest.where(tuple_(*order) < before)
    rows = [dict(row) for row in connection.execute(newest).mappings()]
    history = _history(connection, rows)
    return [_delivery(row, history[row["event_id"], row["endpoint_id"]]) for row in rows]


def candidates(
    connection: Connection,
    *,
    account_id: str | None = None,
    endpoint_id: str | None = None,
    event_id: str | None = None,
    status: DeliveryStatus | None = None,
    since: datetime | None = None,
    after: Cursor | None = None,
    limit: int = 100,
) -> list[Candidate]:
    """Deliveries in the order in which they were accepted, from `since` on; `after` is the last one's `cursor`."""
    order = (deliveries.c.accepted_at, deliveries.c.event_id, deliveries.c.endpoint_id)
    oldest = select(deliveries).order_by(*order).limit(limit)
    first = since if after is None else after[0]
    oldest = _narrowed(
        oldest, since=first, account_id=account_id, endpoint_id=endpoint_id, event_id=event_id, status=status
    )
    if after is not None:
        oldest = oldest.where(tuple_(*order) > after)
    page, later = oldest.subquery("page"), deliveries.alias("later")
    same = (later.c.event_id == page.c.event_id) & (later.c.endpoint_id == page.c.endpoint_id)
    facts = [page.c[name] for name in Candidate.__struct_fields__ if name in page.c]
    of_page = select(
        *facts,
        endpoints.c.state.label("endpoint_state"),
        endpoints.c.retention_hours,
        (~exists().where(same, later.c.day > page.c.day)).label("is_latest"),
    ).select_from(
        page.outerjoin(
            endpoints, (endpoints.c.id == page.c.endpoint_id) & (endpoints.c.account_id == page.c.account_id)
        )
    )
    rows = connection.execute(of_page.order_by(page.c.accepted_at, page.c.event_id, page.c.endpoint_id))
    return [Candidate(**row) for row in rows.mappings()]


def _narrowed(query: Select[Any], *, since: datetime | None, **wanted: str | None) -> Select[Any]:
    """Only what has each wanted value in the column of that name and was accepted from `since` on; None is any."""
    for name, value in wanted.items():
        if value is not None:
            query = query.where(deliveries.c[name] == value)
    if since is not None:
        # The day as well: it is what partitions are chosen by.
        query = query.where(deliveries.c.accepted_at >= since, deliveries.c.day >= since.astimezone(UTC).date())
    return query


def _history(connection: Connection, rows: Sequence[dict[str, Any]]) -> defaultdict[tuple[str, str], list[Attempt]]:
    """The attempts of some deliveries, each list in order."""
    history: defaultdict[tuple[str, str], list[Attempt]] = defaultdict(list)
    units = [(row["event_id"], row["endpoint_id"]) for row in rows]
    if not units:
        return history
    found = select(attempts).where(
        tuple_(attempts.c.event_id, attempts.c.endpoint_id).in_(units),
        attempts.c.day.in_({row["day"] for row in rows}),
    )
    for row in connection.execute(found.order_by(attempts.c.number)).mappings():
        facts = {name: row[name] for name in Attempt.__struct_fields__}
        history[row["event_id"], row["endpoint_id"]].append(Attempt(**facts))
    return history


def _delivery(row: dict[str, Any], history: list[Attempt]) -> Delivery:
    kind = None if row["kind"] is None else f"{row['provider']}.{row['kind']}"
    facts = {name: row[name] for name in Delivery.__struct_fields__ if name not in {"type", "history"}}
    return Delivery(**facts, type=kind, history=history)
