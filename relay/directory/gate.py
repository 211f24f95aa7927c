"""A gate where one thread asks for all who want the same."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from relay.connections import REDIS_SECONDS
from relay.errors import Unavailable

_TEXT = "the configuration cannot be read at the moment"


class Gate:
    """Lets one thread through at a time; the others wait no longer than they would for Redis itself."""

    __slots__ = ("_failed_at", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failed_at = 0.0

    @contextmanager
    def passed(self) -> Iterator[None]:
        """What is done within is done by nobody else meanwhile. Raises Unavailable."""
        began = time.monotonic()
        if not self._lock.acquire(timeout=REDIS_SECONDS):
            raise Unavailable(_TEXT)
        try:
            if self._failed_at > began:
                # Whoever was waited for has asked in vain; asking again would double the wait.
                raise Unavailable(_TEXT)
            try:
                yield
            except Unavailable:
                self._failed_at = time.monotonic()
                raise
        finally:
            self._lock.release()
