"""Stripe's meter events: one form for each row, to `POST /v1/billing/meter_events`.

From Stripe's OpenAPI and its pages "Create a billing meter event", "Record usage for billing with the API" and
"Configure meters" (docs.stripe.com/api/billing/meter-event/create,
docs.stripe.com/billing/subscriptions/usage-based/recording-usage-api): a value is a whole number and may be negative
("You can also fix incorrectly recorded usage data by recording negative quantities"); the time lies within the past 35
days; an identifier has at most 100 characters and is unique for at least 24 hours; 1,000 calls a second, and one at a
time for each customer and meter. A meter reads its value from the key of the payload that it is configured with: ours
has seconds in `value` and money in `amount_micros`, so the same events serve a meter of either.

An adjustment that cancels an event is not used: it works for 24 hours only, and corrections come later.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from billing.exports.row import counted_at, identifier, millionths, paid_seconds
from billing.exports.verdict import Verdict, by_status, decoded
from relay.store.charges import Charge

PATH: Final = "/v1/billing/meter_events"
CONTENT_TYPE: Final = "application/x-www-form-urlencoded"
# Stripe counts in calendar days; an hour less, for the way there.
OLDEST: Final = timedelta(days=35) - timedelta(hours=1)
# Stripe promises "at least 24 hours"; an hour less, for clocks that differ.
REMEMBERED: Final = timedelta(hours=23)

# What Stripe says of an identifier that it has seen; it has no `code` of its own in version 1 of the API.
_REPEATED: Final = "An event already exists with identifier"
_REPEATED_CODES: Final = frozenset({"duplicate_meter_event"})


def event(row: Charge, *, customer: str, event_name: str) -> dict[str, str]:
    """A row as the fields of a form. `customer` is `cus_...`."""
    return {
        "event_name": event_name,
        "identifier": identifier(row),
        "timestamp": str(int(counted_at(row).timestamp())),
        "payload[stripe_customer_id]": customer,
        "payload[value]": str(paid_seconds(row)),
        "payload[amount_micros]": str(millionths(row)),
        "payload[currency]": row.currency,
        "payload[line]": row.line,
    }


def adds_nothing(row: Charge) -> bool:
    """Whether no sum changes by it: such a row is not sent."""
    return paid_seconds(row) == 0 and row.amount == 0


def is_too_old(row: Charge, now: datetime) -> bool:
    """Whether Stripe would refuse its time."""
    return counted_at(row) < now - OLDEST


def verdict(status: int, body: bytes) -> Verdict:
    """What an answer means for the event that was sent."""
    error = decoded(body).get("error") if status == 400 else None
    if isinstance(error, dict) and (
        str(error.get("message", "")).startswith(_REPEATED) or error.get("code") in _REPEATED_CODES
    ):
        return "repeated"
    return by_status(status)
