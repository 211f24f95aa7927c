"""What accounts are to be told by Switchhook itself: written in the transaction of the fact, sent after it.

Each becomes an event for the account's operations endpoints, `switchhook.` and its kind. Its id follows from what it is
about, so that it is one event however often somebody dies before it is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.postgresql import insert

from relay.calls import SWITCHHOOK, event_id
from relay.store.tables import notices


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to tell. `id` is the event's, `subject` the id of what it is about, `body` its JSON."""

    id: str
    account_id: str
    kind: str
    subject: str
    body: str
    at: datetime
    due_at: datetime


def add(
    connection: Connection,
    *,
    account_id: str,
    kind: str,
    subject: str,
    body: Mapping[str, Any],
    key: str | None = None,
) -> str:
    """Have an account told, once this transaction is committed; the event's id. The same again is told once.

    `kind` is without the provider: `budget.alert`. `subject` names what it is about; `key` (else the subject) tells it
    from other notices of its kind. `body` gets the `type` and `livemode` that every event of ours has.
    """
    identity = event_id(account_id, SWITCHHOOK, kind, (key or subject,))
    told = {"type": f"{SWITCHHOOK}.{kind}", "livemode": True, **body}
    row = {
        "id": identity,
        "account_id": account_id,
        "kind": kind,
        "subject": subject,
        "body": msgspec.json.encode(told).decode(),
    }
    connection.execute(insert(notices).values(row).on_conflict_do_nothing())
    return identity


def statement_closed(
    connection: Connection,
    *,
    account_id: str,
    number: str,
    month: date,
    total: str,
    currency: str | None,
    sha256: str,
) -> str:
    """Have an account told that a month's statement is closed, in the transaction that closes it; the event's id."""
    body = {
        "number": number,
        "month": f"{month:%Y-%m}",
        "total": total,
        "currency": currency,
        "sha256": sha256,
    }
    return add(connection, account_id=account_id, kind="statement.closed", subject=number, body=body)


def due(connection: Connection, *, limit: int) -> list[Notice]:
    """Those that are to be sent by now, the longest due first."""
    found = select(notices).where(notices.c.due_at <= func.now()).order_by(notices.c.due_at, notices.c.id).limit(limit)
    return [Notice(**row) for row in connection.execute(found).mappings()]


def sent(connection: Connection, notice_id: str) -> None:
    """Forget one that is in the outbox."""
    connection.execute(notices.delete().where(notices.c.id == notice_id))


def postpone(connection: Connection, notice_id: str, *, by: timedelta) -> None:
    """Have one tried again later whose account cannot be told now."""
    connection.execute(notices.update().where(notices.c.id == notice_id).values(due_at=func.now() + by))
