"""Conversations that were created without a template: a session, and a hidden template of its own behind it.

Both have the same life: what is said of one is said of the other, and the template serves no second session.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, exists, func, select

from relay.errors import NotFound
from relay.store import sessions as session_rows
from relay.store.sessions import AWAITED, Session
from relay.store.tables import sessions, templates

# For how long a conversation can be read after it was deleted.
READABLE: Final = timedelta(days=30)
# Nobody begins a call with a signed URL of 15 minutes as late as this; a call that is under way needs no agent.
IDLE: Final = timedelta(days=1)
_OF_SESSION: Final = and_(sessions.c.account_id == templates.c.account_id, sessions.c.id == templates.c.session_id)
_IS_READABLE: Final = sessions.c.deleted_at > func.now() - READABLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """One conversation. `config` is its template's; `agent_id` None until the provider has made the agent."""

    session: Session
    template_id: int
    agent_id: str | None
    config: dict[str, Any] = field(repr=False)


def get(connection: Connection, *, account_id: str, session_id: int) -> Conversation:
    """Raises NotFound, also for a session with a template that can be seen, and 30 days after it was deleted."""
    found = (
        select(templates.c.id, templates.c.agent_id, templates.c.config)
        .join(sessions, _OF_SESSION)
        .where(*_this(account_id, session_id), sessions.c.deleted_at.is_(None) | _IS_READABLE)
    )
    template = connection.execute(found).one_or_none()
    if template is None:
        raise NotFound("this account has no conversation by this id")
    session = session_rows.get(connection, account_id=account_id, session_id=session_id)
    return Conversation(session=session, template_id=template.id, agent_id=template.agent_id, config=template.config)


def end(connection: Connection, *, account_id: str, session_id: int) -> None:
    """Mark a conversation as deleted; one whose call never began is abandoned, unless its call turns up after all."""
    session_rows.remove(connection, account_id=account_id, session_id=session_id)
    waiting = sessions.update().where(*_this(account_id, session_id), sessions.c.status == "pending")
    connection.execute(waiting.values(status="abandoned", completed_at=func.now()))


def idle(connection: Connection, *, limit: int) -> list[tuple[str, int]]:
    """Account and template of those whose agents serve nobody any more, at most `limit`.

    Their calls ended a day ago, they never began, or a crash left them without a session.
    """
    is_awaited = sessions.c.status.in_(("pending", "active")) & (sessions.c.created_at > func.now() - AWAITED)
    is_recent = func.coalesce(sessions.c.completed_at, sessions.c.created_at) > func.now() - IDLE
    found = (
        select(templates.c.account_id, templates.c.id)
        .where(templates.c.hidden, templates.c.deleted_at.is_(None), templates.c.created_at < func.now() - IDLE)
        .where(~exists().where(_OF_SESSION, is_awaited | is_recent))
        .order_by(templates.c.id)
        .limit(limit)
    )
    return [(row.account_id, row.id) for row in connection.execute(found)]


def _this(account_id: str, session_id: int) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return sessions.c.account_id == account_id, sessions.c.id == session_id
