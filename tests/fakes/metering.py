"""What the fakes of billing systems have in common: a key, what they took, and failures on demand."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections import deque
from typing import Any

from tests.fakes.server import DROPPED, Fake, Seen


class FakeMetering(Fake):
    """A billing system. `events` are those that it took, by identifier, `strangers` customers that it does not know."""

    def __init__(self, name: str, *, key: str) -> None:
        self.key = key
        self.requests: list[Seen] = []
        self.events: dict[str, dict[str, Any]] = {}
        self.strangers: set[str] = set()
        self._failures: deque[int] = deque()
        self._losses = 0
        self._retry_after: int | None = None
        self._lock = threading.Lock()
        super().__init__(name)

    def fail_next(self, status: int, times: int = 1, *, retry_after: int | None = None) -> None:
        """Answer the next requests with this status, having taken nothing; DROPPED answers nothing.

        `retry_after` goes with 429 and 503.
        """
        with self._lock:
            self._failures.extend([status] * times)
            self._retry_after = retry_after

    def lose_next(self, times: int = 1) -> None:
        """Take what comes next, and answer nothing."""
        with self._lock:
            self._losses += times

    def answer(self, seen: Seen) -> tuple[int, Any]:
        """The status and the JSON body for a request."""
        with self._lock:
            self.requests.append(seen)
            if self._failures:
                return self._failures.popleft(), {"error": "failed on demand"}
            if self.key and seen.authorization != f"Bearer {self.key}":
                return 401, {"error": "wrong key"}
            answer = self.take(seen)
            if self._losses:
                self._losses -= 1
                return DROPPED, None
            return answer

    def more_headers(self, status: int) -> dict[str, str]:
        """Retry-After where it was asked for."""
        return {"Retry-After": str(self._retry_after)} if self._retry_after and status in (429, 503) else {}

    @abstractmethod
    def take(self, seen: Seen) -> tuple[int, Any]:
        """What the billing system makes of a request."""
