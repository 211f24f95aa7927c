"""Charges: the account's rows of the ledger, each with all that its amount follows from."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Final

from pydantic import ConfigDict, Field

from billing.reports import focus, ranges
from relay.api.core import cursors
from relay.api.core.access import Access
from relay.api.core.families import OURS
from relay.api.core.fields import ProviderName, RateCardId, RowNumber, Shaped, ShownMoment, ShownMoney
from relay.api.core.models import Output, Query
from relay.api.core.operations import Answer, Call, Forms, Group
from relay.api.core.pages import Page, cut
from relay.api.core.tables import CSV, Format, Rows, TableCursor, sheet, wants_csv
from relay.api.v1.usage import Zone
from relay.errors import BadRequest
from relay.store import charge_pages, shown
from relay.store.charge_pages import Place
from relay.store.charges import Charge as ChargeRow
from relay.store.charges import ChargeKind

group = Group(OURS, tag="Usage")

_USUAL_ROWS: Final = 100

Month = Annotated[
    str, Shaped(r"^2[0-9]{3}-(0[1-9]|1[0-2])$", "must be a month, such as 2026-10"), Field(examples=["2026-10"])
]
Exact = Annotated[str, Field(examples=["1.51666666666666666667"])]


class ChargesQuery(Query):
    """Which rows."""

    model_config = ConfigDict(alias_generator=None)

    begins: Annotated[
        str | None,
        Field(alias="from", description="Only of calls that began at this date or moment, or later."),
    ] = None
    ends: Annotated[str | None, Field(alias="to", description="Only of calls that began before this.")] = None
    tz: Zone = "UTC"
    period: Annotated[Month | None, Field(description="Only what counts in the statement of this month (UTC).")] = None
    session: Annotated[RowNumber | None, Field(description="Only of this session.")] = None
    kind: Annotated[ChargeKind | None, Field(description="Only such rows.")] = None
    format: Format | None = None
    limit: Rows = _USUAL_ROWS
    cursor: TableCursor | None = None

    @property
    def month(self) -> date | None:
        """The first day of `period`."""
        return None if self.period is None else date.fromisoformat(f"{self.period}-01")


class Charge(Output):
    """A row of the ledger. `quantity` (to 20 decimals) times `unitPrice` is `exact`, which is rounded to `amount`.

    A charge has a row for each `line`, by `part`; `durationSeconds` and `billedSeconds` are those of the whole charge,
    on each of them. A reversal takes back the charge of its `sequence`. An amount of 0 with a `reason` was not charged,
    in place of `listAmount`. `reference` is the number of a closed statement that this row corrects.
    """

    id: int
    kind: ChargeKind
    line: Annotated[str, Field(examples=["usage"])]
    provider: ProviderName
    conversation_id: Annotated[str, Field(examples=["conv_1"])]
    sequence: int
    part: int
    session_id: int | None
    template_id: int | None
    tag: Annotated[str, Field(examples=["my_project"])] | None
    rate_card_id: RateCardId | None
    started_at: ShownMoment
    duration_seconds: float | None
    billed_seconds: int
    quantity: Exact
    unit_price: ShownMoney
    exact: Exact
    amount: ShownMoney
    list_amount: ShownMoney | None
    currency: Annotated[str, Field(examples=["USD"])]
    reason: Annotated[str, Field(examples=["own_provider_key"])] | None
    steps: Annotated[list[str], Field(examples=[["91 s on 1/1 bills 91 s"]])]
    period: Annotated[str, Field(examples=["2026-10"])]
    reference: str | None
    created_at: ShownMoment


@group.operation(
    "GET", "/api/v1/charges", access=Access.READ, query=ChargesQuery, answers={200: Forms(Page[Charge], CSV)}
)
def list_charges(call: Call[None, ChargesQuery]) -> Page[Charge] | Answer:
    """List the rows of the ledger, those of the newest calls first, as JSON or as CSV with FOCUS columns."""
    query = call.query
    if query.period is not None and (query.begins, query.ends) != (None, None):
        raise BadRequest("give period, or from and to, not both", code="range_ambiguous", field="period")
    begins, ends = ranges.open_ended(query.begins, query.ends, query.tz)
    with call.services.database.begin() as connection:
        rows = charge_pages.page(
            connection,
            account_id=call.account_id,
            begins=begins,
            ends=ends,
            period=query.month,
            session_id=query.session,
            kind=query.kind,
            before=cursors.read(query.cursor, Place),
            limit=query.limit + 1,
        )
    listed, more = cut(rows, query, place=lambda row: Place(row.started_at, row.id))
    if wants_csv(call, query.format):
        return sheet(focus.charge_table(listed), name="charges", more=more)
    return Page(data=[_shown(row) for row in listed], next_cursor=more)


def _shown(row: ChargeRow) -> Charge:
    return Charge.model_validate(shown.charge(row))
