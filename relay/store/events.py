"""Accepted events as they are remembered: enough to make a delivery of one again, without its content."""

from __future__ import annotations

from datetime import datetime

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, or_, select

from relay.calls import EventClass
from relay.store.sessions import Session
from relay.store.tables import events, templates


class PastEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event. `template_name` is what its template is called now."""

    id: str
    account_id: str
    provider: str
    kind: str
    event_class: EventClass
    conversation_id: str
    session_id: int
    source_id: str | None
    template_id: int | None
    template_name: str | None
    livemode: bool
    accepted_at: datetime


class EventOfSession(msgspec.Struct, frozen=True, kw_only=True):
    """An event's id, and when it was accepted."""

    id: str
    accepted_at: datetime


def get(connection: Connection, *, account_id: str, event_id: str) -> PastEvent | None:
    """An event of the account; None once its record is gone."""
    named = and_(templates.c.id == events.c.template_id, templates.c.account_id == events.c.account_id)
    facts = [events.c[name] for name in PastEvent.__struct_fields__ if name != "template_name"]
    found = select(*facts, templates.c.name.label("template_name")).select_from(events.outerjoin(templates, named))
    row = connection.execute(found.where(events.c.account_id == account_id, events.c.id == event_id)).mappings().first()
    return None if row is None else PastEvent(**row)


def of_session(
    connection: Connection, session: Session, *, after: str | None = None, limit: int = 100
) -> list[EventOfSession]:
    """All events of a session by their ids, from behind `after` on.

    Those that named it, and those of its conversation: what did not name it went under an id of its own.
    """
    belongs: ColumnElement[bool] = events.c.session_id == session.id
    if session.conversation_id is not None:
        meant = (events.c.conversation_id == session.conversation_id) & (events.c.provider == session.provider)
        belongs = or_(belongs, meant)
    found = select(events.c.id, events.c.accepted_at).where(events.c.account_id == session.account_id, belongs)
    if after is not None:
        found = found.where(events.c.id > after)
    return [EventOfSession(**row) for row in connection.execute(found.order_by(events.c.id).limit(limit)).mappings()]
