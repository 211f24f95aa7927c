"""Looks after the books: counts what could not be charged, and checks that sessions, ledger and usage agree."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

import redis

from billing import inspection, unrated
from billing.inspection import Progress, Report
from relay.connections import answered
from relay.directory import Mirror
from relay.directory.checked import Checked, CheckScope
from relay.outbox import keys
from relay.store.database import Database
from relay.telemetry import logs

_EVERYTHING_EVERY: Final = timedelta(hours=24)
# What a process that is killed meanwhile leaves behind is gone before the next hour's check.
_BEING_CHECKED: Final = timedelta(minutes=50)
_CHECKED: Final = keys.PREFIX + "books_checked"


class _Stopped(Exception):
    """The process is to end."""


def count_unrated(mirror: Mirror, database: Database) -> int:
    """Count the sessions that are not charged because something is missing, for the metrics; how many they are."""
    with database.begin() as connection:
        counts = unrated.by_reason(unrated.counts(connection))
    mirror.note_unrated(counts)
    return sum(counts.values())


def check(
    client: redis.Redis, mirror: Mirror, database: Database, *, goes_on: Callable[[], bool] = lambda: True
) -> int:
    """Check what changed lately, and once a day everything; how many violations. Each kind raises an alarm.

    Whether it is time is remembered in Redis, so that a restarted beat does not begin its day anew. Where `goes_on` is
    False a check is broken off, and is made the next hour. Raises Unavailable.
    """

    def on_page(_: Report) -> None:
        if not goes_on():
            raise _Stopped

    found = 0
    with suppress(_Stopped):
        found += _told(mirror, "recent", inspection.recent(database, now=datetime.now(UTC), on_page=on_page))
        found += _daily(client, mirror, database, on_page=on_page)
    return found


def _daily(client: redis.Redis, mirror: Mirror, database: Database, *, on_page: Progress) -> int:
    with answered():
        is_time = client.set(_CHECKED, 1, nx=True, ex=_BEING_CHECKED)
    if not is_time:
        return 0
    try:
        found = _told(mirror, "everything", inspection.everything(database, on_page=on_page))
    except BaseException:
        # The next hour's tries again.
        with suppress(redis.RedisError):
            client.delete(_CHECKED)
        raise
    with answered():
        client.set(_CHECKED, 1, ex=_EVERYTHING_EVERY)
    return found


def _told(mirror: Mirror, scope: CheckScope, report: Report) -> int:
    for invariant, finding in report.found.items():
        if finding.count:
            account_id = finding.examples[0].account_id
            logs.alarm("billing_invariant_broken", kind=invariant.value, count=finding.count, account_id=account_id)
    violations = {invariant.value: finding.count for invariant, finding in report.found.items()}
    mirror.note_checked(scope, Checked(violations=violations, ended_at=datetime.now(UTC).timestamp()))
    return report.violations
