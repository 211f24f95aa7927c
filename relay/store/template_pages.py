"""Listing templates: a page ends at a number of them, and sooner when they are large."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Final, NamedTuple

from sqlalchemy import Connection, Text, cast, func, select

from relay.sealing import KeyRing
from relay.store.tables import templates
from relay.store.templates import Template, of_ids

# Of configs: a hundred of usual size, and nothing that a client or this process would choke on.
PAGE_BYTES: Final = 2 * 1024 * 1024


class TemplatePage(NamedTuple):
    """A part of a list; `more_after` is the id of its last template if others follow."""

    rows: list[Template]
    more_after: int | None


def page(
    connection: Connection,
    ring: KeyRing,
    *,
    account_id: str,
    after: int | None = None,
    limit: int = 100,
    most_bytes: int = PAGE_BYTES,
) -> TemplatePage:
    """Templates of an account that are neither deleted nor hidden, in the order they were made.

    At most `limit`, and fewer if their configs come to `most_bytes` before, but one at least.
    """
    mine = (templates.c.account_id == account_id, templates.c.deleted_at.is_(None), templates.c.hidden.is_(False))
    size = func.octet_length(cast(templates.c.config, Text))
    sized = select(templates.c.id, size).where(*mine).order_by(templates.c.id).limit(limit + 1)
    if after is not None:
        sized = sized.where(templates.c.id > after)
    there = [(int(row[0]), int(row[1])) for row in connection.execute(sized)]
    ids = fitting(there[:limit], most_bytes=most_bytes)
    rows = of_ids(connection, ring, account_id=account_id, ids=ids)
    return TemplatePage(rows, ids[-1] if len(there) > len(ids) else None)


def fitting(sized: Sequence[tuple[int, int]], *, most_bytes: int) -> list[int]:
    """The ids of the first of these `(id, size)` until they come to so many bytes. Pure."""
    before = accumulate((size for _, size in sized), initial=0)
    return [id_ for (id_, _), size in zip(sized, before, strict=False) if size < most_bytes]
