"""Sessions: conversations that a customer's client starts, and what became of them."""

from __future__ import annotations

from datetime import datetime
from typing import Final, NoReturn

from relay.agents.sessions import Started
from relay.agents.signed_urls import SIGNED_URL_SECONDS
from relay.api.canary.session_models import (
    JoinedAgent,
    NewSession,
    SessionDetail,
    SessionList,
    SessionRead,
    SessionShown,
    SessionsQuery,
    SessionStarted,
)
from relay.api.core import cursors
from relay.api.core.access import Access
from relay.api.core.families import CANARY
from relay.api.core.operations import Call, Group
from relay.api.core.pages import cut
from relay.api.retell_models import ice_servers
from relay.errors import NotFound
from relay.store import sessions

group = Group(CANARY, tag="CanaryLLM: sessions")

_EVERY: Final = "/api/convagents/sessions"
_ONE: Final = f"{_EVERY}/<row:session_id>"


@group.operation(
    "POST",
    _EVERY,
    access=Access.WRITE,
    body=NewSession,
    answers={201: SessionStarted},
    errors=(402, 404, 502),
    is_slow=True,
)
def start_session(call: Call[NewSession, None]) -> SessionStarted:
    """Start a session.

    The answer has what a client needs to join it. It is pending until its provider tells of it. While the provider
    does not have the template's agent yet, this is 503 `AGENT_NOT_READY`.
    """
    body = call.body
    started = call.services.sessions.start(
        account_id=call.account_id,
        template_id=body.template_id,
        metadata=body.metadata,
        text_only=body.text_only,
        channel=None if body.agora is None else body.agora.to_channel(),
    )
    return _started(started)


@group.operation("GET", _EVERY, access=Access.READ, query=SessionsQuery, answers={200: SessionList}, is_wrapped=False)
def list_sessions(call: Call[None, SessionsQuery]) -> SessionList:
    """List sessions, the newest first: metadata only."""
    query = call.query
    with call.services.database.begin() as connection:
        rows = sessions.page(
            connection,
            account_id=call.account_id,
            template_id=query.template_id,
            before=cursors.read(query.cursor, tuple[datetime, int]),
            limit=query.limit + 1,
        )
    listed, more = cut(rows, query, place=lambda row: (row.created_at, row.id))
    return SessionList(data=[SessionDetail.of(row) for row in listed], next_cursor=more)


@group.operation("GET", _ONE, access=Access.READ, answers={200: SessionRead})
def get_session(call: Call[None, None], session_id: int) -> SessionRead:
    """Get a session: its state, its duration and its cost, and nothing that was said."""
    with call.services.database.begin() as connection:
        row = sessions.get(connection, account_id=call.account_id, session_id=session_id)
    return SessionRead(session=SessionDetail.of(row))


@group.operation("GET", f"{_ONE}/audio", access=Access.READ, answers={})
def get_session_audio(call: Call[None, None], session_id: int) -> NoReturn:
    """Always 404: no recording is ever kept."""
    with call.services.database.begin() as connection:
        sessions.get(connection, account_id=call.account_id, session_id=session_id)
    raise NotFound("conversations are not recorded here, and nothing that was said is kept", code="audio_not_kept")


def _started(started: Started) -> SessionStarted:
    agent, web_call = started.agent, started.web_call
    return SessionStarted(
        session=SessionShown.of(started.session),
        signed_url=started.signed_url,
        expires_in=SIGNED_URL_SECONDS,
        dynamic_variables=started.variables,
        text_only=started.session.text_only,
        call_id=None if web_call is None else web_call.call_id,
        access_token=None if web_call is None else web_call.access_token,
        transport=None if web_call is None else web_call.transport,
        ice_servers=None if web_call is None else ice_servers(web_call),
        agent=None if agent is None else JoinedAgent(agent_id=agent.agent_id, status=agent.status),
    )
