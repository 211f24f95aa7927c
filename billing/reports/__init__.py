"""Reads what was used: the sums of one account over a range, by day, month, tag, template, provider, status or model.

They are made of the sums by quarter-hours, so that they cost what the rows in the range cost, however much the account
or the ledger has besides. Sessions count in the day of the moment that chose their card, once their end was told;
month prices and credit notes are a statement's, and in none of these sums.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, NamedTuple

from sqlalchemy import Connection, RowMapping, text

from billing.reports.days import Stretch
from billing.reports.ranges import Range
from billing.usage import Sums

Dimension = Literal["day", "month", "tag", "template", "provider", "status", "model"]
Status = Literal["completed", "failed"]

_PERIODS: Final = frozenset({"day", "month"})
# What each dimension is in the rows that are summed; and what stands for it where it is not asked for. A template's
# model, or who serves it, is what it says now: the sums know templates, not what these once were.
_KEYS: Final[dict[str, tuple[str, str]]] = {
    "period": ("width_bucket(u.quarter, CAST(:bounds AS timestamptz[]))", "1"),
    "tag": ("u.tag", "''"),
    "template": ("u.template_id", "CAST(0 AS bigint)"),
    "provider": ("u.provider", "''"),
    "status": ("u.status", "''"),
    "model": (
        "COALESCE(NULLIF(t.config ->> 'llmModel', ''), NULLIF(t.config ->> 'llmProvider', ''), u.provider)",
        "''",
    ),
}
_KEY_NAMES: Final = ", ".join(f"k_{name}" for name in _KEYS)
_BEHIND: Final = f"WHERE ({_KEY_NAMES}) > (:a_period, :a_tag, :a_template, :a_provider, :a_status, '')"
_TEMPLATES: Final = "LEFT JOIN templates t ON t.id = u.template_id AND t.account_id = u.account_id"

_FILTERS: Final = ("tag", "template_id", "provider", "status")
# One session as `usage_quarters` counts it (billing.bills.Session.counted).
_SESSION: Final = """(
    SELECT account_id, date_bin('15 minutes', rated_at, '2000-01-01Z') AS quarter, provider,
        COALESCE(template_id, 0) AS template_id, COALESCE(tag, '') AS tag, status, 1 AS sessions,
        CAST(unrated_reason IS NOT NULL AS int) AS unrated, COALESCE(duration_seconds, 0) AS duration_seconds,
        COALESCE(billed_seconds, 0) AS billed_seconds, COALESCE(cost, 0) AS amount,
        COALESCE(list_cost, cost, 0) AS list_amount
    FROM sessions
    WHERE account_id = :account_id AND id = :session_id AND terminal_ms IS NOT NULL AND livemode)"""


class Place(NamedTuple):
    """The last group of a page: the next one begins behind it."""

    begins: datetime
    tag: str
    template_id: int
    provider: str
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which sessions count; None: all. A tag of '' is those without one. `session_id` reads the session itself."""

    tag: str | None = None
    template_id: int | None = None
    provider: str | None = None
    status: Status | None = None
    session_id: int | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """The sums of one group, and what it has in common: '' and 0 are none, also where it is not grouped by that."""

    period: Stretch
    sums: Sums
    tag: str = ""
    template_id: int = 0
    provider: str = ""
    status: str = ""
    model: str = ""

    @property
    def place(self) -> Place:
        """Where it stands in the list."""
        return Place(self.period.begins, self.tag, self.template_id, self.provider, self.status)


@dataclass(frozen=True, slots=True)
class Usage:
    """What was used in a range. `currency` is the account's, None until it has one; money of another there is none of.

    as_of   the moment that the sums are of: what was charged by then is in them, and a call that still waits to be
            charged is not
    groups  in the order of their keys: by day, tag, template, provider, status; with only a day or month in them,
            each has one, also without sessions
    totals  over all groups, whichever page this is
    """

    as_of: datetime
    currency: str | None
    groups: list[Group]
    totals: Sums


def usage(
    connection: Connection,
    *,
    account_id: str,
    within: Range,
    by: Collection[Dimension] = (),
    filters: Filters | None = None,
    after: Place | None = None,
    limit: int | None = None,
) -> Usage:
    """The usage of an account by these dimensions: at most `limit` groups, behind the place `after`.

    Raises BadRequest `range_too_long` where there would be more than 400 days or months.
    """
    by, filters = frozenset(by), filters or Filters()
    periods = _periods(within, by)
    seen = 0 if after is None else bisect_right([one.begins for one in periods], after.begins)
    # A day without sessions has no rows: those of all days are few, and are read whole.
    is_whole = bool(by) and by <= _PERIODS
    given = {"account_id": account_id, "begins": within.begins, "ends": within.ends, "limit": limit}
    given |= {"bounds": [one.begins for one in periods]}
    given |= {name: getattr(filters, name) for name in (*_FILTERS, "session_id")}
    given |= {} if after is None else {"a_period": seen, **{f"a_{name}": value for name, value in _keys_of(after)}}
    statement = text(_written(by, filters, is_whole=is_whole, is_after=after is not None))
    *rows, whole = connection.execute(statement, given).mappings()
    groups = [_group(row, periods) for row in rows]
    if is_whole:
        groups = _filled(groups, periods)[seen:][:limit]
    return Usage(whole["as_of"], whole["currency"], groups, _sums(whole))


def _periods(within: Range, by: frozenset[Dimension]) -> list[Stretch]:
    if by & _PERIODS:
        return within.periods("day" if "day" in by else "month")
    return [Stretch(within.begins.astimezone(within.zone).date(), within.begins, within.ends)]


def _written(by: frozenset[Dimension], filters: Filters, *, is_whole: bool, is_after: bool) -> str:
    """One statement, so that groups and totals are of one moment. The totals are its last row."""
    wanted = [name for name in _KEYS if name in by or (name == "period" and by & _PERIODS)]
    keys = [f"{told if name in wanted else none} AS k_{name}" for name, (told, none) in _KEYS.items()]
    sums = ", ".join(f"COALESCE(sum({name}), 0) AS {name}" for name in Sums.__slots__)
    narrowed = [f"AND u.{name} = :{name}" for name in _FILTERS if getattr(filters, name) is not None]
    part = "" if is_whole else f"{_BEHIND if is_after else ''} ORDER BY {_KEY_NAMES} LIMIT :limit"
    return f"""
        WITH grouped AS (
            SELECT {", ".join(keys)}, {sums}
            FROM {"usage_quarters" if filters.session_id is None else _SESSION} u
                {_TEMPLATES if "model" in wanted else ""}
            WHERE u.account_id = :account_id AND u.quarter >= :begins AND u.quarter < :ends {" ".join(narrowed)}
            {"GROUP BY " + ", ".join(_KEYS[name][0] for name in wanted) if wanted else ""}
        ), page AS (
            SELECT * FROM grouped {part}
        )
        SELECT CAST(NULL AS timestamptz) AS as_of, CAST(NULL AS text) AS currency, page.* FROM page
        UNION ALL
        SELECT statement_timestamp(), (SELECT currency FROM accounts WHERE id = :account_id),
            {", ".join("NULL" for _ in _KEYS)}, {sums}
        FROM grouped
        ORDER BY as_of NULLS FIRST, {_KEY_NAMES}
    """  # noqa: S608  all of it is written in this module


def _keys_of(place: Place) -> Iterable[tuple[str, str | int]]:
    yield from (("tag", place.tag), ("template", place.template_id))
    yield from (("provider", place.provider), ("status", place.status))


def _group(row: RowMapping, periods: Sequence[Stretch]) -> Group:
    return Group(
        periods[row["k_period"] - 1],
        _sums(row),
        tag=row["k_tag"],
        template_id=row["k_template"],
        provider=row["k_provider"],
        status=row["k_status"],
        model=row["k_model"],
    )


def _filled(groups: Iterable[Group], periods: Iterable[Stretch]) -> list[Group]:
    found = {group.period.begins: group for group in groups}
    return [found.get(period.begins) or Group(period, Sums()) for period in periods]


def _sums(row: RowMapping) -> Sums:
    # Postgres adds bigints up to a numeric.
    return Sums(
        sessions=int(row["sessions"]),
        unrated=int(row["unrated"]),
        duration_seconds=row["duration_seconds"],
        billed_seconds=int(row["billed_seconds"]),
        amount=row["amount"],
        list_amount=row["list_amount"],
    )
