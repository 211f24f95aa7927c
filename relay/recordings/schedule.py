"""When a recording is tried again: a schedule of its own, shorter than that of deliveries. Pure.

Recorders publish a file moments after the call, and the addresses that they sign live for an hour or so.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from relay.delivery.retry import JITTER_SHARE

# The waits after the first, second, ... failure.
SCHEDULE: Final = (
    timedelta(seconds=5),
    timedelta(seconds=30),
    timedelta(minutes=2),
    timedelta(minutes=10),
    timedelta(minutes=30),
)


def wait_ms(attempts: int, *, jitter: float) -> int | None:
    """How long to wait after so many failed attempts; None if they were enough. `jitter` lies from -1 to 1."""
    if attempts > len(SCHEDULE):
        return None
    return round(SCHEDULE[attempts - 1] / timedelta(milliseconds=1) * (1 + JITTER_SHARE * jitter))
