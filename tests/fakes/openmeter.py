"""OpenMeter's ingestion for tests: batches of CloudEvents 1.0, events that it knows dropped without a word.

It is an HTTP server on a free loopback port: give its `url` to a process as SWITCHHOOK_OPENMETER_BASE_URL.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from tests.fakes.metering import FakeMetering
from tests.fakes.server import Seen

KEY: Final = "om-key-of-tests"
# CloudEvents 1.0, "Required Attributes"; OpenMeter needs a subject as well.
REQUIRED: Final = ("id", "source", "specversion", "type", "subject")
_ATTRIBUTES: Final = {*REQUIRED, "time", "datacontenttype", "data"}


class FakeOpenMeter(FakeMetering):
    """The server. `events` are those that it took, by id."""

    def __init__(self, key: str = KEY) -> None:
        super().__init__("openmeter", key=key)

    def take(self, seen: Seen) -> tuple[int, Any]:
        """What OpenMeter makes of a batch."""
        if seen.path != "/api/v1/events":
            return 404, {"type": "about:blank", "title": "Not Found", "status": 404}
        if seen.headers.get("content-type") != "application/cloudevents-batch+json":
            return 400, {"type": "about:blank", "title": "invalid content type", "status": 400}
        if not all(_is_valid(event) and event["subject"] not in self.strangers for event in seen.body):
            return 400, {"type": "about:blank", "title": "invalid event", "status": 400}
        for event in seen.body:
            self.events.setdefault(event["id"], event)
        return 204, None


def _is_valid(event: dict[str, Any]) -> bool:
    """By CloudEvents 1.0: required attributes are non-empty text, names of others are in lower case, times RFC 3339."""
    if not all(isinstance(event.get(name), str) and event[name] for name in REQUIRED):
        return False
    names = all(name.isalnum() and name.islower() for name in event)
    is_timed = event["time"].endswith("Z") and datetime.fromisoformat(event["time"]) is not None
    return event["specversion"] == "1.0" and names and is_timed and set(event) <= _ATTRIBUTES
