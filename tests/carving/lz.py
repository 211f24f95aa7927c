"""The two compressions of the servers: LZF (Redis) and pglz (Postgres). Written from their formats; decoding only.

Both are byte-wise: literals and references to what was written before. A text of more than a few characters is cut up
by control bytes or replaced by references, so that no search finds it in the compressed bytes.
"""

from __future__ import annotations

# More than any value of these tests; a damaged length must not make gigabytes.
MOST_BYTES = 32 * 1024 * 1024

_LZF_LITERALS = 32
_PGLZ_LONG = 18


def lzf(data: bytes, size: int) -> bytes | None:
    """The `size` bytes that this is the LZF of, or None if it is not (LibLZF, `lzf_decompress`)."""
    out = bytearray()
    at, end = 0, len(data)
    try:
        while at < end and len(out) < size:
            control = data[at]
            at += 1
            if control < _LZF_LITERALS:
                out += data[at : at + control + 1]
                at += control + 1
                continue
            length = control >> 5
            if length == 7:
                length += data[at]
                at += 1
            distance = ((control & 0x1F) << 8) + data[at] + 1
            at += 1
            if not _copy(out, distance, length + 2):
                return None
    except IndexError:
        return None
    return bytes(out) if at == end and len(out) == size else None


def pglz(data: bytes, size: int) -> bytes | None:
    """The `size` bytes that this is the pglz of, or None if it is not (Postgres, `pg_lzcompress.c`)."""
    out = bytearray()
    at, end = 0, len(data)
    try:
        while at < end and len(out) < size:
            control = data[at]
            at += 1
            for _ in range(8):
                if at >= end or len(out) >= size:
                    break
                if control & 1:
                    length = (data[at] & 0x0F) + 3
                    distance = ((data[at] & 0xF0) << 4) | data[at + 1]
                    at += 2
                    if length == _PGLZ_LONG:
                        length += data[at]
                        at += 1
                    if not _copy(out, distance, min(length, size - len(out))):
                        return None
                else:
                    out.append(data[at])
                    at += 1
                control >>= 1
    except IndexError:
        return None
    return bytes(out) if at == end and len(out) == size else None


def _copy(out: bytearray, distance: int, length: int) -> bool:
    """Append what stands `distance` back. What it appends may be part of what it copies."""
    start = len(out) - distance
    if distance == 0 or start < 0:
        return False
    if distance >= length:
        out += out[start : start + length]
    else:
        out += (out[start:] * (length // distance + 1))[:length]
    return True
