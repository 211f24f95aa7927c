"""Answers that are tables: as JSON, or as CSV for who asks for that."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from relay.api.core.operations import Answer, Call, Raw

CSV: Final = Raw("text/csv; charset=utf-8")
MOST_ROWS: Final = 1000
NEXT_CURSOR: Final = "Switchhook-Next-Cursor"

Format = Annotated[
    Literal["json", "csv"], Field(description="`csv`, as `Accept: text/csv` does, or `json`, whatever is accepted.")
]
Rows = Annotated[int, Field(ge=1, le=MOST_ROWS, description="At most so many.")]
# A place in a table may hold a tag and more, each of 256 characters of any script.
TableCursor = Annotated[
    str,
    Field(
        min_length=1,
        max_length=4096,
        description=f"`nextCursor` of the page before; with CSV it is in the header `{NEXT_CURSOR}`.",
    ),
]


def wants_csv(call: Call[None, Any], chosen: Format | None) -> bool:
    """Whether a table goes out as CSV: the query says so, or does not say and `Accept` does."""
    return chosen == "csv" if chosen is not None else call.prefers(CSV)


def sheet(table: str, *, name: str, more: str | None = None) -> Answer:
    """A table as a file, with the cursor of what follows."""
    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
    return Answer(table.encode(), 200, headers | ({} if more is None else {NEXT_CURSOR: more}))
