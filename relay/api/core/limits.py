"""How many requests a key and an account may make in a minute: counts in Redis, for each of them and each minute."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import Final

import redis

from relay.errors import RateLimited
from relay.outbox.keys import PREFIX
from relay.telemetry import logs

_WINDOW_SECONDS: Final = 60
# An account may use so many keys to the full: else whoever may make keys would have no limit.
KEYS_WORTH: Final = 5


class RateLimit:
    """A sliding minute: this minute's count, and as much of the last one's as of it still lies within 60 seconds.

    Only what was let through counts: who goes on asking while it must not is no longer away from its next request.
    """

    def __init__(self, client: redis.Redis, *, per_minute: int) -> None:
        self._client = client
        self.per_minute = per_minute

    def spend(self, key_id: str, account_id: str = "") -> None:
        """Count a request of a key, and of its account if it has one.

        Raises RateLimited. While Redis does not answer nobody is limited.
        """
        window, passed = divmod(time.time(), _WINDOW_SECONDS)
        limits = {key_id: self.per_minute}
        if account_id:
            limits[account_id] = self.per_minute * KEYS_WORTH
        names = [[f"{PREFIX}rate:{who}:{int(window) - back}" for back in (0, 1)] for who in limits]
        try:
            pipeline = self._client.pipeline(transaction=False)
            for this, last in names:
                pipeline.incr(this)
                pipeline.expire(this, 2 * _WINDOW_SECONDS)
                pipeline.get(last)
            answers = pipeline.execute()
            wait = max(
                wait_seconds(spent - 1, int(before or 0), passed, per_minute=most)
                for most, spent, before in zip(limits.values(), answers[::3], answers[2::3], strict=True)
            )
            if wait:
                self._forget(this for this, _ in names)
        except redis.RedisError as error:
            logs.warning("rate_not_counted", error=error)
            return
        if wait:
            raise RateLimited(retry_after_seconds=wait)

    def _forget(self, names: Iterable[str]) -> None:
        pipeline = self._client.pipeline(transaction=False)
        for name in names:
            pipeline.decr(name)
        pipeline.execute()


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
