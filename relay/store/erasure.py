"""That the content of a session was erased on request: from then on it must not be fetched again."""

from __future__ import annotations

from sqlalchemy import Connection, func, or_, select

from relay.store.events import PastEvent
from relay.store.sessions import Session, get
from relay.store.tables import sessions


def mark(connection: Connection, *, account_id: str, session_id: int) -> Session:
    """Remember it, in place of an earlier time. Whoever holds the session (`may_return`) is waited for.

    Raises NotFound, also for a session of another account.
    """
    this = (sessions.c.account_id == account_id) & (sessions.c.id == session_id)
    connection.execute(sessions.update().where(this).values(content_erased_at=func.now()))
    return get(connection, account_id=account_id, session_id=session_id)


def may_return(connection: Connection, event: PastEvent) -> bool | None:
    """Whether content of an event may be put back; it stays so until this transaction ends. None: no session is known.

    The session is the one that the event names, and the one of its conversation.
    """
    named = sessions.c.id == event.session_id
    meant = (sessions.c.conversation_id == event.conversation_id) & (sessions.c.provider == event.provider)
    found = select(sessions.c.content_erased_at).where(sessions.c.account_id == event.account_id, or_(named, meant))
    erased = connection.execute(found.with_for_update(read=True)).scalars().all()
    return not any(erased) if erased else None
