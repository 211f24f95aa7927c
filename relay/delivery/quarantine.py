"""When a suspect may be claimed: a unit that was in flight at two deaths of its process, or whose claims got lost.

It is claimed alone, so that if it does take the process down nothing goes down with it. What kills its process does so
at once: after a second a request counts as harmless. Between two suspects the others have their turn, so that many
suspects (every unit that hung while a worker was killed twice) delay healthy deliveries by a third at most.
"""

from __future__ import annotations

from typing import Final

from relay.outbox import Claims

_LANDED_SECONDS: Final = 1.0
_OTHERS_SECONDS: Final = 4.0


class Quarantine:
    """Decides for one courier. All times are one monotonic clock's, in seconds."""

    def __init__(self) -> None:
        self._waiting = False
        self._not_before = 0.0
        self._alone_until = 0.0
        self._last_start = 0.0

    def saw(self, claims: Claims, now: float) -> None:
        """Take note of an answer: whether suspects wait, and whether one has just been claimed."""
        self._waiting = claims.drain
        if claims.units:
            self._last_start = now  # as good as sent: no suspect is claimed beside them
        if any(unit.is_suspect for unit in claims.units):
            self._alone_until = now + _LANDED_SECONDS
            self._not_before = self._alone_until + _OTHERS_SECONDS

    def is_due(self, now: float) -> bool:
        """Whether the next claim should be that of a suspect, alone."""
        return self._waiting and now >= self._not_before

    def holds(self, now: float, in_flight: int) -> bool:
        """Whether nothing may be claimed now: a suspect flies, or what flies has not proved harmless yet."""
        if in_flight == 0:
            return False
        return now < self._alone_until or (self.is_due(now) and now - self._last_start < _LANDED_SECONDS)
