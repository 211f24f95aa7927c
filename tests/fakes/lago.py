"""Lago's batches of events for tests, as its OpenAPI and its sources have them: taken or refused as a whole.

It is an HTTP server on a free loopback port: give its `url` to a process as SWITCHHOOK_LAGO_BASE_URL.
"""

from __future__ import annotations

from typing import Any, Final

from tests.fakes.metering import FakeMetering
from tests.fakes.server import Seen

KEY: Final = "lago-key-of-tests"
_MOST: Final = 100


class FakeLago(FakeMetering):
    """The server. `events` are those that it took, by transaction."""

    def __init__(self, key: str = KEY) -> None:
        super().__init__("lago", key=key)

    def take(self, seen: Seen) -> tuple[int, Any]:
        """What Lago makes of a batch."""
        if seen.path != "/api/v1/events/batch":
            return 404, {"status": 404, "error": "Not Found", "code": "resource_not_found"}
        events = seen.body["events"]
        if not 0 < len(events) <= _MOST:
            return 422, _refusal({"events": ["too_many_events"]})
        wrong = {str(place): what for place, event in enumerate(events) if (what := self._wrong(event))}
        if wrong:
            return 422, _refusal(wrong)
        self.events.update({event["transaction_id"]: event for event in events})
        return 200, {"events": events}

    def _wrong(self, event: dict[str, Any]) -> dict[str, list[str]]:
        if event["transaction_id"] in self.events:
            return {"transaction_id": ["value_already_exist"]}
        if not event.get("code"):
            return {"code": ["value_is_mandatory"]}
        if event["external_subscription_id"] in self.strangers:
            return {"external_subscription_id": ["subscription_not_found"]}
        float(event["timestamp"])
        return {}


def _refusal(details: dict[str, Any]) -> dict[str, Any]:
    return {"status": 422, "error": "Unprocessable Entity", "code": "validation_errors", "error_details": details}
