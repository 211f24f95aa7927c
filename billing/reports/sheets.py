"""CSV (RFC 4180) that a spreadsheet shows and never runs. Pure.

Texts may come from providers and customers: one that begins like a formula has an apostrophe put before it (OWASP,
"CSV Injection"). Numbers are written as numbers, and a negative one stays one.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final

Cell = str | int | Decimal | None

_RUN: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


def written(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """A header and a line for each row, each ended by CRLF; None is an empty cell."""
    file = io.StringIO()
    sheet = csv.writer(file, lineterminator="\r\n")
    sheet.writerow(columns)
    sheet.writerows([_cell(cell) for cell in row] for row in rows)
    return file.getvalue()


def _cell(cell: Cell) -> str:
    match cell:
        case None:
            return ""
        case str():
            # Blanks before it are no help: some programs pass over them.
            return f"'{cell}" if cell.startswith(_RUN) or cell.lstrip().startswith(_RUN) else cell
        case Decimal():
            return format(cell, "f")
        case int():
            return str(cell)
