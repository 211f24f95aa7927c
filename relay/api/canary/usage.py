"""Usage as CanaryLLM's clients ask for it: by days, months and models, in UTC.

CanaryLLM documents the envelope and the totals; the rows are ours.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, date, datetime
from typing import Annotated, Final

from pydantic import Field

from billing import reports
from billing.reports import Dimension, Usage, focus, ranges
from billing.reports import Group as Summed
from billing.reports.days import Unit
from billing.reports.ranges import Range
from billing.reports.shown import minutes
from billing.usage import Sums
from relay.api.core.access import Access
from relay.api.core.families import CANARY
from relay.api.core.models import Output, Query
from relay.api.core.operations import Answer, Call, Group
from relay.api.core.tables import CSV, sheet

group = Group(CANARY, tag="CanaryLLM: usage")

_MONTHS: Final = 12
Year = Annotated[int, Field(ge=2000, le=2199, description="This year's, unless it is given.", examples=[2026])]
MonthNumber = Annotated[int, Field(ge=1, le=12, description="This month, unless it is given.", examples=[3])]


class MonthQuery(Query):
    """Which month."""

    year: Year | None = None
    month: MonthNumber | None = None

    @property
    def first(self) -> date:
        """Its first day; the current month's where nothing is given."""
        today = datetime.now(UTC).date()
        return date(self.year or today.year, self.month or today.month, 1)

    @property
    def range(self) -> Range:
        """From its first moment to its last."""
        return ranges.month(self.first.year, self.first.month)


class UsageFigures(Output):
    """Sums. `unrated` of the sessions could not be charged, and are in no `price`."""

    sessions: int
    duration_seconds: float
    billed_seconds: int
    billed_minutes: Annotated[str, Field(examples=["2.05"])]
    price: Annotated[str, Field(examples=["0.205000"])]
    currency: Annotated[str, Field(examples=["USD"])] | None
    unrated: int


class ModelUsage(UsageFigures):
    """What one model came to: the template's `llmModel`, else its `llmProvider`, else the voice provider."""

    model: Annotated[str, Field(examples=["gemini-2.5-flash"])]


class PeriodUsage(UsageFigures):
    """A day (`2026-03-29`) or a month (`2026-03`), and what it is made of."""

    date: Annotated[str, Field(examples=["2026-03-29"])]
    breakdown: list[ModelUsage]


class UsageTotals(Output):
    """A request is a session. No tokens are counted: calls are paid for by their length."""

    total_requests: int
    total_tokens: int
    total_price: float
    currency: Annotated[str, Field(examples=["USD"])] | None
    unrated: int


class MonthOverview(UsageTotals, UsageFigures):
    """A month in one."""

    year: int
    month: int
    models: list[ModelUsage]


@group.operation("GET", "/api/llm/usage", access=Access.READ, answers={200: UsageTotals})
def get_usage(call: Call[None, None]) -> UsageTotals:
    """Sum up the current month."""
    usage = _usage(call, MonthQuery().range)
    return UsageTotals.model_validate(_totals(usage))


@group.operation("GET", "/api/llm/usage/daily", access=Access.READ, query=MonthQuery, answers={200: list[PeriodUsage]})
def list_daily_usage(call: Call[None, MonthQuery]) -> list[PeriodUsage]:
    """List the days of a month up to today, those without sessions too."""
    return _days(call)


@group.operation("GET", "/api/llm/usage/monthly", access=Access.READ, answers={200: list[PeriodUsage]})
def list_monthly_usage(call: Call[None, None]) -> list[PeriodUsage]:
    """List the last twelve months, this one last."""
    this = MonthQuery().range
    first = date(this.begins.year - 1, this.begins.month, 1)
    following = ranges.month(first.year + first.month // 12, first.month % _MONTHS + 1)
    return _rows(call, Range(following.begins, this.ends, this.tz, this.zone), "month")


@group.operation(
    "GET", "/api/portal/usage/daily", access=Access.READ, query=MonthQuery, answers={200: list[PeriodUsage]}
)
def list_portal_daily_usage(call: Call[None, MonthQuery]) -> list[PeriodUsage]:
    """List the days of a month up to today, those without sessions too."""
    return _days(call)


@group.operation(
    "GET", "/api/portal/usage/by-model", access=Access.READ, query=MonthQuery, answers={200: list[ModelUsage]}
)
def list_usage_by_model(call: Call[None, MonthQuery]) -> list[ModelUsage]:
    """List what each model came to in a month."""
    usage = _usage(call, call.query.range, "model")
    return [_model(one, usage.currency) for one in usage.groups]


@group.operation("GET", "/api/portal/overview", access=Access.READ, query=MonthQuery, answers={200: MonthOverview})
def get_overview(call: Call[None, MonthQuery]) -> MonthOverview:
    """Sum up a month, and what each model came to in it."""
    first, usage = call.query.first, _usage(call, call.query.range, "model")
    return MonthOverview.model_validate(
        _totals(usage)
        | _counted(usage.totals, usage.currency)
        | {"year": first.year, "month": first.month}
        | {"models": [_model(one, usage.currency) for one in usage.groups]}
    )


@group.operation(
    "GET", "/api/portal/export/usage", access=Access.READ, query=MonthQuery, answers={200: CSV}, is_wrapped=False
)
def export_usage(call: Call[None, MonthQuery]) -> Answer:
    """Write a month down as CSV, by days and providers, with FOCUS columns."""
    usage = _usage(call, call.query.range, "day", "provider")
    return sheet(focus.usage_table(usage.groups, currency=usage.currency), name=f"usage-{call.query.first:%Y-%m}")


def _usage(call: Call[None, MonthQuery] | Call[None, None], within: Range, *by: Dimension) -> Usage:
    with call.services.database.begin() as connection:
        return reports.usage(connection, account_id=call.account_id, within=within, by=by)


def _days(call: Call[None, MonthQuery]) -> list[PeriodUsage]:
    now = datetime.now(UTC)
    return [row for row in _rows(call, call.query.range, "day") if row.date <= now.date().isoformat()]


def _rows(call: Call[None, MonthQuery] | Call[None, None], within: Range, unit: Unit) -> list[PeriodUsage]:
    usage = _usage(call, within, unit, "model")
    parts: defaultdict[datetime, list[Summed]] = defaultdict(list)
    for one in usage.groups:
        parts[one.period.begins].append(one)
    return [_period(one.date, unit, parts[one.begins], usage.currency) for one in within.periods(unit)]


def _period(day: date, unit: Unit, parts: list[Summed], currency: str | None) -> PeriodUsage:
    whole = Sums()
    for part in parts:
        whole.add(part.sums)
    return PeriodUsage.model_validate(
        _counted(whole, currency)
        | {"date": day.isoformat() if unit == "day" else f"{day:%Y-%m}"}
        | {"breakdown": [_model(part, currency) for part in parts]}
    )


def _model(one: Summed, currency: str | None) -> ModelUsage:
    return ModelUsage.model_validate(_counted(one.sums, currency) | {"model": one.model})


def _counted(sums: Sums, currency: str | None) -> dict[str, object]:
    return {
        "sessions": sums.sessions,
        "duration_seconds": float(sums.duration_seconds),
        "billed_seconds": sums.billed_seconds,
        "billed_minutes": minutes(sums),
        "price": format(sums.amount, ".6f"),
        "currency": currency,
        "unrated": sums.unrated,
    }


def _totals(usage: Usage) -> dict[str, object]:
    return {
        "total_requests": usage.totals.sessions,
        "total_tokens": 0,
        "total_price": float(usage.totals.amount),
        "currency": usage.currency,
        "unrated": usage.totals.unrated,
    }
