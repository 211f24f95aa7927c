"""Conversations that were created without a template: a session, and a hidden template of its own behind it.

Both have the same life: what is said of one is said of the other, and the template serves no second session. There may
be thousands a day, so they are no part of the account's configuration: changing one does not raise its version.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, exists, func, select

from relay.errors import NotFound
from relay.store import sessions as session_rows
from relay.store.sessions import AWAITED, Session
from relay.store.tables import sessions, templates

# Where the agents of conversations are made.
PROVIDER: Final = "elevenlabs"
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


class ConversationTemplate(msgspec.Struct, frozen=True, kw_only=True):
    """The template behind a conversation, as the hot path needs it: ids and a name of ours, nothing secret.

    Whatever its agent says belongs to `session_id`.
    """

    id: int
    name: str
    agent_id: str
    session_id: int

    @property
    def retired(self) -> bool:
        """It serves its own session as long as that is awaited, also after it was deleted."""
        return False


class Owned(NamedTuple):
    """A template behind a conversation, and whose it is."""

    account_id: str
    template: ConversationTemplate


def public_id(session_id: int) -> str:
    """A conversation's id: `conv_` and the number of its session, by which deliveries and charges name it."""
    return f"conv_{session_id}"


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
    connection.execute(waiting.values(status="abandoned", completed_at=func.now(), reserved=None))


def retire(connection: Connection, *, account_id: str, template_id: int) -> bool:
    """Take the template behind a conversation out of service; False if somebody has done so already."""
    this = (templates.c.account_id == account_id, templates.c.id == template_id)
    live = templates.update().where(*this, templates.c.hidden, templates.c.deleted_at.is_(None))
    return bool(connection.execute(live.values(deleted_at=func.now())).rowcount)


def is_one(connection: Connection, *, account_id: str, template_id: int) -> bool:
    """Whether a template stands behind a conversation."""
    this = (templates.c.account_id == account_id, templates.c.id == template_id)
    return connection.execute(select(templates.c.hidden).where(*this)).scalar_one_or_none() is True


def awaited(connection: Connection, *, agent_id: str | None = None) -> list[Owned]:
    """The templates behind conversations whose events may still come: of one agent, or all."""
    columns = ("id", "name", "agent_id", "session_id")
    is_awaited = templates.c.deleted_at.is_(None) | (templates.c.deleted_at > func.now() - AWAITED)
    found = select(templates.c.account_id, *(templates.c[name] for name in columns)).where(
        templates.c.hidden, templates.c.session_id.is_not(None), is_awaited
    )
    if agent_id is None:
        found = found.where(templates.c.agent_id.is_not(None))
    else:
        found = found.where(templates.c.agent_id == agent_id)
    rows = connection.execute(found).mappings()
    return [Owned(row["account_id"], ConversationTemplate(**{name: row[name] for name in columns})) for row in rows]


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
