"""Marks in Redis that say "this is running": renewed for as long as it does, gone soon after the process died."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import redis

from relay.telemetry import logs

_LIFETIME_SECONDS: Final = 60
_EVERY_SECONDS: Final = 15.0
# Only what is still ours: the answer may have taken the mark's place, and is kept for longer.
_RENEW: Final = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('EXPIRE', KEYS[1], ARGV[2]) end"


class Renewal:
    """Makes such marks and renews them, in a thread that is there while there are any."""

    def __init__(self, client: redis.Redis, *, every_seconds: float = _EVERY_SECONDS) -> None:
        self._client = client
        self._every_seconds = every_seconds
        self._lock = threading.Lock()
        self._marks: dict[str, bytes] = {}
        self._has_thread = False

    def mark(self, name: str, value: bytes) -> bool:
        """Set a mark; False if there is something by this name already. Raises RedisError."""
        return bool(self._client.set(name, value, nx=True, ex=_LIFETIME_SECONDS))

    @contextmanager
    def renewed(self, name: str, value: bytes) -> Iterator[None]:
        """Keep a mark for as long as the block lasts, however long that is."""
        with self._lock:
            self._marks[name] = value
            if not self._has_thread:
                self._has_thread = self._started()
        try:
            yield
        finally:
            with self._lock:
                del self._marks[name]

    def _started(self) -> bool:
        try:
            threading.Thread(target=self._run, name="renewal", daemon=True).start()
        except RuntimeError as error:  # as many threads as this container may have: the next one tries again
            logs.warning("renewal_not_started", error=error)
            return False
        return True

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            pause.wait(self._every_seconds)
            with self._lock:
                marks = dict(self._marks)
                if not marks:
                    self._has_thread = False
                    return
            try:
                for name, value in marks.items():
                    self._client.eval(_RENEW, 1, name, value, _LIFETIME_SECONDS)
            except redis.RedisError as error:
                logs.warning("mark_not_renewed", error=error)
