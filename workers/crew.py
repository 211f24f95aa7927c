"""Several threads that work one lane, for units that take long because they wait for others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from workers.lane import Lane


class Crew:
    """The threads of this process that work one lane."""

    def __init__(
        self,
        name: str,
        step: Callable[[], bool],
        *,
        before_look: Callable[[], None],
        stopping: threading.Event,
        size: int,
        tick_seconds: float,
    ) -> None:
        self._stopping = stopping
        self._lanes = [Lane(name, step, before_look=before_look, tick_seconds=tick_seconds) for _ in range(size)]

    def start(self) -> None:
        """Begin."""
        for lane in self._lanes:
            lane.start()

    def wake(self) -> None:
        """Work now: the bell was rung."""
        for lane in self._lanes:
            lane.wake()

    def stop(self) -> None:
        """Begin nothing further, and give up what is under way: `stopping` is set."""
        self._stopping.set()
        for lane in self._lanes:
            lane.stop()

    def join(self, timeout_seconds: float) -> None:
        """Wait for what is under way."""
        ends_at = time.monotonic() + timeout_seconds
        for lane in self._lanes:
            lane.join(max(0.0, ends_at - time.monotonic()))
