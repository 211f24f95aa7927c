"""Credit notes: what the operator gives back of a closed statement."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from billing.statements import credit_notes
from billing.statements.credit_notes import CreditNote as CreditNoteRow
from relay.api.core import cursors
from relay.api.core.access import Access
from relay.api.core.families import OURS
from relay.api.core.fields import AccountId, Shaped, ShownMoment, ShownMoney
from relay.api.core.models import Input, Output
from relay.api.core.operations import Call, Group
from relay.api.core.pages import Page, PageQuery, page
from relay.api.v1.statements import parsed_month
from relay.store.pages import Place

group = Group(OURS, tag="Statements")

Words = Annotated[str, StringConstraints(min_length=1, max_length=credit_notes.MAX_CHARS)]


class NewCreditNote(Input):
    """A credit note to be made."""

    month: Annotated[
        str,
        Shaped(r"^2[0-9]{3}-(0[1-9]|1[0-2])$", "must be a month, such as 2026-02"),
        Field(description="Of the closed statement that it gives back of.", examples=["2026-02"]),
    ]
    amount: Annotated[
        str,
        Shaped(r"^[0-9]{1,12}(\.[0-9]{1,6})?$", "must be a decimal, such as 2.50, with at most 6 decimals"),
        Field(description="More than 0, with no more decimals than the currency is paid in.", examples=["2.50"]),
    ]
    reason: Annotated[Words, Field(examples=["An outage on 3 February"])]
    approver: Annotated[
        Words, Field(description="Who approved it: somebody else than who makes it.", examples=["ben@operator.example"])
    ]


class CreditNote(Output):
    """A credit note. It is taken off the statement of the first month that was open when it was made."""

    number: Annotated[str, Field(examples=["CN-2026-000001"])]
    account_id: AccountId
    month: Annotated[str, Field(examples=["2026-02"])]
    reference: Annotated[str, Field(description="The statement's number.", examples=["S-2026-000001"])]
    amount: ShownMoney
    currency: Annotated[str, Field(examples=["USD"])]
    reason: str
    actor: Annotated[str, Field(examples=["operator"])]
    approver: str
    created_at: ShownMoment


@group.operation(
    "POST",
    "/api/v1/accounts/<id:account_id>/credit-notes",
    access=Access.OPERATE,
    body=NewCreditNote,
    answers={201: CreditNote},
    errors=(409,),
)
def create_credit_note(call: Call[NewCreditNote, None], account_id: str) -> CreditNote:
    """Give back a part of a closed statement.

    The statement itself does not change. 404 where that month has no closed statement, 409 `credit_exceeds_statement`
    for more than what is left of its total.
    """
    body = call.body
    note = credit_notes.issue(
        call.services.database,
        account_id,
        parsed_month(body.month),
        amount=body.amount,
        reason=body.reason,
        actor=call.caller.actor,
        approver=body.approver,
    )
    return _shown(note)


@group.operation("GET", "/api/v1/credit-notes", access=Access.READ, query=PageQuery, answers={200: Page[CreditNote]})
def list_credit_notes(call: Call[None, PageQuery]) -> Page[CreditNote]:
    """List the account's credit notes, the oldest first."""
    query = call.query
    with call.services.database.begin() as connection:
        rows = credit_notes.listed(
            connection, account_id=call.account_id, after=cursors.read(query.cursor, Place), limit=query.enough
        )
    return page(rows, query, _shown, place=lambda row: Place(row.created_at, row.number))


def _shown(row: CreditNoteRow) -> CreditNote:
    return CreditNote.model_validate(credit_notes.shown(row))
