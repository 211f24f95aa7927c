"""Until when the last signed URL of a session opens its conversation, by Postgres' clock.

A session that does not say so was given its first one when it was made.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, func, select

from relay.store.tables import sessions

# A signed URL of ElevenLabs opens one conversation within this time (ElevenLabs docs, "Signed URLs").
LIFETIME: Final = timedelta(minutes=15)
_UNTIL: Final = func.coalesce(sessions.c.url_expires_at, sessions.c.created_at + LIFETIME)
# That of the statement: a transaction may have waited for another that took the same.
_NOW: Final = func.clock_timestamp()


class Lasting(NamedTuple):
    """A URL that still opens its conversation: until when, and for how many seconds more."""

    until: datetime
    seconds: float


def take(connection: Connection, *, account_id: str, session_id: int) -> datetime | Lasting:
    """Have the next URL of a session be the caller's, from now on: when it expires, or the one that has not yet.

    Of two that come at once the later waits for the earlier one's transaction, and finds its URL.
    """
    this = _this(account_id, session_id)
    next_one = sessions.update().where(*this, _UNTIL <= _NOW).values(url_expires_at=_NOW + LIFETIME)
    taken: datetime | None = connection.execute(next_one.returning(sessions.c.url_expires_at)).scalar_one_or_none()
    if taken is not None:
        return taken
    left = func.extract("epoch", _UNTIL - _NOW)
    row = connection.execute(select(_UNTIL, left).where(*this)).one()
    return Lasting(row[0], float(row[1]))


def given(connection: Connection, *, account_id: str, session_id: int) -> None:
    """Note that a provider has just made a URL: it lasts from now on."""
    connection.execute(sessions.update().where(*_this(account_id, session_id)).values(url_expires_at=_NOW + LIFETIME))


def give_back(connection: Connection, *, account_id: str, session_id: int, taken: datetime) -> None:
    """There is no URL after all: the next one is to be had at once. What somebody else took since then stays taken."""
    this = (*_this(account_id, session_id), sessions.c.url_expires_at == taken)
    connection.execute(sessions.update().where(*this).values(url_expires_at=_NOW))


def _this(account_id: str, session_id: int) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return sessions.c.account_id == account_id, sessions.c.id == session_id
