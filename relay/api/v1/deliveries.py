"""Deliveries: each event for each of the account's endpoints, and what became of it."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import Field, StringConstraints

from relay.api.core import cursors
from relay.api.core.access import Access
from relay.api.core.families import OURS
from relay.api.core.models import Output, Query
from relay.api.core.operations import Call, Group
from relay.api.v1.fields import GivenMoment, ShownMoment
from relay.api.v1.pages import USUAL, Cursor, Limit, Page
from relay.errors import NotFound
from relay.store import deliveries
from relay.store.deliveries import Attempt as AttemptRow
from relay.store.deliveries import Delivery as DeliveryRow
from relay.store.deliveries import DeliveryStatus
from relay.store.shown import moment

group = Group(OURS, tag="Deliveries")

EventId = Annotated[str, StringConstraints(pattern=r"^evt_[a-z2-7]{26}$")]
EndpointId = Annotated[str, StringConstraints(pattern=r"^ep_[a-z2-7]{26}$")]
SessionId = Annotated[int, Field(ge=1, le=9_999_999_999_999_999)]
# What failed so looks alike whatever the address is: how long it took would tell them apart.
_TIMELESS: Final = "unreachable"


class DeliveriesQuery(Query):
    """Which deliveries."""

    status: Annotated[DeliveryStatus | None, Field(description="Only in this state.")] = None
    endpoint_id: Annotated[EndpointId | None, Field(description="Only at this endpoint.")] = None
    event_id: Annotated[EventId | None, Field(description="Only of this event.")] = None
    session_id: Annotated[SessionId | None, Field(description="Only of this session.")] = None
    since: Annotated[GivenMoment | None, Field(description="Only of events accepted from this moment on.")] = None
    limit: Limit = USUAL
    cursor: Cursor | None = None


class Delivery(Output):
    """One event for one endpoint. The event's own facts are null once its record is gone.

    `code` says why it ended, or why the last attempt failed.
    """

    event_id: str
    endpoint_id: str
    type: str | None
    session_id: int | None
    conversation_id: str | None
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
    listed = rows[: query.limit]
    more = cursors.written(listed[-1].cursor) if len(rows) > len(listed) else None
    return Page(data=[Delivery.model_validate(_shown(row)) for row in listed], next_cursor=more)


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
    history = [_attempt(attempt) for attempt in rows[0].history]
    return DeliveryWithHistory.model_validate(_shown(rows[0]) | {"history": history})


def _shown(row: DeliveryRow) -> dict[str, Any]:
    return {
        "eventId": row.event_id,
        "endpointId": row.endpoint_id,
        "type": row.type,
        "sessionId": row.session_id,
        "conversationId": row.conversation_id,
        "livemode": row.livemode,
        "status": row.status,
        "code": row.code,
        "attempts": row.attempts,
        "nextAttemptAt": moment(row.next_attempt_at),
        "acceptedAt": moment(row.accepted_at),
        "settledAt": moment(row.settled_at),
    }


def _attempt(row: AttemptRow) -> dict[str, Any]:
    return {
        "number": row.number,
        "at": moment(row.at),
        "httpStatus": row.http_status,
        "code": row.code,
        "durationMs": None if row.code == _TIMELESS else row.duration_ms,
        "responseBytes": row.response_bytes,
    }
