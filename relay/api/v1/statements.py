"""Statements: what the account owes for a month, as JSON, as CSV, or as a page to print."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from billing import periods, statements
from billing.statements import Statement as StatementRow
from billing.statements import closing
from billing.statements import table as statement_table
from relay.api import statement_page
from relay.api.core import cursors
from relay.api.core.access import Access
from relay.api.core.families import OURS
from relay.api.core.fields import AccountId, RateCardId, ShownMoment, ShownMoney, ShownName
from relay.api.core.models import Input, Output, Query
from relay.api.core.operations import Answer, Call, Forms, Group, Raw
from relay.api.core.pages import Cursor, Page, page
from relay.api.core.tables import CSV, sheet
from relay.errors import NotFound
from relay.store import rate_cards, server

group = Group(OURS, tag="Statements")

HTML: Final = Raw("text/html; charset=utf-8")
_MONTH: Final = re.compile(r"2[0-9]{3}-(?:0[1-9]|1[0-2])")
# Those that are not closed are made anew each time.
_USUAL_MONTHS: Final = 12
_MOST_MONTHS: Final = 36

State = Literal["open", "draft", "closed"]
Number = Annotated[str, Field(examples=["S-2026-000001"])]
Month = Annotated[str, Field(examples=["2026-02"])]
Currency = Annotated[str, Field(examples=["USD"])]
Digest = Annotated[str, StringConstraints(min_length=64, max_length=64), Field(description="SHA-256, in hex.")]
Class = Literal["Regular", "Correction"]


class StatementsQuery(Query):
    """Which part of the list."""

    limit: Annotated[int, Field(ge=1, le=_MOST_MONTHS, description="At most so many months.")] = _USUAL_MONTHS
    cursor: Cursor | None = None


class FormQuery(Query):
    """In which form."""

    format: Annotated[
        Literal["json", "csv", "html"] | None, Field(description="Whatever is accepted; without it, `Accept` counts.")
    ] = None


class StatementSummary(Output):
    """A month. `number`, `closedAt` and `sha256` are null until it is closed, and for a closed one without charges.

    Until it is closed its total is what it would be `asOf` that moment, with month prices and without what will come.
    """

    account_id: AccountId
    month: Month
    state: State
    number: Number | None
    currency: Currency | None
    total: ShownMoney
    as_of: ShownMoment
    closed_at: ShownMoment | None
    sha256: Digest | None


class StatementLine(Output):
    """Charges that have in common what is paid for, the card, the unit price, the template, the tag and the class.

    A `Correction` is of a month that is closed: `reference` is that statement's number. An amount of 0 with a
    `reason` was not charged, in place of `listAmount`. What a minimum adds, or a maximum takes away, is a `quantity` of
    the currency itself, at 1 or -1.
    """

    line: Annotated[str, Field(examples=["usage"])]
    class_: Annotated[Class, Field(alias="class")]
    reference: Number | None
    rate_card_id: RateCardId | None
    template_id: int | None
    tag: Annotated[str, Field(examples=["my_project"])] | None
    reason: Annotated[str, Field(examples=["own_provider_key"])] | None
    sessions: int
    billed_minutes: Annotated[str, Field(examples=["1.516667"])] | None
    quantity: Annotated[str, Field(examples=["1.516667"])]
    unit_price: ShownMoney
    list_amount: ShownMoney
    amount: ShownMoney


class MonthPrice(Output):
    """What the price of `month` as a whole adds to, or takes off, what its calls were charged one by one."""

    rate_card_id: RateCardId
    month: Month
    class_: Annotated[Class, Field(alias="class")]
    reference: Number | None
    steps: Annotated[list[str], Field(examples=[["100 min, up to 100 x 0.08 = 8"]])]
    amount: ShownMoney


class Credited(Output):
    """A credit note; its amount is below zero."""

    number: Annotated[str, Field(examples=["CN-2026-000001"])]
    reference: Number
    reason: str
    amount: Annotated[str, Field(examples=["-2.500000"])]


class Unrated(Output):
    """Calls of the month that could not be charged when this was made; they are in none of the amounts."""

    reason: Annotated[str, Field(examples=["duration_missing"])]
    sessions: int


class LedgerDigest(Output):
    """What the statement's rows of the ledger come to; the digest is of each session's net position, in order."""

    positions: int
    billed_seconds: int
    amount: ShownMoney
    sha256: Digest


class StatementBody(Output):
    """The text of a statement. Lines, month prices and credit notes add up to the subtotal, and with the rounding to
    the total."""

    version: int
    number: Number | None
    account_id: AccountId
    account_name: ShownName
    month: Month
    currency: Currency | None
    tax: Annotated[str, Field(examples=["not included: all amounts are net of tax"])]
    sessions: int
    billed_seconds: int
    billed_minutes: Annotated[str, Field(examples=["1.516667"])]
    lines: list[StatementLine]
    month_prices: list[MonthPrice]
    credit_notes: list[Credited]
    unrated: list[Unrated]
    subtotal: ShownMoney
    rounding: ShownMoney
    total: ShownMoney
    ledger: LedgerDigest | None


class Statement(StatementSummary):
    """A month with its text. `sha256` is of `statement` as JSON in UTF-8, with the names of each object in the order
    of their letters and without blanks."""

    statement: StatementBody


class Closing(Input):
    """How to close."""

    early: Annotated[bool, Field(description="Do not wait for the end of the draft's 72 hours.")] = False


class ClosedMonth(Output):
    """A month whose statement was made now."""

    month: Month
    number: Number | None
    total: ShownMoney
    currency: Currency | None
    sha256: Digest | None


class Closed(Output):
    """The statements that were made now: of this month, and of earlier ones that were not closed yet."""

    data: list[ClosedMonth]


@group.operation(
    "GET", "/api/v1/statements", access=Access.READ, query=StatementsQuery, answers={200: Page[StatementSummary]}
)
def list_statements(call: Call[None, StatementsQuery]) -> Page[StatementSummary]:
    """List the account's statements, the newest month first.

    Months are calendar months in UTC: open until they are over, then drafts for 72 hours, then closed for good.
    """
    query = call.query
    before = cursors.read(query.cursor, datetime)
    with call.services.database.begin() as connection:
        rows = statements.listed(
            connection,
            call.account_id,
            now=datetime.now(UTC),
            before=None if before is None else periods.month_of(before),
            limit=query.limit + 1,
        )
    return page(rows, query, _summary, place=lambda row: periods.begins(row.month))


@group.operation(
    "GET",
    "/api/v1/statements/<month>",
    access=Access.READ,
    query=FormQuery,
    answers={200: Forms(Statement, CSV, (HTML,))},
)
def get_statement(call: Call[None, FormQuery], month: str) -> Statement | Answer:
    """Show the statement of a month (`2026-02`): as JSON, as CSV with FOCUS columns, or as a page to print.

    Until the month is closed it is provisional, and says so. A closed one never changes. Amounts are net of tax.
    """
    with call.services.database.begin() as connection:
        found = statements.of_month(connection, call.account_id, parsed_month(month), now=datetime.now(UTC))
        cards = rate_cards.of_account(connection, account_id=call.account_id)
    match call.query.format or _accepted(call):
        case "csv":
            return sheet(statement_table.table(found), name=f"{found.number or 'statement'}-{month}")
        case "html":
            html, headers = statement_page.written(found, cards)
            return Answer(html, 200, {"Content-Type": HTML.content_type, **headers})
    return Statement.model_validate(statement_table.shown(found))


@group.operation(
    "POST",
    "/api/v1/accounts/<id:account_id>/statements/<month>/close",
    access=Access.OPERATE,
    body=Closing,
    answers={200: Closed},
    errors=(409,),
    is_slow=True,
)
def close_statement(call: Call[Closing, None], account_id: str, month: str) -> Closed:
    """Close a month, and the ones before it that are not closed yet.

    Months are closed by themselves 72 hours after their end. It takes up to minutes for a million calls; one that was
    broken off goes on when it is asked for again. 409 for a month that is not over, or is a draft and `early` is false.
    """
    with call.services.database.begin() as connection:
        now = server.now(connection)
    done = closing.close(
        call.services.database,
        account_id,
        parsed_month(month),
        actor=call.caller.actor,
        now=now,
        early=call.body.early,
    )
    return Closed(data=[_closed(one) for one in done])


def parsed_month(text: str) -> date:
    """The first day of a month in a path. Raises NotFound for what is none."""
    if not _MONTH.fullmatch(text):
        raise NotFound("name a month as 2026-02")
    return date.fromisoformat(f"{text}-01")


def _accepted(call: Call[None, FormQuery]) -> str:
    return "csv" if call.prefers(CSV) else "html" if call.prefers(HTML) else "json"


def _summary(row: StatementRow) -> StatementSummary:
    return StatementSummary.model_validate(statement_table.summary(row))


def _closed(one: closing.Closed) -> ClosedMonth:
    return ClosedMonth(
        month=f"{one.month:%Y-%m}",
        number=one.number,
        total=f"{one.total:f}",
        currency=one.currency,
        sha256=one.sha256,
    )
