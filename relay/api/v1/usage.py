"""Usage: what an account's calls came to, by day, month, tag, template, provider or status."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final, cast, get_args

from pydantic import ConfigDict, Field

from billing import reports
from billing.reports import Dimension, Filters, Place, Usage, focus, ranges, shown
from billing.reports.ranges import Range
from relay.api.core import cursors
from relay.api.core.access import Access
from relay.api.core.families import OURS
from relay.api.core.fields import RowNumber, ShownMoment, ShownMoney
from relay.api.core.models import Output, Query
from relay.api.core.operations import Answer, Call, Forms, Group
from relay.api.core.tables import CSV, Format, Rows, TableCursor, sheet, wants_csv
from relay.errors import BadRequest

group = Group(OURS, tag="Usage")

# A year by days fits on a page.
_USUAL_ROWS: Final = 400
# What a template's model once was is not known: it is for CanaryLLM's paths, which say so.
DIMENSIONS: Final = tuple(name for name in get_args(Dimension) if name != "model")

Zone = Annotated[str, Field(description="A time zone of the IANA database: its days count.", examples=["UTC"])]
_BEGINS: Final = "A date, which is its day in `tz`, or a moment with its offset from UTC, on a quarter of an hour."


class UsageQuery(Query):
    """Which sessions count, and what their sums are by."""

    model_config = ConfigDict(alias_generator=None)

    begins: Annotated[
        str | None,
        Field(alias="from", description=f"{_BEGINS} Without it, the first of the month.", examples=["2026-03-01"]),
    ] = None
    ends: Annotated[
        str | None,
        Field(alias="to", description="The same; it is not part of the range. Without it, the end of today."),
    ] = None
    tz: Zone = "UTC"
    group_by: Annotated[
        str, Field(description=f"One or more of `{'`, `'.join(DIMENSIONS)}`, with commas.", examples=["day"])
    ] = "day"
    tag: Annotated[str | None, Field(max_length=256, description="Only with this tag; empty: without one.")] = None
    template: Annotated[RowNumber | None, Field(description="Only of this template.")] = None
    session: Annotated[RowNumber | None, Field(description="Only this session.")] = None
    status: Annotated[reports.Status | None, Field(description="Only those that ended so.")] = None
    provider: Annotated[str | None, Field(max_length=256, description="Only of this provider.")] = None
    format: Format | None = None
    limit: Rows = _USUAL_ROWS
    cursor: TableCursor | None = None

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """What `group_by` says. Raises BadRequest."""
        names = [name.strip() for name in self.group_by.split(",")]
        if not set(names) <= set(DIMENSIONS):
            text = f"group_by must be of {', '.join(DIMENSIONS)}"
            raise BadRequest(text, code="group_by_unknown", field="group_by")
        return cast("tuple[Dimension, ...]", tuple(dict.fromkeys(names)))

    @property
    def filters(self) -> Filters:
        """Which sessions count."""
        return Filters(
            tag=self.tag,
            template_id=self.template,
            provider=self.provider,
            status=self.status,
            session_id=self.session,
        )


class UsageSums(Output):
    """Sums. `unrated` of the `sessions` could not be charged, and are in none of the money; null as `currency` is an
    account without a rate card."""

    sessions: int
    unrated: int
    duration_seconds: float
    billed_seconds: int
    billed_minutes: Annotated[str, Field(examples=["2.05"])]
    amount: ShownMoney
    list_amount: Annotated[ShownMoney, Field(description="The same, with what was not charged for a reason.")]
    currency: Annotated[str, Field(examples=["USD"])] | None


class UsageGroup(UsageSums):
    """One group, `from` to `to`. What it is not grouped by is null, as is no tag or template."""

    begins: Annotated[ShownMoment, Field(alias="from")]
    ends: Annotated[ShownMoment, Field(alias="to")]
    day: Annotated[str, Field(json_schema_extra={"format": "date"})] | None
    month: Annotated[str, Field(examples=["2026-03"])] | None
    tag: Annotated[str, Field(examples=["my_project"])] | None
    template: int | None
    provider: Annotated[str, Field(examples=["elevenlabs"])] | None
    status: reports.Status | None


class UsageReport(Output):
    """A page of groups, and the totals of all pages. It is of the moment `as_of`."""

    begins: Annotated[ShownMoment, Field(alias="from")]
    ends: Annotated[ShownMoment, Field(alias="to")]
    tz: Zone
    group_by: list[str]
    as_of: Annotated[ShownMoment, Field(alias="as_of")]
    totals: UsageSums
    data: list[UsageGroup]
    next_cursor: str | None


@group.operation("GET", "/api/v1/usage", access=Access.READ, query=UsageQuery, answers={200: Forms(UsageReport, CSV)})
def show_usage(call: Call[None, UsageQuery]) -> UsageReport | Answer:
    """Sum up what was used, as JSON or as CSV with FOCUS columns.

    A session counts once its end was told, in the quarter of an hour in which it began: what is charged within seconds
    of that is in the sums, and a call that still waits for it is not. Month prices and credit notes are in statements
    alone. Grouped by `day` or `month` and nothing else, each has a group, also without sessions. At most 400 days or
    months.
    """
    query = call.query
    by, within = query.dimensions, ranges.read(query.begins, query.ends, query.tz, now=datetime.now(UTC))
    with call.services.database.begin() as connection:
        usage = reports.usage(
            connection,
            account_id=call.account_id,
            within=within,
            by=by,
            filters=query.filters,
            after=cursors.read(query.cursor, Place),
            limit=query.limit + 1,
        )
    return _answer(call, usage, within)


def _answer(call: Call[None, UsageQuery], usage: Usage, within: Range) -> UsageReport | Answer:
    query = call.query
    listed = usage.groups[: query.limit]
    more = cursors.written(listed[-1].place) if len(usage.groups) > len(listed) else None
    if wants_csv(call, query.format):
        return sheet(focus.usage_table(listed, currency=usage.currency), name="usage", more=more)
    page = Usage(usage.as_of, usage.currency, listed, usage.totals)
    return UsageReport.model_validate(shown.report(page, within=within, by=query.dimensions, more=more))
