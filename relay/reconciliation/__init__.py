"""What our providers know of calls, against what we know: what was never told is charged and relayed.

Webhooks get lost: a provider gives up, a source is misconfigured, a store is restored from a copy. So every list of
calls that a key opens is read again and again: since the last time and two hours before it, because calls are listed by
their start and end later; and every day as a whole once it is over, with the day before, when both are compared.

A list is read by one process at a time, which remembers how far it came: a provider that is away, or a process that
dies, costs nothing but time. Reading it twice changes nothing: a call is charged once (`billing.ledger`), by the
provider's word, and relayed once (`relaying`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import redis

from relay.directory import Directory, Mirror
from relay.errors import Unavailable
from relay.outbox import Accepted, Outbox
from relay.outbox.outcomes import backlog
from relay.reconciliation import stuck
from relay.reconciliation.decisions import Need
from relay.reconciliation.listing import readable
from relay.reconciliation.mending import GRACE, Mending
from relay.reconciliation.reading import Reading
from relay.reconciliation.relaying import Relaying
from relay.reconciliation.tally import Outcome, Tally
from relay.sealing import KeyRing
from relay.settings import Settings
from relay.store import reconciliations
from relay.store.database import Database
from relay.telemetry import logs, metrics

__all__ = ["Outcome", "Reconciler", "Report", "Tally"]

# A turn begins nothing new after so long, and the next one goes on.
TURN_SECONDS: Final = 300.0
# The records of deliveries are kept for 30 days: whether something was relayed before is not known for longer.
_LONGEST_RETENTION: Final = timedelta(days=29)
_NEVER: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a turn: of each list, and of asking for sessions that were stuck."""

    lists: list[Outcome]
    stuck: Tally

    def shown(self) -> dict[str, Any]:
        """As JSON."""
        return {"lists": [one.shown() for one in self.lists], "stuck": self.stuck.shown()}


class Reconciler:
    """Reads lists of calls, and mends what is missing here."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        ring: KeyRing,
        client: redis.Redis,
        *,
        on_accepted: Callable[[Accepted], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._database = database
        self._ring = ring
        self._client = client
        self._mirror = Mirror(client, ring)
        self._on_accepted = on_accepted

    def run(
        self,
        *,
        provider: str | None = None,
        since: datetime | None = None,
        seconds: float = TURN_SECONDS,
        goes_on: Callable[[], bool] = lambda: True,
        on_progress: Callable[[Outcome], None] = lambda _: None,
    ) -> Report:
        """Read every list, the one that is furthest behind first, and ask for sessions that are stuck.

        With `since` the lists are read from then on, wherever they were read to before; without, from there, and for as
        long as `seconds` last; either way what is under way is broken off where `goes_on` is False. `on_progress` is
        called after each page. One list's trouble is its own. Raises Unavailable.
        """
        began = time.monotonic()

        def may_go_on() -> bool:
            return goes_on() and (since is not None or time.monotonic() - began < seconds)

        sources = readable(self._settings, self._database, self._ring, provider=provider)
        with self._database.begin() as connection:
            read_to = reconciliations.read_to(connection)
        sources.sort(key=lambda one: read_to.get((one.account_id, one.provider), _NEVER))
        report = Report([], Tally())
        for source in sources:
            outcome = Outcome(source.account_id, source.provider)
            report.lists.append(outcome)
            mending = self._mending(outcome.tally, goes_on)
            reading = Reading(self._database, source, outcome, mending, may_go_on=may_go_on, on_progress=on_progress)
            try:
                reading.read(since)
            except Unavailable:
                raise
            except Exception as error:
                # The list that is furthest behind is read first: it would be every time.
                outcome.outcome = "failed"
                logs.failure("list_not_read", error, provider=source.provider, account_id=source.account_id)
        mending = self._mending(report.stuck, goes_on)
        report.stuck.asked = stuck.ask(self._database, sources, mending, may_go_on=may_go_on)
        self._note(report)
        return report

    def _mending(self, tally: Tally, goes_on: Callable[[], bool]) -> Mending:
        # A directory of its own: it looks at the configuration as it is now.
        directory = Directory(self._mirror, self._ring, self._database)
        relaying = Relaying(
            self._settings, self._ring, self._database, directory, Outbox(self._client), on_accepted=self._on_accepted
        )
        # While records lag, what was accepted may look as if it had never come.
        _, oldest_ms = backlog(self._client)
        return Mending(
            self._database,
            relaying,
            retention=min(self._settings.retention, _LONGEST_RETENTION),
            may_relay=timedelta(milliseconds=oldest_ms) < GRACE,
            tally=tally,
            goes_on=goes_on,
        )

    def _note(self, report: Report) -> None:
        """Count it all for the metrics."""
        for outcome in report.lists:
            metrics.record_reconciliation(outcome.provider, outcome.outcome, outcome.tally.counted())
        metrics.record_reconciliation("all", "stuck", report.stuck.counted())
        with self._database.begin() as connection:
            days = reconciliations.compared(connection)
        self._mirror.note_compared(days)
        for provider in sorted({one.provider for one in report.lists}):
            total = Tally()
            for outcome in report.lists:
                if outcome.provider == provider:
                    total.add(outcome.tally)
            self._mirror.note_reconciliation(
                provider,
                missing=total.mended[Need.FOUND],
                unassigned=total.unassigned,
                difference_seconds=float(total.difference_seconds),
            )
