"""How far each provider's list of calls was read, and what one day had there and here.

Whoever reads a list takes it first (`take`): the lease, `busy_until`, is also the token with which it is told how far
that has come, so that one process at a time reads a list and a late one changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, func, literal, select, text, tuple_
from sqlalchemy.dialects.postgresql import INTERVAL, insert

from relay.store.tables import reconciliation_runs, reconciliations

# In place of an account's id: the list that the operator's key opens.
OPERATOR: Final = ""
# It is held again with every page, which is read and mended in less.
LEASE: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A list that this process reads.

    Calls that began before `through` were read; days (UTC) up to `compared_through` were compared.
    """

    account_id: str
    provider: str
    through: datetime
    compared_through: date
    busy_until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """What one account had at one provider on one day (UTC).

    `sessions` are those that have ended by what we know, `provider_sessions` by what the provider lists; `found` are
    those of the latter that we had not heard of until we asked. A day that is not over has only these yet. A currency
    of '' is none.
    """

    account_id: str
    provider: str
    day: date
    sessions: int
    provider_sessions: int
    found: int
    duration_seconds: Decimal
    provider_duration_seconds: Decimal
    amount: Decimal
    currency: str
    provider_cost_usd: Decimal | None
    checked_at: datetime

    @property
    def differs(self) -> bool:
        """Whether what we have is not what the provider lists."""
        ours = (self.sessions, self.duration_seconds)
        return ours != (self.provider_sessions, self.provider_duration_seconds)

    @property
    def margin(self) -> Decimal | None:
        """What was charged beyond the provider's own cost; None where that is not known, or in another currency."""
        if self.provider_cost_usd is None or self.currency != "USD":
            return None
        return self.amount - self.provider_cost_usd


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """What one provider's last day that was compared came to over all accounts.

    `begins` is when it began (Unix seconds); `accounts` have something of it here or there, `differing` of them not the
    same. `provider_cost_usd` and `margin_usd` are of those whose costs the provider tells, and whose money is in USD;
    None where there are none.
    """

    begins: float
    accounts: int
    differing: int
    sessions: int
    provider_sessions: int
    duration_seconds: float
    provider_duration_seconds: float
    provider_cost_usd: float | None
    margin_usd: float | None


def take(
    connection: Connection, *, account_id: str, provider: str, through: datetime, compared_through: date
) -> Run | None:
    """Take a list; None while another process reads it. One that was never read begins with these two."""
    runs = reconciliation_runs.c
    made = insert(reconciliation_runs).values(
        account_id=account_id,
        provider=provider,
        through=through,
        compared_through=compared_through,
        busy_until=_until(),
    )
    is_free = runs.busy_until.is_(None) | (runs.busy_until <= func.now())
    taken = made.on_conflict_do_update(
        index_elements=["account_id", "provider"], set_={"busy_until": _until()}, where=is_free
    )
    return _run(connection.execute(taken.returning(*runs)).mappings().one_or_none())


def read_to(connection: Connection) -> dict[tuple[str, str], datetime]:
    """How far each list was read, by account and provider."""
    runs = reconciliation_runs.c
    rows = connection.execute(select(runs.account_id, runs.provider, runs.through))
    return {(row.account_id, row.provider): row.through for row in rows}


def hold(connection: Connection, run: Run, **progress: Any) -> Run | None:
    """Keep it for longer, and say how far it was read (`through`, `compared_through`); None if the lease was lost."""
    held = reconciliation_runs.update().where(*_this(run)).values(busy_until=_until(), **progress)
    return _run(connection.execute(held.returning(*reconciliation_runs.c)).mappings().one_or_none())


def release(connection: Connection, run: Run) -> None:
    """Others may read it."""
    connection.execute(reconciliation_runs.update().where(*_this(run)).values(busy_until=None))


def add_found(connection: Connection, *, provider: str, found: Mapping[tuple[str, date], int]) -> None:
    """Count calls that we had not heard of, by account and day."""
    for (account_id, day), count in sorted(found.items()):
        row = {"account_id": account_id, "provider": provider, "day": day, "found": count, **_NOTHING}
        added = insert(reconciliations).values(row)
        more = {"found": reconciliations.c.found + added.excluded.found}
        connection.execute(added.on_conflict_do_update(index_elements=_KEY, set_=more))


def put(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> list[Reconciliation]:
    """Write what days came to, in place of what was known of them but what was `found`. Returns them whole."""
    written = []
    for row in rows:
        made = insert(reconciliations).values(**row, found=0)
        new = {name: made.excluded[name] for name in row if name not in _KEY} | {"checked_at": func.now()}
        stored = made.on_conflict_do_update(index_elements=_KEY, set_=new).returning(*reconciliations.c)
        written.append(Reconciliation(**connection.execute(stored).mappings().one()))
    return written


def page(
    connection: Connection,
    *,
    account_id: str | None = None,
    provider: str | None = None,
    since: date | None = None,
    until: date | None = None,
    after: tuple[date, str, str] | None = None,
    limit: int | None = None,
) -> list[Reconciliation]:
    """Days from `since` to before `until`, newest first; `after` is day, account and provider of the last one seen."""
    rows = reconciliations.c
    found = select(reconciliations).order_by(rows.day.desc(), rows.account_id.desc(), rows.provider.desc())
    wanted: list[ColumnElement[bool]] = []
    wanted += [] if account_id is None else [rows.account_id == account_id]
    wanted += [] if provider is None else [rows.provider == provider]
    wanted += [] if since is None else [rows.day >= since]
    wanted += [] if until is None else [rows.day < until]
    wanted += [] if after is None else [tuple_(rows.day, rows.account_id, rows.provider) < after]
    return [Reconciliation(**row) for row in connection.execute(found.where(*wanted).limit(limit)).mappings()]


def compared(connection: Connection) -> dict[str, Compared]:
    """By provider whose lists are still read, what the last day that all of them have compared came to."""
    return {row.pop("provider"): Compared(**row) for row in map(dict, connection.execute(_COMPARED).mappings())}


# The last day that all lists have compared which are still read.
_COMPARED: Final = text("""
    SELECT newest.provider, extract(epoch FROM newest.day::timestamp)::float8 AS begins, count(r.day) AS accounts,
        count(*) FILTER (WHERE (r.sessions, r.duration_seconds) IS DISTINCT FROM
            (r.provider_sessions, r.provider_duration_seconds)) AS differing,
        COALESCE(sum(r.sessions), 0)::bigint AS sessions,
        COALESCE(sum(r.provider_sessions), 0)::bigint AS provider_sessions,
        COALESCE(sum(r.duration_seconds), 0)::float8 AS duration_seconds,
        COALESCE(sum(r.provider_duration_seconds), 0)::float8 AS provider_duration_seconds,
        (sum(r.provider_cost_usd) FILTER (WHERE r.currency = 'USD'))::float8 AS provider_cost_usd,
        (sum(r.amount - r.provider_cost_usd) FILTER (WHERE r.currency = 'USD'))::float8 AS margin_usd
    FROM (SELECT provider, min(compared_through) AS day FROM reconciliation_runs
        WHERE through > now() - make_interval(days => 2) GROUP BY provider) newest
    LEFT JOIN reconciliations r ON r.provider = newest.provider AND r.day = newest.day
    GROUP BY newest.provider, newest.day
""")
_KEY: Final = ("account_id", "provider", "day")
_NOTHING: Final = {
    "sessions": 0,
    "provider_sessions": 0,
    "duration_seconds": 0,
    "provider_duration_seconds": 0,
    "amount": 0,
}


def _this(run: Run) -> tuple[ColumnElement[bool], ...]:
    runs = reconciliation_runs.c
    return runs.account_id == run.account_id, runs.provider == run.provider, runs.busy_until == run.busy_until


def _until() -> ColumnElement[datetime]:
    # Of the clock, not of the transaction's beginning: two leases in a row must differ.
    return func.clock_timestamp() + literal(LEASE, INTERVAL)


def _run(row: Any) -> Run | None:
    return None if row is None else Run(**row)
