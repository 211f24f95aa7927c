"""The bell: a Celery message without arguments that tells a worker to look into the outbox.

A bell that cannot be rung costs at most one tick of a worker (1 s), so every failure is swallowed.
"""

from __future__ import annotations

import contextlib
import threading

import redis
from celery import Celery

from relay.outbox import keys
from relay.queues import BELL_SECONDS, BELLS


class Bell:
    """Rings lanes from a thread of its own, so that no request ever waits for the broker."""

    def __init__(self, app: Celery, client: redis.Redis) -> None:
        self._app = app
        self._client = client
        self._lanes: set[str] = set()
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def ring(self, lane: str) -> None:
        """Have the lane's bell rung soon. Returns at once and never raises."""
        with self._lock:
            self._lanes.add(lane)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="bell", daemon=True)
                self._thread.start()
        self._wake.set()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            with self._lock:
                lanes, self._lanes = self._lanes, set()
            for lane in lanes:
                self._send(lane)

    def _send(self, lane: str) -> None:
        try:
            self._app.send_task(BELLS[lane], retry=False, expires=BELL_SECONDS)
        except Exception:
            unmute(self._client, lane)


def unmute(client: redis.Redis, lane: str) -> None:
    """Let the next accept ring a lane's bell again.

    While a bell is on its way accept rings no other, for 5 s: a worker that looks by itself leaves it so, and says
    with this that from now on it waits to be rung.
    """
    with contextlib.suppress(redis.RedisError):
        client.delete(keys.ring(lane))
