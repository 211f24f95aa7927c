"""From an address to a duration: fetch as much as the format needs, and measure it apart."""

from __future__ import annotations

import time
from collections.abc import Callable

from relay.bodies import BodyBudget
from relay.recordings.apart import measured_apart
from relay.recordings.fetch import Download, Egress
from relay.recordings.measure import Measured
from relay.recordings.ranges import Recording


class Measuring:
    """Measures recordings in any number of threads.

    `most_bytes` is how much of one recording is fetched, and how much of whole ones the process holds at once.
    """

    def __init__(self, egress: Egress, *, most_bytes: int, deadline_seconds: float) -> None:
        self._egress = egress
        self._most_bytes = most_bytes
        self._deadline_seconds = deadline_seconds
        self._budget = BodyBudget(most_bytes)

    def measure(self, location: str, *, is_stopping: Callable[[], bool]) -> Measured:
        """The duration of a recording. Raises Unmeasured, Interrupted, and BodiesFull while others hold the memory."""
        ends_at = time.monotonic() + self._deadline_seconds
        with (
            Download(
                location, self._egress, ends_at=ends_at, most_bytes=self._most_bytes, is_stopping=is_stopping
            ) as download,
            self._budget.share() as share,
        ):
            recording = Recording(download, most_bytes=self._most_bytes, grow=share.grow)
            return measured_apart(recording, ends_at=ends_at)
