"""Lists a page at a time: `{"data": [...], "nextCursor": ...}`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Generic, Protocol, TypeVar

from pydantic import Field

from relay.api.core import cursors
from relay.api.core.models import Output, Query
from relay.store.pages import Place

ItemT = TypeVar("ItemT")
MOST: Final = 100
USUAL: Final = 50

Limit = Annotated[int, Field(ge=1, le=MOST, description="At most so many.")]
Cursor = Annotated[str, Field(min_length=1, max_length=512, description="`nextCursor` of the page before.")]


class PageQuery(Query):
    """Which part of a list."""

    limit: Limit = USUAL
    cursor: Cursor | None = None

    @property
    def enough(self) -> int:
        """How many rows to read: one more tells whether there is another page."""
        return self.limit + 1

    @property
    def after(self) -> Place | None:
        """Where the page begins. Raises BadRequest for a cursor that is none."""
        return cursors.read(self.cursor, Place)


class Page(Output, Generic[ItemT]):
    """A part of a list; `nextCursor` is null on the last one."""

    data: list[ItemT]
    next_cursor: str | None


class Row(Protocol):
    """What is listed in the order in which it was made."""

    @property
    def id(self) -> str:
        """Unique."""

    @property
    def created_at(self) -> datetime:
        """When it was made."""


class Limited(Protocol):
    """A query that says how many are wanted."""

    @property
    def limit(self) -> int:
        """At most so many."""


RowT = TypeVar("RowT")


def made(row: Row) -> Place:
    """The place of what is listed in the order in which it was made."""
    return Place(row.created_at, row.id)


def page(
    rows: Sequence[RowT], query: Limited, show: Callable[[RowT], ItemT], *, place: Callable[[Any], Any] = made
) -> Page[ItemT]:
    """A page of these rows, of which one more was read than is shown. `place` is a row's place in its list."""
    listed, more = cut(rows, query, place=place)
    return Page(data=[show(row) for row in listed], next_cursor=more)


def cut(rows: Sequence[RowT], query: Limited, *, place: Callable[[RowT], Any]) -> tuple[Sequence[RowT], str | None]:
    """The rows that are shown, and the cursor of what follows, if there is more."""
    listed = rows[: query.limit]
    return listed, cursors.written(place(listed[-1])) if len(rows) > len(listed) else None
