"""Sessions: one for each conversation, with what it lasted and cost. What was said is not here."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from relay.api.core import cursors
from relay.api.core.access import Access
from relay.api.core.families import OURS
from relay.api.core.fields import ProviderName, RateCardId, RowNumber, ShownMoment, ShownMoney
from relay.api.core.models import Output, Query
from relay.api.core.operations import Call, Group
from relay.api.core.pages import USUAL, Cursor, Limit, Page, page
from relay.erasure import erase
from relay.store import sessions, shown
from relay.store.sessions import SessionStatus

group = Group(OURS, tag="Sessions")

_SESSION = "/api/v1/sessions/<row:session_id>"


class SessionsQuery(Query):
    """Which sessions."""

    status: Annotated[SessionStatus | None, Field(description="Only in this state.")] = None
    template_id: Annotated[RowNumber | None, Field(description="Only of this template.")] = None
    unrated: Annotated[
        bool | None,
        Field(description="`true`: only those that ended and could not be charged, for their `unratedReason`."),
    ] = None
    limit: Limit = USUAL
    cursor: Cursor | None = None


class Session(Output):
    """A session. `cost` null with an `unratedReason` could not be charged; `metadata` is what its maker gave."""

    id: int
    provider: ProviderName
    conversation_id: Annotated[str, Field(examples=["conv_1"])] | None
    template_id: int | None
    agent_id: Annotated[str, Field(examples=["agent_7"])] | None
    status: SessionStatus
    failure_code: Annotated[str, Field(examples=["unreachable"])] | None
    livemode: bool
    text_only: bool
    metadata: dict[str, Any] | None
    started_at: ShownMoment | None
    ended_at: ShownMoment | None
    duration_seconds: float | None
    turn_count: int | None
    billed_seconds: int | None
    cost: Annotated[ShownMoney | None, Field(description="In `currency`.")]
    list_cost: Annotated[
        ShownMoney | None, Field(description="What it would have cost, where it costs 0 for a `waivedReason`.")
    ]
    waived_reason: Annotated[str, Field(examples=["own_provider_key"])] | None
    currency: Annotated[str, Field(examples=["USD"])] | None
    unrated_reason: Annotated[str, Field(examples=["duration_missing"])] | None
    rate_card_id: RateCardId | None
    tag: Annotated[str | None, Field(description="Its template's when it began: what cards and budgets may be of.")]
    created_at: ShownMoment
    completed_at: ShownMoment | None
    content_erased_at: ShownMoment | None
    deliveries: Annotated[
        str, Field(description="The path of the list of its deliveries.", examples=["/api/v1/deliveries?sessionId=1"])
    ]


class Erasure(Output):
    """What an erasure did: events whose content was shredded, deliveries that ended for it (`dead`, `erased`), and
    those of which an attempt was under way, which end with it."""

    session_id: int
    shredded: int
    ended: int
    in_flight: int


@group.operation("GET", "/api/v1/sessions", access=Access.READ, query=SessionsQuery, answers={200: Page[Session]})
def list_sessions(call: Call[None, SessionsQuery]) -> Page[Session]:
    """List sessions, the newest first."""
    query = call.query
    with call.services.database.begin() as connection:
        rows = sessions.page(
            connection,
            account_id=call.account_id,
            template_id=query.template_id,
            status=query.status,
            unrated=query.unrated,
            before=cursors.read(query.cursor, tuple[datetime, int]),
            limit=query.limit + 1,
        )
    return page(rows, query, _shown, place=lambda row: (row.created_at, row.id))


@group.operation("GET", _SESSION, access=Access.READ, answers={200: Session})
def get_session(call: Call[None, None], session_id: int) -> Session:
    """Get a session."""
    with call.services.database.begin() as connection:
        return _shown(sessions.get(connection, account_id=call.account_id, session_id=session_id))


@group.operation("DELETE", f"{_SESSION}/content", access=Access.WRITE, answers={200: Erasure}, is_slow=True)
def erase_content(call: Call[None, None], session_id: int) -> Erasure:
    """Shred what is kept of a session's content now.

    All that was accepted before this request goes, whatever waits for it. What was delivered is at its receivers, and
    what the provider keeps is at the provider: it is not fetched again. The charge and the metadata stay. Events that
    come later are relayed as ever; they can be erased by the same request.
    """
    made = call.services
    done = erase(
        made.database,
        made.outbox,
        made.client,
        account_id=call.account_id,
        session_id=session_id,
        actor=call.caller.actor,
    )
    return Erasure(session_id=done.session_id, shredded=done.shredded, ended=done.ended, in_flight=done.in_flight)


def _shown(row: sessions.Session) -> Session:
    return Session.model_validate(shown.session(row))
