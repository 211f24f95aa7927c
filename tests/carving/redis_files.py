"""Compressed strings in a Redis snapshot (RDB), or in an append-only file that begins with one.

Redis writes a string of more than 20 bytes that LZF makes smaller as `C3 <length> <original length> <LZF>` (Redis,
`rdb.c`). They are found by that mark wherever they are, so that no structure of the file has to be understood.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.carving.lz import MOST_BYTES, lzf

_LZF_MARK = b"\xc3"


def compressed_strings(data: bytes) -> Iterator[bytes]:
    """What every LZF string in this data says."""
    at = data.find(_LZF_MARK)
    while at >= 0:
        found = _string_at(data, at + 1)
        if found is not None:
            yield found
        at = data.find(_LZF_MARK, at + 1)


def _string_at(data: bytes, at: int) -> bytes | None:
    packed, at = _length(data, at)
    size, at = _length(data, at)
    if not 0 < packed < size <= MOST_BYTES or at + packed > len(data):
        return None
    return lzf(data[at : at + packed], size)


def _length(data: bytes, at: int) -> tuple[int, int]:
    """An RDB length and where it ends; 0 if it is none."""
    if at >= len(data):
        return 0, at
    first = data[at]
    if first >> 6 == 0:
        return first & 0x3F, at + 1
    if first >> 6 == 1:
        return int.from_bytes(bytes((first & 0x3F,)) + data[at + 1 : at + 2], "big"), at + 2
    if first == 0x80:
        return int.from_bytes(data[at + 1 : at + 5], "big"), at + 5
    return 0, at + 1
