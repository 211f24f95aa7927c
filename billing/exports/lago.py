"""Lago's events: up to 100 rows at once, as JSON, to `POST /api/v1/events/batch`.

From Lago's OpenAPI (EventInputObject, EventBatchInput), getlago.com/docs/api-reference/events/batch and the sources of
getlago/lago-api (Events::CreateBatchService): a batch is taken or refused as a whole, with 422 and `error_details` by
the places of the events that it was refused for; `value_already_exist` is a `transaction_id` that Lago has. Its sums
take negative values. `precise_total_amount_cents` is what a charge with the model "dynamic" adds up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from billing.exports.row import counted_at, identifier, minor_units, properties
from billing.exports.verdict import Verdict, by_status_of_batch, decoded
from relay.store.charges import Charge

PATH: Final = "/api/v1/events/batch"
CONTENT_TYPE: Final = "application/json"
BATCH: Final = 100

_REPEATED: Final = "value_already_exist"


def event(row: Charge, *, customer: str, code: str) -> dict[str, Any]:
    """A row as an event. `customer` is the external id of a subscription, `code` that of the billable metric."""
    return {
        "transaction_id": identifier(row),
        "external_subscription_id": customer,
        "code": code,
        "timestamp": f"{counted_at(row).timestamp():.3f}",
        "precise_total_amount_cents": minor_units(row),
        "properties": properties(row),
    }


def batch(events: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The body of a request."""
    return {"events": list(events)}


def verdicts(status: int, body: bytes, count: int) -> list[Verdict]:
    """What an answer means for each of the events that were sent, in their order.

    Where Lago names the events that it refused a batch for, the others may be sent again.
    """
    named = _named(body, count) if status == 422 else {}
    if not named:
        return by_status_of_batch(status, count)
    return [_of(named[place]) if place in named else "again" for place in range(count)]


def _named(body: bytes, count: int) -> dict[int, Any]:
    """What is wrong with which event: `{"0": {"transaction_id": ["value_already_exist"]}}`."""
    details = decoded(body).get("error_details")
    if not isinstance(details, dict):
        return {}
    if count == 1 and "transaction_id" in details:  # as the route for one event says it
        return {0: details}
    return {int(place): what for place, what in details.items() if place.isdecimal() and int(place) < count}


def _of(what: Any) -> Verdict:
    return "repeated" if what == {"transaction_id": [_REPEATED]} else "refused"
