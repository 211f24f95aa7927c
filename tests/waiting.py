"""Waiting for what another process does: asked again and again until it is so, never slept for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

_POLL_SECONDS: Final = 0.02


def eventually(probe: Callable[[], T], *, within_seconds: float, what: str) -> T:
    """The first true answer of `probe`. Raises AssertionError, saying what was waited for, when none comes in time."""
    deadline = time.monotonic() + within_seconds
    while True:
        # The clock is read first, so that a probe that blocks past the deadline is still the last one.
        is_last = time.monotonic() > deadline
        answer = probe()
        if answer:
            return answer
        if is_last:
            raise AssertionError(f"{what}: not within {within_seconds:g} s, the last answer was {answer!r}")
        time.sleep(_POLL_SECONDS)
