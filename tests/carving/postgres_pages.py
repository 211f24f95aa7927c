"""Values in the pages of Postgres tables that a search of the file would miss: compressed, or cut into TOAST chunks.

Layouts: Postgres documentation, "Database Page Layout" and "TOAST"; `varatt.h` for the headers of values.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tests.carving.lz import MOST_BYTES, pglz

PAGE_BYTES = 8192
_HEADER_BYTES = 24
_NORMAL = 1  # a line pointer that points to a row
_TOAST_COLUMNS = 3
_HEADER = struct.Struct("<II")
# A length of less than 2**14 with the mark of a compressed value, then a size below 2**24 with the method pglz, which
# is 0. It looks ahead, because one may begin within what looked like another.
_INLINE = re.compile(b"(?=([" + re.escape(bytes(range(2, 256, 4))) + rb"][\s\S]\x00\x00[\s\S]{3}\x00))")
_CHUNK = struct.Struct("<II")
_SIZE_MASK = 0x3FFF_FFFF
_PGLZ = 0  # the method, in the two bits above the size


@dataclass(frozen=True, slots=True)
class Chunk:
    """One piece of a value that is kept out of line."""

    value_id: int
    number: int
    data: bytes


def inline_values(data: bytes) -> Iterator[bytes]:
    """Every value of up to a page that is compressed in place, wherever it is: `<length and 2><size><pglz>`."""
    for found in _INLINE.finditer(data):
        start = found.start()
        word, size = _HEADER.unpack(found[1])
        length = word >> 2
        if _HEADER.size < length <= PAGE_BYTES and length - _HEADER.size < size and start + length <= len(data):
            value = pglz(data[start + _HEADER.size : start + length], size)
            if value is not None:
                yield value


def rows(page: bytes) -> Iterator[bytes]:
    """Every row of a page, dead ones too, with its header. Nothing for what is no page."""
    lower, upper = struct.unpack_from("<HH", page, 12)
    if not _HEADER_BYTES < lower <= upper <= PAGE_BYTES:
        return
    for at in range(_HEADER_BYTES, lower - 3, 4):
        (pointer,) = struct.unpack_from("<I", page, at)
        offset, flags, length = pointer & 0x7FFF, (pointer >> 15) & 3, pointer >> 17
        if flags == _NORMAL and _HEADER_BYTES <= length <= PAGE_BYTES - offset:
            yield page[offset : offset + length]


def chunk(row: bytes) -> Chunk | None:
    """The chunk that a row of a TOAST table holds: (value id, number, bytes); None for any other row."""
    columns, start = struct.unpack_from("<H", row, 18)[0] & 0x7FF, row[22]
    if columns != _TOAST_COLUMNS or start + 9 > len(row):
        return None
    value_id, number = _CHUNK.unpack_from(row, start)
    first = row[start + 8]
    if first & 1:  # a short header: one byte, and the length in its upper seven bits
        length, begin = (first >> 1) - 1, start + 9
    else:
        if start + 12 > len(row) or first & 3:
            return None
        length, begin = (struct.unpack_from("<I", row, start + 8)[0] >> 2) - 4, start + 12
    is_whole = 0 < length == len(row) - begin
    return Chunk(value_id, number, row[begin:]) if is_whole else None


def joined(chunks: Iterable[Chunk]) -> Iterator[bytes]:
    """The values that these chunks make: as they are, and decompressed if that is what they are."""
    by_value: dict[int, dict[int, bytes]] = {}
    for piece in chunks:
        by_value.setdefault(piece.value_id, {})[piece.number] = piece.data
    for pieces in by_value.values():
        value = b"".join(pieces[number] for number in sorted(pieces))
        yield value
        if len(value) > 4:
            sized = int.from_bytes(value[:4], "little")
            size = sized & _SIZE_MASK
            if sized >> 30 == _PGLZ and len(value) - 4 < size <= MOST_BYTES:
                plain = pglz(value[4:], size)
                if plain is not None:
                    yield plain
