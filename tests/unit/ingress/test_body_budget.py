"""The budget of bodies: usual webhooks ask nobody, large ones take their share as they grow, and give it back."""

from __future__ import annotations

from typing import Any

import pytest

from relay.bodies import AUDIO_LIMIT_BYTES, FREE_BYTES, BodyBudget, read_body
from relay.errors import BodiesFull

MIB = 1024 * 1024
LIMIT = 10 * MIB


class Stream:
    """A body of zeros that comes as asked for, to its end or to where its sender stops."""

    def __init__(self, size: int) -> None:
        self._left = size
        self.taken = 0

    def read(self, size: int = -1, /) -> bytes:
        size = min(size, self._left)
        self._left -= size
        self.taken += size
        return bytes(size)


def environ(stream: Stream, declared: int | None = None) -> dict[str, Any]:
    if declared is None:
        return {"wsgi.input": stream, "HTTP_TRANSFER_ENCODING": "chunked"}
    return {"wsgi.input": stream, "CONTENT_LENGTH": str(declared)}


@pytest.mark.parametrize("is_declared", [True, False])
@pytest.mark.parametrize(
    ("size", "shares"),
    [
        (0, 0),
        (FREE_BYTES - 1, 0),
        (FREE_BYTES, 0),  # as large as a body may be that asks nobody
        (FREE_BYTES + 1, 1),
        (2 * FREE_BYTES, 1),
        (MIB, 3),
        (LIMIT, 39),
    ],
)
def test_a_body_takes_its_share_piece_by_piece(size: int, shares: int, is_declared: bool) -> None:
    """A declared length is a claim: nothing is taken for what has not come."""
    taken: list[int] = []
    stream = Stream(size)
    read_body(environ(stream, size if is_declared else None), limit_bytes=LIMIT, grow=taken.append)
    # Without a length one piece more is asked for, to find the end.
    assert len(taken) in ((shares,) if is_declared else (shares, shares + 1))
    assert size <= FREE_BYTES + sum(taken) <= size + FREE_BYTES + max(taken, default=0)
    assert all(piece <= FREE_BYTES for piece in taken)


def test_nothing_is_read_that_there_is_no_room_for() -> None:
    """The refusal comes before the memory is needed."""
    budget, stream = BodyBudget(2 * FREE_BYTES), Stream(LIMIT)
    with pytest.raises(BodiesFull) as refused, budget.share() as share:
        read_body(environ(stream, LIMIT), limit_bytes=LIMIT, grow=share.grow)
    assert stream.taken == 3 * FREE_BYTES
    assert (refused.value.status, refused.value.code, refused.value.retry_after_seconds) == (503, "bodies_full", 5)


def test_a_recording_takes_its_share_too() -> None:
    """Its limit is higher, not its right to memory."""
    taken: list[int] = []
    head = b'{"type":"post_call_audio","x":"'

    class Recording(Stream):
        def read(self, size: int = -1, /) -> bytes:
            zeros = super().read(size)
            return head + zeros[len(head) :] if self.taken == len(zeros) else zeros

    body = read_body(environ(Recording(AUDIO_LIMIT_BYTES)), limit_bytes=LIMIT, audio=True, grow=taken.append)
    assert len(body) == AUDIO_LIMIT_BYTES
    assert sum(taken) >= AUDIO_LIMIT_BYTES - FREE_BYTES


def test_a_share_is_given_back_however_its_request_ends() -> None:
    """And another body may have it."""
    budget = BodyBudget(100)
    for error in (None, BodiesFull, KeyError):
        try:
            with budget.share() as share:
                share.grow(60)
                share.grow(40)
                if error is not None:
                    raise error
        except (BodiesFull, KeyError):
            pass
    with budget.share() as share:
        share.grow(100)
        with pytest.raises(BodiesFull):
            share.grow(1)
    with budget.share() as whole:
        whole.grow(100)
