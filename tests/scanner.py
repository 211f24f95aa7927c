"""Finding planted strings in everything that is written anywhere, in the encodings that could hide them.

A scan looks for a canary as it is and in UTF-16, and then does the same in all that the data can be decoded to: escapes
of JSON and of programming languages, URL escapes, base64 at any offset, hex, gzip and zlib, one inside the other. What
only the files of Redis and Postgres have (LZF, pglz, TOAST) is taken apart by `tests.carving` before it comes here.
"""

from __future__ import annotations

import re
import zlib
from binascii import a2b_base64, unhexlify
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import unquote_to_bytes

# base64 of gzip of JSON with escapes.
_DEPTH: Final = 3
_MOST_INFLATED: Final = 32 * 1024 * 1024
_FEED_BYTES: Final = 512
_BLOCK_BYTES: Final = 64 * 1024

_TEXT: Final = re.compile(rb"[\x20-\x7e\t\r\n]{12,}")
_ESCAPE: Final = re.compile(rb"((?:\\+u[0-9a-fA-F]{4})+)|((?:\\+x[0-9a-fA-F]{2})+)|\\+([0-3][0-7]{2})|\\+([\x20-\x7e])")
_CONTROLS: Final = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"b": b"\b", b"f": b"\f"}
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/_-]{20,}(?:\r?\n[A-Za-z0-9+/_-]{4,})*")
_LINE_ENDS: Final = b"\r\n"
_STANDARD: Final = bytes.maketrans(b"-_", b"+/")
_HEX: Final = re.compile(rb"[0-9a-fA-F]{24,}")
# gzip's first bytes, or zlib's two: deflate with one of eight windows, then a level that makes it a multiple of 31.
_ZLIB: Final = tuple(
    bytes((method, flags))
    for method in range(0x08, 0x88, 0x10)
    for flags in range(256)
    if (method * 256 + flags) % 31 == 0 and not flags & 0x20
)
_COMPRESSED: Final = re.compile(b"|".join(map(re.escape, (b"\x1f\x8b\x08", *_ZLIB))))
# zlib's own mark for "a gzip or a zlib header, whichever it is".
_ANY_HEADER: Final = 32 + zlib.MAX_WBITS


class Scanner:
    """Looks for canaries, in every spelling. Data that held none is remembered and not looked at twice."""

    def __init__(self, canaries: Iterable[str]) -> None:
        encodings = ("utf-8", "utf-16-le", "utf-16-be")
        self._needles = {canary.encode(encoding): canary for canary in canaries for encoding in encodings}
        self._clean: set[int] = set()
        # What held none when it was looked at last: logs only grow.
        self._before: dict[str, bytes] = {}

    def found_in(self, data: bytes) -> set[str]:
        """The canaries that this holds in some spelling."""
        return self._found(data, _DEPTH)

    def found_in_all(self, places: Iterable[tuple[str, bytes]]) -> set[tuple[str, str]]:
        """Place and canary of everything found. Raises AssertionError if there was nothing to look at."""
        looked, found = 0, set()
        for place, data in places:
            looked += len(data)
            canaries = self.found_in(self._grown(place, data))
            found |= {(place, canary) for canary in canaries}
            if len(data) > _BLOCK_BYTES and not canaries:
                self._before[place] = data
        assert looked, "a scan of nothing proves nothing"
        return found

    def _grown(self, place: str, data: bytes) -> bytes:
        """The end of a place's data, from a block before what is new since it was clean."""
        before = self._before.get(place, b"")
        same = 0
        while same < len(before) and before[same : same + _BLOCK_BYTES] == data[same : same + _BLOCK_BYTES]:
            same += _BLOCK_BYTES
        return data[max(0, same - _BLOCK_BYTES) :]

    def _found(self, data: bytes, depth: int) -> set[str]:
        seen = hash((data, depth))
        if seen in self._clean:
            return set()
        found = {canary for needle, canary in self._needles.items() if needle in data}
        if depth:
            for hidden in filter(None, decoded(data)):
                found |= self._found(hidden, depth - 1)
        if not found:
            self._clean.add(seen)
        return found


def decoded(data: bytes) -> Iterator[bytes]:
    """What the parts of this data say that can be decoded: one piece for each way that is known here."""
    texts = dict.fromkeys(_TEXT.findall(data))
    yield _joined(_ESCAPE.sub(_unescaped, text) for text in texts if b"\\" in text)
    in_urls = [text for text in texts if b"%" in text]
    yield _joined(unquote_to_bytes(text) for text in in_urls)
    yield _joined(unquote_to_bytes(text.replace(b"+", b" ")) for text in in_urls if b"+" in text)
    runs = dict.fromkeys(run.translate(_STANDARD, _LINE_ENDS) for run in _BASE64.findall(data))
    yield _joined(_from_base64(run[at:]) for run in runs for at in range(4))
    digits = dict.fromkeys(_HEX.findall(data))
    yield _joined(unhexlify(run[at : at + (len(run) - at) // 2 * 2]) for run in digits for at in range(2))
    yield _joined(_inflated(data, mark.start()) for mark in _COMPRESSED.finditer(data))


def _joined(pieces: Iterable[bytes]) -> bytes:
    return b"\x00".join(filter(None, pieces))


def _unescaped(escape: re.Match[bytes]) -> bytes:
    utf16, hexadecimal, octal, character = escape.groups()
    if utf16:
        return unhexlify(utf16.translate(None, b"\\u")).decode("utf-16-be", "replace").encode("utf-8", "replace")
    if hexadecimal:
        return unhexlify(hexadecimal.translate(None, b"\\x"))
    if octal:
        return bytes((int(octal, 8),))
    return _CONTROLS.get(character, character)


def _inflated(data: bytes, start: int) -> bytes:
    """What a compressed stream says that begins here, up to where it is cut off or damaged."""
    inflater = zlib.decompressobj(_ANY_HEADER)
    pieces: list[bytes] = []
    at, step, size = start, _FEED_BYTES, 0
    while at < len(data) and size < _MOST_INFLATED and not inflater.eof:
        before = inflater.copy()
        try:
            pieces.append(inflater.decompress(data[at : at + step]))
        except zlib.error:
            if step == 1:
                break
            # What these bytes said before the damage is lost with the error: once more, one by one.
            inflater, step = before, 1
            continue
        size += len(pieces[-1])
        at += step
    return b"".join(pieces)


def _from_base64(run: bytes) -> bytes:
    """What a run of its alphabet says, from its first character on; the last may be half a byte."""
    whole = run if len(run) % 4 != 1 else run[:-1]
    return a2b_base64(whole + b"=" * (-len(whole) % 4))
