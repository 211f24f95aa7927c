"""The export lanes, one for each billing system: claim rows of the ledger that wait for it, send them, settle.

A claim moves a row's next attempt ahead before it is sent. So a process that dies between sending and settling leaves
rows that are sent again, with the same identifiers, and are counted once. A row that is not taken is tried on the
schedule of deliveries; a destination that is away is left alone for a while, and the others go on.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Final

from relay.delivery.retry import Retry, decide
from relay.directory import Mirror
from relay.settings import Settings
from relay.store import exports
from relay.store.database import Database
from relay.store.exports import DESTINATIONS, Backlog, Settled
from relay.telemetry import logs, metrics
from workers.crew import Crew
from workers.destinations import Destination, Tried, configured

# What a charge waits at most before it is sent. Nobody is waiting for it.
TICK_SECONDS: Final = 5.0
# No request begins later than this after its rows were claimed; one lasts at most 34 s.
SENDING_SECONDS: Final = 60.0
LEASE: Final = timedelta(seconds=150)
# A destination that did not take what it was sent: the first pause, and the longest.
_PAUSE_SECONDS: Final = 1.0
_PAUSE_MOST_SECONDS: Final = 60.0
# A destination may ask for more, and gets it: as much as this.
_ASKED_MOST_SECONDS: Final = 600.0
# Rows have no end of their own: an outage uses up their attempts, and nothing else.
_NO_END_MS: Final = 1 << 53


class ExportLane:
    """Sends what waits for one destination. `is_stopping`: begin no further request."""

    def __init__(
        self,
        destination: Destination,
        database: Database,
        *,
        is_stopping: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._destination = destination
        self._database = database
        self._is_stopping = is_stopping
        self._clock = clock
        self._paused_until = 0.0
        self._pause_seconds = 0.0

    def step(self) -> bool:
        """Send one batch; True if there may be more to send now. Raises Unavailable when Postgres is away."""
        now = self._clock()
        if now < self._paused_until:
            return False
        name, most = self._destination.name, self._destination.batch
        with self._database.begin() as connection:
            claimed = exports.claim(connection, name, most=most, lease=LEASE)
        if not claimed:
            return False
        ends_at = now + SENDING_SECONDS
        tried = self._destination.send(claimed, go_on=lambda: not self._is_stopping() and self._clock() < ends_at)
        settled = [_settled(one) for one in tried if one.outcome in ("retried", "dead", "unsent")]
        done = [one.row.charge.id for one in tried if one.outcome in ("taken", "repeated", "empty")]
        with self._database.begin() as connection:
            exports.remove(connection, name, done)
            exports.settle(connection, name, settled)
        _tell(name, tried, settled)
        self._pause(tried)
        return len(claimed) == most and not self._pause_seconds

    def _pause(self, tried: Sequence[Tried]) -> None:
        results = [one.result for one in tried if one.result is not None]
        if not results:
            self._pause_seconds = 0.0
            return
        self._pause_seconds = min(_PAUSE_MOST_SECONDS, max(_PAUSE_SECONDS, self._pause_seconds * 2))
        asked = max(result.retry_after_seconds or 0 for result in results)
        self._paused_until = self._clock() + max(self._pause_seconds, min(asked, _ASKED_MOST_SECONDS))


def export_crews(settings: Settings, database: Database) -> Iterator[tuple[str, Crew]]:
    """A thread for each destination that is configured, with its name."""
    for destination in configured(settings):
        stopping = threading.Event()
        lane = ExportLane(destination, database, is_stopping=stopping.is_set)
        name = f"export.{destination.name}"
        yield (
            name,
            Crew(
                name,
                lane.step,
                before_look=lambda: None,
                stopping=stopping,
                size=1,
                tick_seconds=TICK_SECONDS,
            ),
        )


def count_exports(mirror: Mirror, database: Database) -> None:
    """Count what waits for each destination, configured or not, for the metrics. Raises Unavailable."""
    none = {
        name: Backlog(destination=name, waiting=0, dead=0, oldest_at=None, oldest_age_seconds=0)
        for name in DESTINATIONS
    }
    with database.begin() as connection:
        found = {one.destination: one for one in exports.backlogs(connection)}
    mirror.note_exports(none | found)


def _settled(tried: Tried) -> Settled:
    row = tried.row
    # From this claim on it may be there; before it, it was not, and if the answer says so it still is not.
    sent_at = row.sent_at or row.claimed_at if tried.may_be_taken else row.sent_at
    wait_seconds: float | None = None
    if tried.outcome == "unsent":
        wait_seconds = 0.0
    elif tried.result is not None:
        jitter = random.uniform(-1, 1)  # noqa: S311  it spreads retries, and hides nothing
        decision = decide(tried.result, attempt=row.attempt, jitter=jitter, now_ms=0, end_ms=_NO_END_MS)
        wait_seconds = decision.delay_ms / 1000 if isinstance(decision, Retry) else None
    return Settled(
        ledger_id=row.charge.id,
        attempt=row.attempt,
        wait_seconds=wait_seconds,
        code=tried.code,
        sent_at=sent_at,
        counts=tried.outcome != "unsent",
    )


def _tell(name: str, tried: Sequence[Tried], settled: Sequence[Settled]) -> None:
    """Count the outcomes, and raise an alarm for what nobody will try again."""
    ended = {one.ledger_id for one in settled if one.wait_seconds is None}
    outcomes = Counter("dead" if one.row.charge.id in ended else one.outcome for one in tried)
    for outcome, count in outcomes.items():
        if outcome != "unsent":
            metrics.record_export(name, outcome, count)
    dead = Counter((one.row.charge.account_id, one.code) for one in tried if one.row.charge.id in ended)
    for (account_id, code), count in dead.items():
        logs.alarm("export_dead", destination=name, account_id=account_id, code=code, count=count)
    for code, count in Counter(one.code for one in tried if one.is_misdirected).items():
        logs.alarm("export_misdirected", destination=name, code=code, count=count)
    passing = Counter(one.code for one in tried if one.outcome == "retried" and not one.is_misdirected)
    for code, count in passing.items():
        logs.warning("export_postponed", destination=name, code=code, count=count)
