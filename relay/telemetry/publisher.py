"""The thread that publishes this process' samples every 10 s, beside its work and never in its way."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from relay.connections import redis_client
from relay.settings import Settings
from relay.telemetry import logs, metrics, samples
from relay.telemetry.exchange import Exchange
from relay.telemetry.process import Kind, process_name

PUBLISH_SECONDS: Final = 10.0
# The last samples are worth a moment at the end, not a process that does not end.
_STOP_SECONDS: Final = 3.0


class Publisher:
    """Publishes at once when it is started, then every 10 s, and a last time when it is stopped."""

    def __init__(self, exchange: Exchange, process: str, *, period_seconds: float = PUBLISH_SECONDS) -> None:
        self._exchange = exchange
        self._process = process
        self._period_seconds = period_seconds
        self._stopping = threading.Event()
        self._is_failing = False
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)

    @classmethod
    def of(cls, settings: Settings, kind: Kind) -> Publisher:
        """The publisher of this process, with a connection of its own, which is made when it starts."""
        exchange = Exchange(redis_client(settings, max_connections=2))
        return cls(exchange, process_name(kind, dyno=settings.dyno))

    def start(self) -> None:
        """Begin. Not done by __init__: a server may fork after it was made."""
        self._thread.start()

    def stop(self) -> None:
        """Publish what was counted since the last time, and end. Harmless where it was never started."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        self._try(self._exchange.tidy)
        self._try(self._publish)
        while not self._stopping.wait(self._period_seconds):
            self._try(self._publish)
        self._try(self._publish)

    def _try(self, what: Callable[[], None]) -> None:
        try:
            what()
        except Exception as error:
            # Once per outage: the log of a process that works must not fill with what it does beside its work.
            if not self._is_failing:
                logs.warning("samples_not_published", process=self._process, error=error)
            self._is_failing = True
        else:
            self._is_failing = False

    def _publish(self) -> None:
        self._exchange.publish(self._process, samples.encode(samples.take(metrics.REGISTRY)))
