"""Numbers of documents: one after the other in each series, without gaps."""

from __future__ import annotations

from typing import Final, Literal

from sqlalchemy import Connection, text

# The row stays locked until the document's transaction ends: whoever is refused gives its number back.
_NEXT: Final = text("""
    INSERT INTO document_numbers AS d (series, last) VALUES (:series, 1)
    ON CONFLICT (series) DO UPDATE SET last = d.last + 1 RETURNING last
""")


def next_number(connection: Connection, kind: Literal["S", "CN"], *, year: int) -> str:
    """The next number of a year's statements (`S-2026-000001`) or credit notes (`CN-2026-000001`).

    Take it last in a transaction: until that ends, all who want a number of this series wait.
    """
    series = f"{kind}-{year:04d}"
    last: int = connection.execute(_NEXT, {"series": series}).scalar_one()
    return f"{series}-{last:06d}"
