"""How many requests a key may make in a minute: a count in Redis per key and half minute."""

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
    """A sliding minute: this minute's count, and as much of the last one's as of it still lies within 60 seconds."""

    def __init__(self, client: redis.Redis, *, per_minute: int) -> None:
        self._client = client
        self.per_minute = per_minute

    def spend(self, caller: str) -> None:
        """Count a request. Raises RateLimited. While Redis does not answer nobody is limited."""
        now = time.time()
        window, passed = divmod(now, _WINDOW_SECONDS)
        this, last = (f"{PREFIX}rate:{caller}:{int(window) - back}" for back in (0, 1))
        try:
            pipeline = self._client.pipeline(transaction=False)
            pipeline.incr(this)
            pipeline.expire(this, 2 * _WINDOW_SECONDS)
            pipeline.get(last)
            spent, _, before = pipeline.execute()
        except redis.RedisError as error:
            logs.warning("rate_not_counted", error=error)
            return
        if spent + int(before or 0) * (1 - passed / _WINDOW_SECONDS) > self.per_minute:
            raise RateLimited(retry_after_seconds=max(1, math.ceil(_WINDOW_SECONDS - passed)))
