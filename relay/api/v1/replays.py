"""Replays: deliveries that have ended, once more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from relay import replay as replays
from relay.api.core import cursors
from relay.api.core.access import Access
from relay.api.core.families import OURS
from relay.api.core.fields import EndpointId, EventId, GivenEndpointId, GivenMoment
from relay.api.core.models import Input, Output
from relay.api.core.operations import Call, Group
from relay.api.core.pages import Cursor
from relay.errors import (
    Conflict,
    ContentGone,
    NotFound,
    OverQuota,
    ProviderFailed,
    ProviderUnavailable,
    SwitchhookError,
    Unavailable,
)
from relay.refetch import Refetcher
from relay.replay import Answer, Replayed, Selection
from relay.store import deliveries
from relay.store.deliveries import DeliveryStatus

group = Group(OURS, tag="Deliveries")

# One request looks at so many, and ends sooner when so many have been asked of providers: each may take seconds.
_MOST: Final = 1000
_USUAL: Final = 100
_FETCHES: Final = 10

Ended = Literal["dead", "delivered", "content_lost"]


class Replay(Output):
    """What became of the wish. `status` and `attempts` are those of before."""

    event_id: EventId
    endpoint_id: EndpointId
    status: DeliveryStatus
    attempts: int
    answer: Literal["replayed", "refetched", "pending"]


class ReplaySince(Input):
    """What to replay. It goes on behind `cursor`, the `nextCursor` of the answer before."""

    since: Annotated[GivenMoment, Field(description="What was accepted from this moment on.")]
    status: Annotated[Ended, Field(description="What ended so.")] = "dead"
    endpoint_id: Annotated[GivenEndpointId | None, Field(description="Only at this endpoint.")] = None
    limit: Annotated[int, Field(ge=1, le=_MOST, description="Look at no more than so many.")] = _USUAL
    cursor: Cursor | None = None


class Replays(Output):
    """How many deliveries got which answer. With a `nextCursor` there may be more: ask again with it."""

    looked_at: int
    counts: dict[Answer, int]
    next_cursor: str | None


@group.operation(
    "POST",
    "/api/v1/deliveries/<id:event_id>/<id:endpoint_id>/replay",
    access=Access.WRITE,
    answers={202: Replay},
    errors=(409, 410, 502),
    is_slow=True,
)
def replay_delivery(call: Call[None, None], event_id: str, endpoint_id: str) -> Replay:
    """Send a delivery that has ended once more.

    The same event with the same `webhook-id` and the next attempt number, within a second. What is pending still goes
    on by itself. Content that is gone is fetched from the provider again where the provider keeps it (`refetched`; the
    delivery then carries `Switchhook-Refetched: 1`), else the answer is 410.
    """
    selection = Selection(account_id=call.account_id, event_id=event_id, endpoint_id=endpoint_id)
    done = [item for part in _replayed(call, selection, _refetcher(call)) for item in part]
    if not done:
        raise NotFound("this account has no such delivery")
    refused = _REFUSALS.get(done[0].answer)
    if refused is not None:
        raise refused()
    return Replay.model_validate(replays.shown(done[0]))


@group.operation(
    "POST", "/api/v1/deliveries/replay", access=Access.WRITE, body=ReplaySince, answers={202: Replays}, is_slow=True
)
def replay_since(call: Call[ReplaySince, None]) -> Replays:
    """Send all deliveries that ended since a time once more, the oldest first.

    One request does a bounded amount of work: it looks at no more than `limit` deliveries, and ends sooner when it had
    to fetch the content of some ten from providers again. As long as there is a `nextCursor`, send the same request
    with it as `cursor`. Sending one again is safe: what is on its way already is `pending`.
    """
    body = call.body
    selection = Selection(
        account_id=call.account_id,
        endpoint_id=body.endpoint_id,
        status=body.status,
        since=body.since,
        after=cursors.read(body.cursor, deliveries.Cursor),
    )
    done: list[Replayed] = []
    refetch, is_whole = _refetcher(call), True
    for part in _replayed(call, selection, refetch, within=body.limit):
        done += part
        if len(done) >= body.limit or refetch.fetches >= _FETCHES:
            is_whole = False
            break
    more = None if is_whole else cursors.written(done[-1].cursor)
    return Replays(looked_at=len(done), counts=Counter(item.answer for item in done), next_cursor=more)


def _replayed(
    call: Call[Any, Any], selection: Selection, refetch: Refetcher, *, within: int | None = None
) -> Iterator[list[Replayed]]:
    services = call.services
    parts = replays.replay(
        services.database,
        services.outbox,
        selection,
        retention=services.settings.retention,
        within=within,
        refetch=refetch,
    )
    return replays.audited(services.database, parts, actor=call.caller.actor)


def _refetcher(call: Call[Any, Any]) -> Refetcher:
    made = call.services
    return Refetcher(made.settings, made.database, made.outbox, made.ring, made.clients)


# What to say of a single delivery that does not go again.
_REFUSALS: Final[dict[Answer, Callable[[], SwitchhookError]]] = {
    Answer.CONTENT_GONE: lambda: ContentGone("the content is kept neither here nor, as far as we may ask, there"),
    Answer.CONTENT_LOST: lambda: ContentGone("the content was lost before its time", code="content_lost"),
    Answer.CONTENT_ERASED: lambda: ContentGone("the content was erased on request", code="content_erased"),
    Answer.ENDPOINT_DISABLED: lambda: Conflict("the endpoint is disabled: enable it first", code="endpoint_disabled"),
    Answer.ENDPOINT_GONE: lambda: Conflict("the endpoint is gone: enable it if it is back", code="endpoint_gone"),
    Answer.UNKNOWN: lambda: Unavailable("the records lag behind; try again in a moment", code="records_behind"),
    Answer.OVER_QUOTA: OverQuota,
    Answer.PROVIDER_FAILED: lambda: ProviderFailed("the provider refused to give the content again"),
    Answer.PROVIDER_UNAVAILABLE: ProviderUnavailable,
    Answer.FAILED: lambda: Unavailable("this delivery could not be put back; try again shortly"),
}
