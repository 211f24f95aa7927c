"""Whether Redis can take more, asked every two seconds and not per request.

Above 80 % of its memory the facts of charged events are dropped there, the oldest half at a time: no event is refused
for what is kept only in case that Postgres is restored.

Every new event is refused with 503 while Redis has used 85 % of its memory (`memory_full`), cannot write its
append-only file (`disk_full`), or is set up so that it would lose events (`redis_unfit`). What is there drains, and
providers send again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Literal

import redis

from relay.errors import Unavailable
from relay.outbox import charged, fitness, keys
from relay.telemetry import logs

# Of Redis' memory: above it nothing is taken.
FULL_SHARE: Final = 0.85
# Above it what could be missed goes; the room between the two is for what comes until the next look.
_SHORT_SHARE: Final = 0.80
# From a million entries to none.
_DROPS_MOST: Final = 20
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
        """Ask Redis, and make room. Its silence is not judged here: the commit finds out by itself."""
        try:
            info, version = self._asked()
            if self._made_room(info):
                info, version = self._asked()
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

    def _made_room(self, info: dict[str, Any]) -> bool:
        """Drop what could be missed until memory is not short any more, or there is none of it; whether any went."""
        dropped = 0
        with suppress(redis.RedisError):
            for _ in range(_DROPS_MOST):
                now = is_short(info) and charged.drop_older_half(self._client)
                if not now:
                    break
                dropped += now
                info, _version = self._asked()
        if dropped:
            logs.warning("charged_events_dropped", count=dropped, used_bytes=info.get("used_memory"))
        return dropped > 0

    def _asked(self) -> tuple[dict[str, Any], Any]:
        pipeline = self._client.pipeline(transaction=False)
        pipeline.info()
        pipeline.get(keys.CONFIG_VERSION)
        info, version = pipeline.execute()
        return info, version

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
    if _is_used(info, FULL_SHARE):
        return "memory_full"
    if info.get("aof_last_write_status", "ok") != "ok":
        return "disk_full"
    return None


def is_short(info: dict[str, Any]) -> bool:
    """Whether memory is so short, judged by Redis' INFO, that what could be missed should go. Pure."""
    return _is_used(info, _SHORT_SHARE)


def _is_used(info: dict[str, Any], share: float) -> bool:
    most = int(info.get("maxmemory", 0))
    return bool(most) and int(info.get("used_memory", 0)) > most * share
