"""How much an account may have kept of its answers for repeats: bytes in 24 hours, counted by hours in Redis."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Final

import redis

from relay.errors import RateLimited
from relay.outbox.keys import PREFIX

# Some 20,000 answers of usual size. It is beside the account's quota for what is not delivered yet.
MOST_BYTES: Final = 32 * 1024 * 1024
# What Redis needs for a key besides its value, rounded up.
KEY_BYTES: Final = 512
_HOUR_SECONDS: Final = 3600
# What was kept in an hour is gone when 24 more have passed.
_HOURS: Final = 25


class Allowance:
    """Counts what is kept. Every method raises RedisError."""

    def __init__(self, client: redis.Redis, *, most_bytes: int = MOST_BYTES) -> None:
        self._client = client
        self._most_bytes = most_bytes

    def check(self, caller: str) -> None:
        """Raises RateLimited `idempotency_keys_spent` when nothing more may be kept now."""
        hour, passed = divmod(time.time(), _HOUR_SECONDS)
        names = [_name(caller, int(hour) - back) for back in range(_HOURS)]
        spent: Any = self._client.mget(names)
        wait = wait_seconds([int(one or 0) for one in spent], passed, most=self._most_bytes)
        if wait:
            text = "this account has as many answers kept for its Idempotency-Keys as it may; wait, or send without one"
            raise RateLimited(text, code="idempotency_keys_spent", retry_after_seconds=wait)

    def spend(self, caller: str, size: int) -> None:
        """Count an answer of so many bytes."""
        name = _name(caller, int(time.time()) // _HOUR_SECONDS)
        pipeline = self._client.pipeline(transaction=False)
        pipeline.incrby(name, size + KEY_BYTES)
        pipeline.expire(name, _HOURS * _HOUR_SECONDS)
        pipeline.execute()


def wait_seconds(spent: Sequence[int], passed: float, *, most: int) -> int:
    """After how many whole seconds there is room again; 0: now. Pure.

    `spent` are the bytes of each hour, the newest first, of which `passed` seconds are over.
    """
    # What is left when the oldest hours, one after the other, have lapsed.
    left = reversed(list(accumulate(spent)))
    hours = next((hours for hours, size in enumerate(left) if size < most), len(spent))
    return round(hours * _HOUR_SECONDS - passed) if hours else 0


def _name(caller: str, hour: int) -> str:
    return f"{PREFIX}idempotency-spent:{caller}:{hour}"
