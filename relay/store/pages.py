"""Reading long lists a page at a time, in the order in which their rows were made."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Select, Table, tuple_


class Place(NamedTuple):
    """The last row of a page: the next one begins behind it, whatever was made or deleted meanwhile."""

    created_at: datetime
    id: str


def following(rows: Select[Any], table: Table, *, after: Place | None, limit: int | None) -> Select[Any]:
    """The rows behind a place, at most so many, oldest first."""
    ordered = rows.order_by(table.c.created_at, table.c.id).limit(limit)
    return ordered if after is None else ordered.where(tuple_(table.c.created_at, table.c.id) > after)
