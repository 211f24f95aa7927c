"""Deliveries: each event for each of the account's endpoints, and what became of it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from relay.api.core import cursors
from relay.api.core.access import Access
from relay.api.core.families import OURS
from relay.api.core.fields import (
    EndpointId,
    EventId,
    GivenEndpointId,
    GivenEventId,
    GivenMoment,
    RowNumber,
    ShownMoment,
)
from relay.api.core.models import Output, Query
from relay.api.core.operations import Call, Group
from relay.api.core.pages import USUAL, Cursor, Limit, Page, page
from relay.errors import NotFound
from relay.store import deliveries, shown
from relay.store.deliveries import Delivery as DeliveryRow
from relay.store.deliveries import DeliveryStatus

group = Group(OURS, tag="Deliveries")


class DeliveriesQuery(Query):
    """Which deliveries."""

    status: Annotated[DeliveryStatus | None, Field(description="Only in this state.")] = None
    endpoint_id: Annotated[GivenEndpointId | None, Field(description="Only at this endpoint.")] = None
    event_id: Annotated[GivenEventId | None, Field(description="Only of this event.")] = None
    session_id: Annotated[RowNumber | None, Field(description="Only of this session.")] = None
    since: Annotated[GivenMoment | None, Field(description="Only of events accepted from this moment on.")] = None
    limit: Limit = USUAL
    cursor: Cursor | None = None


class Delivery(Output):
    """One event for one endpoint. The event's own facts are null once its record is gone.

    `code` says why it ended, or why the last attempt failed.
    """

    event_id: EventId
    endpoint_id: EndpointId
    type: Annotated[str, Field(examples=["retell.call_analyzed"])] | None
    session_id: int | None
    conversation_id: Annotated[str, Field(examples=["conv_1"])] | None
    livemode: bool | None
    status: DeliveryStatus
    code: str | None
    attempts: int
    next_attempt_at: ShownMoment | None
    accepted_at: ShownMoment
    settled_at: ShownMoment | None


class Attempt(Output):
    """One attempt. `code` is null if it was taken; what cannot be reached shows no duration."""

    number: int
    at: ShownMoment
    http_status: int | None
    code: str | None
    duration_ms: int | None
    response_bytes: int | None


class DeliveryWithHistory(Delivery):
    """A delivery with its attempts, in order."""

    history: list[Attempt]


@group.operation("GET", "/api/v1/deliveries", access=Access.READ, query=DeliveriesQuery, answers={200: Page[Delivery]})
def list_deliveries(call: Call[None, DeliveriesQuery]) -> Page[Delivery]:
    """List deliveries, the newest first.

    They are recorded within a second or so of what happened, and kept for 30 days.
    """
    query = call.query
    narrowed = query.model_dump(include={"status", "endpoint_id", "event_id", "session_id", "since"})
    with call.services.database.begin() as connection:
        rows = deliveries.page(
            connection,
            account_id=call.account_id,
            before=cursors.read(query.cursor, deliveries.Cursor),
            limit=query.limit + 1,
            **narrowed,
        )
    return page(rows, query, _shown, place=lambda row: row.cursor)


@group.operation(
    "GET",
    "/api/v1/deliveries/<id:event_id>/<id:endpoint_id>",
    access=Access.READ,
    answers={200: DeliveryWithHistory},
)
def get_delivery(call: Call[None, None], event_id: str, endpoint_id: str) -> DeliveryWithHistory:
    """Get a delivery with all its attempts."""
    with call.services.database.begin() as connection:
        rows = deliveries.page(
            connection, account_id=call.account_id, event_id=event_id, endpoint_id=endpoint_id, limit=1
        )
    if not rows:
        raise NotFound("this account has no such delivery")
    history = [shown.attempt(attempt) for attempt in rows[0].history]
    return DeliveryWithHistory.model_validate(shown.delivery(rows[0]) | {"history": history})


def _shown(row: DeliveryRow) -> Delivery:
    return Delivery.model_validate(shown.delivery(row))
