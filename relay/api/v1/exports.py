"""What accounts are called at the billing systems that their charges are sent to."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator, Field, StringConstraints

from relay.api.core.access import Access
from relay.api.core.families import OURS
from relay.api.core.fields import ShownMoment
from relay.api.core.models import Input, Output
from relay.api.core.operations import Call, Group
from relay.calls import MAX_FACT_CHARS
from relay.provisioning.exports import checked_destination
from relay.store import exports, shown
from relay.store.exports import Customer

group = Group(OURS, tag="Exports")

_ONE: Final = "/api/v1/accounts/<id:account_id>/exports/<destination>"


def _printable(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError("must be printable, and not blank")
    return text


class NewExport(Input):
    """What the account is called there: a customer of Stripe's, a subscription's external id, or a subject."""

    customer: Annotated[
        str,
        StringConstraints(min_length=1, max_length=MAX_FACT_CHARS),
        AfterValidator(_printable),
        Field(examples=["cus_QXg1o8vcGmoR32"]),
    ]


class Export(Output):
    """Where the account's charges go, and under which name."""

    destination: Annotated[str, Field(examples=["stripe"])]
    customer: Annotated[str, Field(examples=["cus_QXg1o8vcGmoR32"])]
    created_at: ShownMoment


class ExportState(Export):
    """The same with what is in the queue: `dead` rows are not tried any more."""

    waiting: int
    dead: int
    oldest_at: ShownMoment | None


@group.operation("PUT", _ONE, access=Access.OPERATE, body=NewExport, answers={200: Export})
def put_export(call: Call[NewExport, None], account_id: str, destination: str) -> Export:
    """Send an account's charges to a billing system from now on.

    `destination` is `stripe`, `lago` or `openmeter`; which of them are used, and with which key, are settings. Another
    name for an account holds for what is still waiting, too.
    """
    row = call.provisioning.put_export(account_id=account_id, destination=destination, customer=call.body.customer)
    return Export.model_validate(shown.export(row))


@group.operation("GET", _ONE, access=Access.OPERATE, answers={200: ExportState})
def get_export(call: Call[None, None], account_id: str, destination: str) -> ExportState:
    """Show what an account is called at a billing system, and what waits to be sent there."""
    checked_destination(destination)
    with call.services.database.begin() as connection:
        row = exports.get_customer(connection, account_id=account_id, destination=destination)
        backlogs = {one.destination: one for one in exports.backlogs(connection, account_id=account_id)}
    return _state(row, backlogs)


@group.operation("DELETE", _ONE, access=Access.OPERATE, answers={204: None})
def remove_export(call: Call[None, None], account_id: str, destination: str) -> None:
    """Send no more of an account's charges to a billing system.

    What is still waiting is not sent either.
    """
    call.provisioning.remove_export(account_id=account_id, destination=destination)


def _state(row: Customer, backlogs: dict[str, exports.Backlog]) -> ExportState:
    backlog = backlogs.get(row.destination)
    return ExportState.model_validate(
        shown.export(row)
        | {
            "waiting": backlog.waiting if backlog else 0,
            "dead": backlog.dead if backlog else 0,
            "oldestAt": shown.moment(backlog.oldest_at) if backlog else None,
        }
    )
