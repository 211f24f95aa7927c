"""Looks through all that was charged for what breaks an invariant: what changed lately, or everything.

In slices, each in a transaction of its own that only reads: however large the ledger is, nobody waits for it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import Any, Final

from sqlalchemy import Connection, select, text

from billing import invariants
from billing.invariants import Invariant, Violation
from relay.store.database import Database
from relay.store.tables import accounts, sessions, statements

# Of one hour a day's run may miss none, if the one before it was late or was not there.
RECENT: Final = timedelta(hours=26)
# The longest calls last three days, and are told when they end.
_LONGEST_CALL: Final = timedelta(days=3)
_EXAMPLES: Final = 20
_SESSIONS_AT_ONCE: Final = 1_000
_ROWS_AT_ONCE: Final = 10_000
_DAY: Final = timedelta(days=1)
# A statement of a million calls is summed up in one go.
_TAKES_ITS_TIME: Final = text("SELECT set_config('statement_timeout', '300s', true)")

_CHANGED: Final = text("""
    SELECT DISTINCT l.account_id, l.session_id, (s.rated_at AT TIME ZONE 'UTC')::date AS day
    FROM ledger l JOIN sessions s ON s.account_id = l.account_id AND s.id = l.session_id
    WHERE l.id BETWEEN :first AND :last
""")
_CHUNK: Final = text("""
    SELECT min(id) AS first, max(id) AS last, min(created_at) AS since
    FROM (SELECT id, created_at FROM ledger WHERE id < :before ORDER BY id DESC LIMIT :most) newest
""")
_NEXT_DAY: Final = text("""
    SELECT LEAST(
        (SELECT min(quarter) FROM usage_quarters WHERE account_id = :account AND quarter >= :begin),
        (SELECT min(rated_at) FROM sessions WHERE account_id = :account AND terminal_ms IS NOT NULL
            AND rated_at >= :begin))
""")


@dataclass(slots=True)
class Finding:
    """How often an invariant is broken, and the first of those."""

    count: int = 0
    examples: list[Violation] = field(default_factory=list)


@dataclass(slots=True)
class Report:
    """What was looked at, and what is wrong, by invariant; each invariant is there."""

    sessions: int = 0
    rows: int = 0
    found: dict[Invariant, Finding] = field(default_factory=lambda: {one: Finding() for one in Invariant})

    @property
    def violations(self) -> int:
        """How many in all."""
        return sum(one.count for one in self.found.values())

    def add(self, violations: Iterable[Violation]) -> None:
        """Note what was found."""
        for violation in violations:
            finding = self.found[violation.invariant]
            finding.count += 1
            if len(finding.examples) < _EXAMPLES:
                finding.examples.append(violation)


Progress = Callable[[Report], None]


def everything(database: Database, *, on_page: Progress = lambda _: None) -> Report:
    """Check all there is. Takes a minute for some millions of calls. What `on_page` raises ends it."""
    report = Report()
    for account_id in _account_ids(database):
        for session_ids in _every_session(database, account_id):
            _check_sessions(database, report, account_id, session_ids)
            on_page(report)
        for day in _every_day(database, account_id):
            _check_day(database, report, account_id, day)
            on_page(report)
    for first, last, _ in _newest_rows(database):
        _check_rows(database, report, first, last)
        on_page(report)
    _check_statements(database, report, since=None, on_page=on_page)
    return report


def recent(database: Database, *, now: datetime, on_page: Progress = lambda _: None) -> Report:
    """Check the calls of the last days, and whatever was written to the ledger in the last 26 hours."""
    since, report = now - RECENT, Report()
    days: set[tuple[str, date]] = set()
    changed: dict[str, set[int]] = defaultdict(set)
    for first, last, begins in _newest_rows(database):
        _check_rows(database, report, first, last)
        with database.begin() as connection:
            for account_id, session_id, day in connection.execute(_CHANGED, {"first": first, "last": last}):
                changed[account_id].add(session_id)
                days.add((account_id, day))
        on_page(report)
        if begins < since:
            break
    begin = since - _LONGEST_CALL
    for account_id in _account_ids(database):
        for session_ids in _sessions_since(database, account_id, begin):
            changed[account_id].update(session_ids)
        days.update((account_id, day) for day in _every_day(database, account_id, begin=begin))
    for account_id, these in changed.items():
        for some in _in_parts(sorted(these)):
            _check_sessions(database, report, account_id, some)
            on_page(report)
    for account_id, day in sorted(days):
        _check_day(database, report, account_id, day)
        on_page(report)
    _check_statements(database, report, since=since, on_page=on_page)
    return report


def _check_sessions(database: Database, report: Report, account_id: str, session_ids: list[int]) -> None:
    with database.begin() as connection:
        report.add(invariants.of_sessions(connection, account_id, session_ids))
    report.sessions += len(session_ids)


def _check_rows(database: Database, report: Report, first: int, last: int) -> None:
    with database.begin() as connection:
        report.add(invariants.of_rows(connection, first, last))
    report.rows += last - first + 1


def _check_day(database: Database, report: Report, account_id: str, day: date) -> None:
    begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
    with database.begin() as connection:
        report.add(invariants.of_usage(connection, account_id, begin, begin + _DAY))


def _check_statements(database: Database, report: Report, *, since: datetime | None, on_page: Progress) -> None:
    closed = select(statements.c.account_id, statements.c.number).where(statements.c.status == "closed")
    if since is not None:
        closed = closed.where(statements.c.closed_at >= since)
    with database.begin() as connection:
        listed = connection.execute(closed.order_by(statements.c.account_id, statements.c.month)).all()
    for account_id, number in listed:
        with database.begin() as connection:
            connection.execute(_TAKES_ITS_TIME)
            report.add(invariants.of_statement(connection, account_id, number))
        on_page(report)


def _account_ids(database: Database) -> list[str]:
    with database.begin() as connection:
        return list(connection.execute(select(accounts.c.id).order_by(accounts.c.id)).scalars())


def _every_session(database: Database, account_id: str) -> Iterator[list[int]]:
    after = -1
    while True:
        page = (
            select(sessions.c.id)
            .where(sessions.c.account_id == account_id, sessions.c.id > after)
            .order_by(sessions.c.id)
            .limit(_SESSIONS_AT_ONCE)
        )
        with database.begin() as connection:
            found = list(connection.execute(page).scalars())
        if not found:
            return
        yield found
        after = found[-1]


def _sessions_since(database: Database, account_id: str, begin: datetime) -> Iterator[list[int]]:
    place: tuple[datetime, int] = (begin, -1)
    while True:
        with database.begin() as connection:
            found = _page_since(connection, account_id, place)
        if not found:
            return
        yield [row.id for row in found]
        place = (found[-1].rated_at, found[-1].id)


def _page_since(connection: Connection, account_id: str, place: tuple[datetime, int]) -> list[Any]:
    key = (sessions.c.rated_at, sessions.c.id)
    beyond = (sessions.c.rated_at > place[0]) | ((sessions.c.rated_at == place[0]) & (sessions.c.id > place[1]))
    page = (
        select(*key)
        .where(sessions.c.account_id == account_id, sessions.c.terminal_ms.is_not(None))
        .where(sessions.c.rated_at >= place[0], beyond)
        .order_by(*key)
        .limit(_SESSIONS_AT_ONCE)
    )
    return list(connection.execute(page))


def _every_day(database: Database, account_id: str, *, begin: datetime | None = None) -> Iterator[date]:
    """The days (UTC) that have usage or sessions that should be counted."""
    moment = begin or datetime.min.replace(tzinfo=UTC)
    while True:
        with database.begin() as connection:
            found = connection.execute(_NEXT_DAY, {"account": account_id, "begin": moment}).scalar_one()
        if found is None:
            return
        day = found.astimezone(UTC).date()
        yield day
        moment = datetime(day.year, day.month, day.day, tzinfo=UTC) + _DAY


def _newest_rows(database: Database) -> Iterator[tuple[int, int, datetime]]:
    """The ledger in pieces, the newest first: first and last id, and since when."""
    before = 2**63 - 1
    while True:
        with database.begin() as connection:
            first, last, since = connection.execute(_CHUNK, {"before": before, "most": _ROWS_AT_ONCE}).one()
        if first is None:
            return
        yield first, last, since
        before = first


def _in_parts(session_ids: list[int]) -> Iterator[list[int]]:
    left = iter(session_ids)
    while part := list(islice(left, _SESSIONS_AT_ONCE)):
        yield part
