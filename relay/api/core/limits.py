"""How many requests a key may make in a minute: a count in Redis per key and minute."""

from __future__ import annotations

import math
import time
from typing import Final

import redis

from relay.errors import RateLimited
from relay.outbox.keys import PREFIX
from relay.telemetry import logs

_WINDOW_SECONDS: Final = 60


class RateLimit:
    """A sliding minute: this minute's count, and as much of the last one's as of it still lies within 60 seconds.

    Only what was let through counts: who goes on asking while it must not is no longer away from its next request.
    """

    def __init__(self, client: redis.Redis, *, per_minute: int) -> None:
        self._client = client
        self.per_minute = per_minute

    def spend(self, caller: str) -> None:
        """Count a request. Raises RateLimited. While Redis does not answer nobody is limited."""
        window, passed = divmod(time.time(), _WINDOW_SECONDS)
        this, last = (f"{PREFIX}rate:{caller}:{int(window) - back}" for back in (0, 1))
        try:
            pipeline = self._client.pipeline(transaction=False)
            pipeline.incr(this)
            pipeline.expire(this, 2 * _WINDOW_SECONDS)
            pipeline.get(last)
            spent, _, before = pipeline.execute()
            wait = wait_seconds(spent - 1, int(before or 0), passed, per_minute=self.per_minute)
            if wait:
                self._client.decr(this)
        except redis.RedisError as error:
            logs.warning("rate_not_counted", error=error)
            return
        if wait:
            raise RateLimited(retry_after_seconds=wait)


def wait_seconds(spent: int, before: int, passed: float, *, per_minute: int) -> int:
    """After how many whole seconds one more request fits; 0: now. Pure.

    `spent` were made in this minute, of which `passed` seconds are over, and `before` in the one before it.
    """
    free = per_minute - 1 - spent
    if free >= 0:
        # So much of the last minute must lie behind for the rest of it to leave room.
        return math.ceil(max(0.0, _must_pass(before, free) - passed))
    return math.ceil(_WINDOW_SECONDS - passed + _must_pass(spent, per_minute - 1))


def _must_pass(count: int, room: int) -> float:
    """When of `count` requests of a minute, spread evenly, at most `room` are still within the last 60 seconds."""
    return 0.0 if count <= room else _WINDOW_SECONDS * (count - room) / count
