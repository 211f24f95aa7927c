"""The audit trail: every change of a key, secret, endpoint, template, card, every replay and erasure. It only grows."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, select

from relay.store.tables import audit

# The actor of what happens by itself.
UPKEEP: Final = "upkeep"


class AuditRow(msgspec.Struct, frozen=True, kw_only=True):
    """One change. Digests are SHA-256 of the object as the API shows it; None where there was or is none."""

    id: int
    account_id: str
    at: datetime
    actor: str
    action: str
    object_id: str
    before_sha256: bytes | None
    after_sha256: bytes | None


def record(
    connection: Connection,
    *,
    account_id: str,
    actor: str,
    action: str,
    object_id: str | int,
    before: Any = None,
    after: Any = None,
) -> None:
    """Note a change in the transaction that makes it. `before` and `after` are what the API shows of the object."""
    row = {
        "account_id": account_id,
        "actor": actor,
        "action": action,
        "object_id": str(object_id),
        "before_sha256": _digest(before),
        "after_sha256": _digest(after),
    }
    connection.execute(audit.insert().values(row))


def page(
    connection: Connection,
    *,
    account_id: str | None = None,
    action: str | None = None,
    object_id: str | None = None,
    since: datetime | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[AuditRow]:
    """The newest first; `before` is the id of the last one seen, `since` the earliest moment."""
    newest = select(audit).order_by(audit.c.id.desc()).limit(limit)
    for column, wanted in ((audit.c.account_id, account_id), (audit.c.action, action), (audit.c.object_id, object_id)):
        if wanted is not None:
            newest = newest.where(column == wanted)
    if since is not None:
        newest = newest.where(audit.c.at >= since)
    if before is not None:
        newest = newest.where(audit.c.id < before)
    return [AuditRow(**row) for row in connection.execute(newest).mappings()]


def _digest(shown: Any) -> bytes | None:
    if shown is None:
        return None
    # Sorted, so that the same object always has the same digest.
    return hashlib.sha256(msgspec.json.encode(shown, order="deterministic")).digest()
