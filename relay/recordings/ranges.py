"""A recording as its parser reads it: spans of a file behind HTTP, in memory only.

A server that answers ranges is asked for what the parser reads, in blocks; a run of blocks grows while they are read
in order. One that does not, or answers them wrongly, is asked for the whole file once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

from relay.content import Content
from relay.recordings.fetch import Part, Span
from relay.recordings.unmeasured import TOO_LARGE, TRUNCATED, Unmeasured

BLOCK_BYTES: Final = 256 * 1024
# Blocks of one request at most, and blocks that are kept: 4 MiB and 8 MiB.
_LONGEST_RUN: Final = 16
_MOST_BLOCKS: Final = 32
# A parser that seeks more than this gets the whole file, if it is not too large.
_MOST_REQUESTS: Final = 200


class Source(Protocol):
    """What a recording is read from: `Download`, or a stand-in."""

    def get(self, span: Span | None, *, grow: Callable[[int], None]) -> Part:
        """A span, or the whole file."""
        ...


class Recording:
    """A file of `size` bytes. Every method raises what `Download.get` does."""

    def __init__(self, source: Source, *, most_bytes: int, grow: Callable[[int], None] = lambda _: None) -> None:
        """Begin to fetch. `most_bytes` limits all that is fetched; `grow` is told of what is kept of a whole file."""
        self._source = source
        self._most_bytes = most_bytes
        self._grow = grow
        self._whole: Content | None = None
        self._blocks: OrderedDict[int, Content] = OrderedDict()
        self._run = 1
        self._next_block = 1
        self._requests = self._fetched = 0
        self.size = self._begin()

    def read(self, offset: int, size: int) -> Content:
        """So many bytes, fewer at the end of the file; at most BLOCK_BYTES."""
        last = min(offset + min(size, BLOCK_BYTES), self.size)
        if offset >= last:
            return Content(b"")
        while self._whole is None:
            first_block, last_block = offset // BLOCK_BYTES, (last - 1) // BLOCK_BYTES
            parts = [self._block(number) for number in range(first_block, last_block + 1) if self._whole is None]
            if self._whole is None:
                start = offset - first_block * BLOCK_BYTES
                return Content(b"".join(part.reveal() for part in parts)[start : start + last - offset])
        return Content(self._whole.reveal()[offset:last])

    def _begin(self) -> int:
        part = self._get(Span(0, BLOCK_BYTES - 1))
        if part.is_whole:
            self._whole = part.body
        elif part.span is None:
            self._fetch_whole()
        else:
            self._blocks[0] = part.body
            return part.total
        return len(self._whole or b"")

    def _block(self, number: int) -> Content:
        """One block; empty if the file is there as a whole instead."""
        known = self._blocks.get(number)
        if known is not None:
            self._blocks.move_to_end(number)
            return known
        self._run = min(self._run * 2, _LONGEST_RUN) if number == self._next_block else 1
        self._next_block = number + self._run
        first = number * BLOCK_BYTES
        part = self._get(Span(first, min(first + self._run * BLOCK_BYTES, self.size) - 1))
        if part.is_whole and len(part.body) == self.size:
            self._whole = part.body
        elif part.span is None or part.total != self.size:
            self._fetch_whole()
        if self._whole is not None:
            return Content(b"")
        fetched = part.body.reveal()
        for start in range(0, len(fetched), BLOCK_BYTES):
            self._blocks[number + start // BLOCK_BYTES] = Content(fetched[start : start + BLOCK_BYTES])
        while len(self._blocks) > _MOST_BLOCKS:
            self._blocks.popitem(last=False)
        return self._blocks[number]

    def _get(self, span: Span) -> Part:
        if self._requests >= _MOST_REQUESTS:
            return Part(Content(b""), is_whole=False)
        self._requests += 1
        part = self._source.get(span, grow=self._grow)
        self._fetched += len(part.body)
        if self._fetched > self._most_bytes:
            raise Unmeasured(TOO_LARGE, permanent=True)
        return part

    def _fetch_whole(self) -> None:
        known_size = self.size if self._blocks else None
        if known_size is not None and known_size > self._most_bytes:
            raise Unmeasured(TOO_LARGE, permanent=True)
        part = self._source.get(None, grow=self._grow)
        if not part.is_whole or known_size not in (None, len(part.body)):
            # It answers a part of what nobody asked for a part of, or the file has changed.
            raise Unmeasured(TRUNCATED, permanent=False)
        self._whole = part.body
        self._blocks.clear()
