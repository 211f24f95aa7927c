"""Whether what configuration rows keep sealed opens with the key ring in use."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from sqlalchemy import Column, Connection, Table, select

from relay.sealing import KeyRing, UnsealError
from relay.store import sealed
from relay.store.tables import endpoints, sources, templates

_SEALED: Final[tuple[tuple[Table, Column[Any], bytes], ...]] = (
    (sources, sources.c.sealed_secrets, sealed.SOURCE),
    (endpoints, endpoints.c.sealed_config, sealed.ENDPOINT),
    (templates, templates.c.sealed_secret, sealed.TEMPLATE),
)


class Sample(NamedTuple):
    """How many rows were tried, and how many of them did not open."""

    tried: int
    closed: int


def sample(connection: Connection, ring: KeyRing, *, most: int) -> Sample:
    """Try the oldest and the newest rows of each kind, at most so many of either: a key goes missing at one end."""
    tried = closed = 0
    for table, column, purpose in _SEALED:
        ends = (table.c.created_at, table.c.created_at.desc())
        rows = {
            row.id: row.sealed
            for order in ends
            for row in connection.execute(select(table.c.id, column.label("sealed")).order_by(order).limit(most))
        }
        tried += len(rows)
        closed += sum(not _opens(ring, value, purpose=purpose, row_id=row_id) for row_id, value in rows.items())
    return Sample(tried, closed)


def _opens(ring: KeyRing, value: bytes, *, purpose: bytes, row_id: str | int) -> bool:
    try:
        ring.open(bytes(value), purpose=purpose, aad=str(row_id).encode())
    except UnsealError:
        return False
    return True
