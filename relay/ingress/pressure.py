"""Whether Redis can take more, asked every two seconds and not per request.

Every new event is refused with 503 while Redis has used 85 % of its memory (`memory_full`), cannot write its
append-only file (`disk_full`), or is set up so that it would lose events (`redis_unfit`). What is there drains, and
providers send again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final, Literal

import redis

from relay.errors import Unavailable
from relay.outbox import fitness, keys
from relay.telemetry import logs

# Of Redis' memory: above it nothing is taken.
FULL_SHARE: Final = 0.85
_INTERVAL_SECONDS: Final = 2.0

Refusal = Literal["redis_unfit", "memory_full", "disk_full"]
"""The code of the 503."""


class PressureGauge:
    """Watches Redis from a thread of its own, and the configuration's version with it."""

    def __init__(self, client: redis.Redis, *, on_config_version: Callable[[int], None] = lambda _: None) -> None:
        self._client = client
        self._on_config_version = on_config_version
        self._refusal: Refusal | None = None

    def start(self) -> None:
        """Begin watching; a daemon thread, so that it ends with the process."""
        threading.Thread(target=self._run, name="pressure", daemon=True).start()

    def check(self) -> None:
        """Raise Unavailable, with the refusal as its code, while nothing can be stored."""
        if self._refusal is not None:
            raise Unavailable("Nothing can be stored at the moment; send it again.", code=self._refusal)

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
        while True:
            time.sleep(_INTERVAL_SECONDS)
            try:
                self.look()
            except Exception as error:
                logs.failure("pressure_failed", error)


def refusal_of(info: dict[str, Any]) -> Refusal | None:
    """Why nothing can be taken, judged by Redis' INFO; None if it can. Pure."""
    if fitness.refusal_of(info) is not None:
        return "redis_unfit"
    most = int(info.get("maxmemory", 0))
    if most and int(info.get("used_memory", 0)) > most * FULL_SHARE:
        return "memory_full"
    if info.get("aof_last_write_status", "ok") != "ok":
        return "disk_full"
    return None
