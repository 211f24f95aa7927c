"""A file behind HTTP ranges, read as a parser reads it."""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import pytest

from relay.content import Content
from relay.recordings.fetch import Part, Span
from relay.recordings.ranges import BLOCK_BYTES, Recording
from relay.recordings.unmeasured import Unmeasured

NOTHING = Part(Content(b""), is_whole=False)


class Served:
    """A file, and the answers of a server to its ranges; None is the whole file."""

    def __init__(self, size: int, *, answers_ranges: bool = True) -> None:
        self.file = os.urandom(size)
        self.answers_ranges = answers_ranges
        self.asked: list[Span | None] = []

    def get(self, span: Span | None, *, grow: Callable[[int], None]) -> Part:
        self.asked.append(span)
        if span is None or not self.answers_ranges:
            grow(len(self.file))
            return Part(Content(self.file), is_whole=True)
        piece = self.file[span.first : span.last + 1]
        return Part(Content(piece), is_whole=False, span=span, total=len(self.file))


def read(recording: Recording, offset: int, size: int) -> bytes:
    return recording.read(offset, size).reveal()


@pytest.mark.parametrize("answers_ranges", [True, False])
@pytest.mark.parametrize("size", [1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 5 * BLOCK_BYTES + 7])
def test_reads_what_the_file_holds(size: int, answers_ranges: bool) -> None:
    """At any place, over the edges of blocks, and not past the end."""
    served = Served(size, answers_ranges=answers_ranges)
    recording = Recording(served, most_bytes=1 << 30)
    assert recording.size == size
    chance = random.Random(1)
    places = [chance.randrange(size) for _ in range(50)] + [0, size - 1, size, size + 9, BLOCK_BYTES - 3]
    for offset in places:
        length = chance.choice((0, 1, 8, 65_536, BLOCK_BYTES))
        assert read(recording, offset, length) == served.file[offset : offset + length]


def test_reading_on_fetches_ever_longer_runs() -> None:
    """100 blocks in order take a tenth as many requests; every byte is fetched once."""
    served = Served(100 * BLOCK_BYTES)
    recording = Recording(served, most_bytes=1 << 30)
    for offset in range(0, recording.size, 65_536):
        read(recording, offset, 65_536)
    spans = [span for span in served.asked if span is not None]
    assert len(spans) == 10
    assert sum(span.last - span.first + 1 for span in spans) == len(served.file)


def test_what_was_read_just_now_is_not_fetched_again() -> None:
    """Parsers go back and forth."""
    served = Served(20 * BLOCK_BYTES)
    recording = Recording(served, most_bytes=1 << 30)
    for offset in (0, 10 * BLOCK_BYTES, 0, 10 * BLOCK_BYTES + 5, 100):
        read(recording, offset, 10)
    assert len(served.asked) == 2


def test_only_so_many_blocks_are_kept() -> None:
    """Memory does not follow the file's size."""
    served = Served(200 * BLOCK_BYTES)
    recording = Recording(served, most_bytes=1 << 30)
    for offset in range(0, recording.size, BLOCK_BYTES):
        read(recording, offset, 1)
        assert sum(len(block) for block in recording._blocks.values()) <= 8 * 1024 * 1024


def test_fetches_at_most_so_much() -> None:
    """Of a large file as much as it takes, but no more."""
    served = Served(100 * BLOCK_BYTES)
    recording = Recording(served, most_bytes=10 * BLOCK_BYTES)

    def read_all() -> None:
        for offset in range(0, recording.size, BLOCK_BYTES):
            read(recording, offset, 1)

    with pytest.raises(Unmeasured) as refusal:
        read_all()
    assert (refusal.value.code, refusal.value.permanent) == ("too_large", True)


@pytest.mark.parametrize(("most_blocks", "is_whole"), [(1000, True), (300, False)])
def test_a_parser_that_seeks_without_end_gets_the_whole_file_or_none(most_blocks: int, is_whole: bool) -> None:
    """After 200 requests; one that may not be fetched whole is too large."""
    served = Served(420 * BLOCK_BYTES)
    recording = Recording(served, most_bytes=most_blocks * BLOCK_BYTES)

    def seek_about() -> None:
        for number in range(0, 420, 2):
            assert (
                read(recording, number * BLOCK_BYTES, 4) == served.file[number * BLOCK_BYTES : number * BLOCK_BYTES + 4]
            )

    if is_whole:
        seek_about()
        assert (len(served.asked), served.asked[-1]) == (201, None)
    else:
        with pytest.raises(Unmeasured, match="could not be measured"):
            seek_about()


def test_a_whole_file_asks_for_its_memory() -> None:
    """What is kept of it is told before."""
    granted: list[int] = []
    Recording(Served(1000, answers_ranges=False), most_bytes=1 << 20, grow=granted.append)
    assert granted == [1000]
