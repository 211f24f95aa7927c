"""The write-ahead log of Postgres: its records, without the page headers that cut them, and the pages in them.

Layouts: `xlogrecord.h` and `xlog_internal.h` of Postgres 15 to 18.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from tests.carving.lz import pglz
from tests.carving.postgres_pages import PAGE_BYTES

_PAGE_HEADER = struct.Struct("<HHIQI")
_SHORT_BYTES = 24
_LONG_BYTES = 40
_HAS_LONG_HEADER = 0x0002
_RECORD_BYTES = 24
_MOST_RECORD_BYTES = 1 << 26

_MAIN_SHORT, _MAIN_LONG, _ORIGIN, _TOP_LEVEL = 255, 254, 253, 252
_MOST_BLOCKS = 32
_HAS_IMAGE, _SAME_RELATION = 0x10, 0x80
_HAS_HOLE, _IS_PGLZ, _IS_COMPRESSED = 0x01, 0x04, 0x1C


@dataclass(frozen=True, slots=True)
class Image:
    """A page that the log holds: `hole` zero bytes, left out at `hole_at`, are put back by `page`."""

    data: bytes
    hole_at: int
    hole: int
    is_pglz: bool

    def page(self) -> bytes | None:
        """The page; None if it cannot be decompressed."""
        whole = pglz(self.data, PAGE_BYTES - self.hole) if self.is_pglz else self.data
        return None if whole is None else whole[: self.hole_at] + bytes(self.hole) + whole[self.hole_at :]


def stitched(log: bytes) -> tuple[bytes, list[int]]:
    """The log without its page headers, and where in it a record begins after each of them."""
    bodies: list[bytes] = []
    entries: list[int] = []
    size = 0
    for start in range(0, len(log) - PAGE_BYTES + 1, PAGE_BYTES):
        magic, info, _, _, remaining = _PAGE_HEADER.unpack_from(log, start)
        if not magic:
            continue
        header = _LONG_BYTES if info & _HAS_LONG_HEADER else _SHORT_BYTES
        entries.append(size + _aligned(remaining))
        bodies.append(log[start + header : start + PAGE_BYTES])
        size += PAGE_BYTES - header
    return b"".join(bodies), entries


def records(log: bytes) -> Iterator[bytes]:
    """Every whole record, also those of an older log behind the end of the present one."""
    stream, entries = stitched(log)
    entries = sorted(set(entries))
    at = entries[0] if entries else len(stream)
    while at + _RECORD_BYTES <= len(stream):
        length = int.from_bytes(stream[at : at + 4], "little")
        if _RECORD_BYTES <= length <= min(_MOST_RECORD_BYTES, len(stream) - at):
            yield stream[at : at + length]
            at += _aligned(length)
        else:
            following = bisect_right(entries, at)
            at = entries[following] if following < len(entries) else len(stream)


def images(record: bytes) -> Iterator[Image]:
    """The pages in a record. Nothing for what cannot be understood."""
    try:
        yield from _images(record)
    except (struct.error, IndexError):
        return


def _images(record: bytes) -> Iterator[Image]:
    found: list[tuple[int, int, int, int, int]] = []
    at, data_bytes = _RECORD_BYTES, 0
    while at + data_bytes < len(record):
        block = record[at]
        at += 1
        if block in (_MAIN_SHORT, _MAIN_LONG):
            at += 1 if block == _MAIN_SHORT else 4
            break
        if block in (_ORIGIN, _TOP_LEVEL):
            at += 2 if block == _ORIGIN else 4
            continue
        if block > _MOST_BLOCKS:
            return
        flags, own_bytes = struct.unpack_from("<BH", record, at)
        at += 3
        image_bytes = hole_at = info = hole = 0
        if flags & _HAS_IMAGE:
            image_bytes, hole_at, info = struct.unpack_from("<HHB", record, at)
            at += 5
            if not info & _IS_COMPRESSED:
                hole = PAGE_BYTES - image_bytes
            elif info & _HAS_HOLE:
                (hole,) = struct.unpack_from("<H", record, at)
                at += 2
        at += 4 if flags & _SAME_RELATION else 16
        data_bytes += own_bytes + image_bytes
        found.append((image_bytes, own_bytes, hole_at, hole, info))
    for image_bytes, own_bytes, hole_at, hole, info in found:
        if image_bytes:
            yield Image(record[at : at + image_bytes], hole_at, hole, bool(info & _IS_PGLZ))
        at += image_bytes + own_bytes


def _aligned(length: int) -> int:
    return (length + 7) & ~7
