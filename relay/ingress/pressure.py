"""Whether Redis has room for more, asked every two seconds and not per request.

Above 85 % of its memory, or while it cannot write its append-only file, every new event is refused with 503: nothing
is evicted, what is there drains, and providers send again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

import redis

from relay.errors import Unavailable
from relay.outbox import fitness, keys
from relay.telemetry import logs

_FULL_SHARE: Final = 0.85
_INTERVAL_SECONDS: Final = 2.0


class PressureGauge:
    """Watches Redis from a thread of its own, and the configuration's version with it."""

    def __init__(self, client: redis.Redis, *, on_config_version: Callable[[int], None] = lambda _: None) -> None:
        self._client = client
        self._on_config_version = on_config_version
        self._refusal: str | None = None
        self._stop = threading.Event()

    def start(self) -> None:
        """Begin watching; a daemon thread, so that it ends with the process."""
        threading.Thread(target=self._run, name="pressure", daemon=True).start()

    def check(self) -> None:
        """Raise Unavailable while Redis has no room."""
        if self._refusal is not None:
            raise Unavailable("There is no room at the moment; send it again.", code=self._refusal)

    def look(self) -> None:
        """Ask Redis once. Its silence is not judged here: the commit finds out by itself."""
        pipeline = self._client.pipeline(transaction=False)
        pipeline.info()
        pipeline.get(keys.CONFIG_VERSION)
        try:
            info, version = pipeline.execute()
        except redis.RedisError:
            return
        refusal = refusal_of(info)
        if refusal != self._refusal:
            if refusal is None:
                logs.info("pressure_ended")
            else:
                logs.alarm("pressure_began", reason=refusal, used_bytes=info.get("used_memory"))
        self._refusal = refusal
        self._on_config_version(int(version or 0))

    def _run(self) -> None:
        while not self._stop.wait(_INTERVAL_SECONDS):
            try:
                self.look()
            except Exception as error:
                logs.failure("pressure_failed", error)


def refusal_of(info: dict[str, Any]) -> str | None:
    """Why nothing can be taken, judged by Redis' INFO: `redis_unfit`, `memory_full`, `disk_full`, or None. Pure."""
    if fitness.refusal_of(info) is not None:
        return "redis_unfit"
    most = int(info.get("maxmemory", 0))
    if most and int(info.get("used_memory", 0)) > most * _FULL_SHARE:
        return "memory_full"
    if info.get("aof_last_write_status", "ok") != "ok":
        return "disk_full"
    return None
