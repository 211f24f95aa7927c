"""Reads one list of calls: on from where it was read to, and whole days once they are over."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from relay.errors import ProviderFailed, ProviderUnavailable
from relay.providers import agora
from relay.reconciliation import days
from relay.reconciliation.listing import Readable, pages
from relay.reconciliation.mending import Mending
from relay.reconciliation.tally import Listed, Outcome, Stopped
from relay.store import reconciliations
from relay.store.database import Database
from relay.store.reconciliations import Run
from relay.telemetry import logs

# Before where a list was read to: calls that were under way then have ended since.
OVERLAP: Final = timedelta(hours=2)
# A list that was never read begins here.
_FIRST: Final = timedelta(days=1)
# So much is read at once: what was read before a provider failed is not read again.
_SLICE: Final = timedelta(hours=6)
_DAY: Final = timedelta(days=1)
# A day is compared when its last calls have ended, and are listed.
_DAY_AFTER: Final = timedelta(hours=3)
# Days that are compared again with each: the longest calls of their last hour have ended by then.
_DAYS_BEFORE: Final = {agora.NAME: 3}
_USUALLY_BEFORE: Final = 1


class Reading:
    """One list while it is read. `outcome` is filled in as that goes on."""

    def __init__(
        self,
        database: Database,
        source: Readable,
        outcome: Outcome,
        mending: Mending,
        *,
        may_go_on: Callable[[], bool],
        on_progress: Callable[[Outcome], None],
    ) -> None:
        self._database = database
        self._source = source
        self._outcome = outcome
        self._mending = mending
        self._may_go_on = may_go_on
        self._on_progress = on_progress
        self._run: Run | None = None

    def read(self, since: datetime | None) -> None:
        """Read what is due, or all `since` then. Raises Unavailable."""
        now = datetime.now(UTC)
        if not self._take(now):
            self._outcome.outcome = "busy"
            return
        try:
            if since is None:
                self._follow(now)
                self._compare_due(now)
            else:
                self._window(since, now)
        except Stopped as stopped:
            self._outcome.outcome = stopped.outcome
        except (ProviderUnavailable, ProviderFailed) as error:
            self._outcome.outcome = "failed"
            source = self._source
            logs.warning("list_not_read", provider=source.provider, account_id=source.account_id, error=error)
        finally:
            self._release()

    def _take(self, now: datetime) -> bool:
        with self._database.begin() as connection:
            self._run = reconciliations.take(
                connection,
                account_id=self._source.account_id,
                provider=self._source.provider,
                through=now - _FIRST,
                compared_through=_first_compared(now),
            )
        return self._run is not None

    def _follow(self, now: datetime) -> None:
        through = self._held().through
        if through > now + OVERLAP:
            # A clock that was wrong has told so: nobody knows how far the list was really read.
            through = now - _FIRST
        start = min(through, now) - OVERLAP
        while start < now:
            end = min(start + _SLICE, now)
            self._read(start, end)
            self._hold(through=min(max(end, through), now))
            start = end

    def _compare_due(self, now: datetime) -> None:
        through = self._held().compared_through
        if through >= now.date():
            # By the same clock: no day is compared before it is over.
            through = _first_compared(now)
        day = through + _DAY
        while days.begins(day) + _DAY + _DAY_AFTER <= now:
            before = _DAYS_BEFORE.get(self._source.provider, _USUALLY_BEFORE)
            for earlier in range(before, -1, -1):
                self._compare(day - earlier * _DAY)
            self._hold(compared_through=day)
            day += _DAY

    def _window(self, since: datetime, now: datetime) -> None:
        """All since then; days that are within are compared."""
        start = since
        while start < now:
            midnight = days.begins(start.date() + _DAY)
            if start == days.begins(start.date()) and midnight <= now:
                self._compare(start.date())
            else:
                self._read(start, min(midnight, now))
            start = midnight

    def _compare(self, day: date) -> None:
        start = days.begins(day)
        listed = self._read(start, start + _DAY)
        with self._database.begin() as connection:
            rows = reconciliations.put(connection, days.compared(connection, self._source, day, listed))
        self._outcome.days += rows
        for row in rows:
            if row.differs:
                count = abs(row.sessions - row.provider_sessions)
                logs.alarm("reconciliation_difference", provider=row.provider, account_id=row.account_id, count=count)

    def _read(self, since: datetime, until: datetime) -> list[Listed]:
        """Mend what a window has, page by page; all of it that is somebody's here."""
        if not self._may_go_on():
            raise Stopped("postponed")
        listed: dict[tuple[str, str], Listed] = {}
        try:
            for page in pages(self._source, since=since, until=until):
                # A list moves on while it is read: what is at the end of a page may be at the beginning of the next.
                found = self._mending.page(self._source, page)
                listed |= {(one.account_id, one.conversation_id): one for one in found}
                self._hold()
                self._on_progress(self._outcome)
        finally:
            self._note_found()
        return list(listed.values())

    def _note_found(self) -> None:
        found = self._outcome.tally.taken_found()
        if found:
            with self._database.begin() as connection:
                reconciliations.add_found(connection, provider=self._source.provider, found=found)
        for account_id in sorted({account_id for account_id, _ in found}):
            count = sum(many for (whose, _), many in found.items() if whose == account_id)
            logs.warning("calls_found", provider=self._source.provider, account_id=account_id, count=count)

    def _held(self) -> Run:
        if self._run is None:
            raise Stopped("busy")
        return self._run

    def _hold(self, **progress: Any) -> None:
        with self._database.begin() as connection:
            self._run = reconciliations.hold(connection, self._held(), **progress)
        self._held()

    def _release(self) -> None:
        if self._run is not None:
            with self._database.begin() as connection:
                reconciliations.release(connection, self._run)


def _first_compared(now: datetime) -> date:
    """Through this day a list counts as compared that never was."""
    return (now - 2 * _DAY).date()
