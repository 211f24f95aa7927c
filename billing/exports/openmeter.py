"""OpenMeter's usage events: CloudEvents 1.0 in JSON, a batch of them to `POST /api/v1/events`.

From the CloudEvents specification 1.0 (required attributes `id`, `source`, `specversion`, `type`; the JSON batch format
is `application/cloudevents-batch+json`, all events of a batch distinct by `source` and `id`), openmeter.io/docs and the
sources of openmeterio/openmeter: the answer is 204, an event that is known is dropped without a word, a meter's value
may be a number or text of any sign, and `subject` is the customer. How long ids are known is a setting of OpenMeter's
(`dedupe`: off unless it is switched on, 24 hours with Redis).
"""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import Any, Final

from billing.exports.row import counted_at, identifier, properties
from relay.store.charges import Charge

PATH: Final = "/api/v1/events"
CONTENT_TYPE: Final = "application/cloudevents-batch+json"
# OpenMeter names no limit; this is a request of some 60 KB.
BATCH: Final = 100
# Its default with Redis is 24 hours; an hour less, for clocks that differ.
REMEMBERED: Final = timedelta(hours=23)
# Constant: OpenMeter knows an event by `source` and `id`, and ours are unique by themselves.
SOURCE: Final = "switchhook"


def event(row: Charge, *, customer: str, event_type: str) -> dict[str, Any]:
    """A row as a CloudEvent. `customer` is the subject, `event_type` what a meter listens to."""
    at = counted_at(row).astimezone(UTC).replace(tzinfo=None)
    return {
        "specversion": "1.0",
        "id": identifier(row),
        "source": SOURCE,
        "type": event_type,
        "subject": customer,
        "time": f"{at.isoformat(timespec='milliseconds')}Z",
        "datacontenttype": "application/json",
        "data": properties(row),
    }
