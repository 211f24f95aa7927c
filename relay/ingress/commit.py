"""Group commit: while one accept is in flight the next requests gather, then go as one script call.

There is no timer, so an idle ingress adds no latency, and a busy one shares each fsync among all who wait.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final

from relay.connections import REDIS_SECONDS
from relay.errors import OverQuota, Unavailable
from relay.ingress.pressure import PressureGauge
from relay.outbox import Accepted, Admission, Outbox, Verdict
from relay.telemetry import logs

# A script call blocks Redis for everyone: at most this much in one, and at most this many events.
_GROUP_BYTES: Final = 4 * 1024 * 1024
_GROUP_EVENTS: Final = 256


class _Waiter:
    """One request's place in the queue; `released` is a lock that the committer lets go."""

    __slots__ = ("abandoned", "admission", "released", "verdict")

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.verdict: Verdict | None = None
        self.abandoned = False
        self.released = threading.Lock()
        self.released.acquire()


class GroupCommit:
    """Commits admissions to the outbox in groups. `on_accepted` is called after the waiters are released."""

    def __init__(
        self,
        outbox: Outbox,
        *,
        on_accepted: Callable[[Accepted], None],
        pressure: PressureGauge,
        patience_seconds: float = REDIS_SECONDS,
    ) -> None:
        self._outbox = outbox
        self._on_accepted = on_accepted
        self._pressure = pressure
        self._patience_seconds = patience_seconds
        self._waiting: SimpleQueue[_Waiter] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def commit(self, admission: Admission) -> Verdict:
        """Commit one event and return `new`, `repeat` or `stale`.

        Raises OverQuota, or Unavailable when Redis has no room or did not take it within the patience of a waiter.
        """
        self.start()
        self._pressure.check()
        waiter = _Waiter(admission)
        self._waiting.put(waiter)
        if not waiter.released.acquire(timeout=self._patience_seconds):
            waiter.abandoned = True
        verdict = waiter.verdict
        if verdict is Verdict.QUOTA:
            raise OverQuota
        if verdict is None or verdict is Verdict.ERROR:
            raise Unavailable("The event could not be stored; send it again.")
        return verdict

    def start(self) -> None:
        """Begin to commit, and to watch Redis. Safe to repeat.

        Not done by __init__: the server may fork or import the application before it serves.
        """
        if self._thread is not None:
            return
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="group-commit", daemon=True)
                self._thread.start()
                self._pressure.start()

    def _run(self) -> None:
        while True:
            group = self._gather(self._waiting.get())
            if not group:
                continue
            try:
                self._commit(group)
            except Exception as error:
                # This thread outlives any error: without it nothing would ever be accepted again.
                logs.failure("commit_failed", error)

    def _gather(self, first: _Waiter) -> list[_Waiter]:
        group: list[_Waiter] = []
        size = 0
        waiter = first
        while True:
            # Whoever gave up has been told 503; its sender comes again, and would find itself a repeat.
            if not waiter.abandoned:
                group.append(waiter)
                size += len(waiter.admission.sealed)
            if len(group) >= _GROUP_EVENTS or size >= _GROUP_BYTES or self._waiting.empty():
                return group
            waiter = self._waiting.get()

    def _commit(self, group: list[_Waiter]) -> None:
        try:
            accepted = self._outbox.accept([waiter.admission for waiter in group])
            for waiter, verdict in zip(group, accepted.verdicts, strict=True):
                waiter.verdict = verdict
        except Unavailable:
            return  # who waits is told so
        finally:
            for waiter in group:
                waiter.released.release()
        self._on_accepted(accepted)
