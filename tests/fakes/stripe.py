"""Stripe's meter events for tests, as its OpenAPI has them: forms in, one event each, identifiers known for a day.

It is an HTTP server on a free loopback port: give its `url` to a process as SWITCHHOOK_STRIPE_BASE_URL.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any, Final
from urllib.parse import parse_qsl

from tests.fakes.metering import FakeMetering
from tests.fakes.server import Seen

KEY: Final = "rk_test_of_tests"
_DAY_SECONDS: Final = 86_400


class FakeStripe(FakeMetering):
    """The server. `events` are those that it took, by identifier; `busiest` how many of a customer came at once."""

    def __init__(self, key: str = KEY) -> None:
        self.busiest: Counter[str] = Counter()
        self._under_way: Counter[str] = Counter()
        self._counting = threading.Lock()
        # Seconds that it takes over each event.
        self.slowness = 0.0
        super().__init__("stripe", key=key)

    def answer(self, seen: Seen) -> tuple[int, Any]:
        """The status and the JSON body for a request."""
        customer = dict(parse_qsl(seen.body if isinstance(seen.body, str) else "")).get(
            "payload[stripe_customer_id]", ""
        )
        with self._counting:
            self._under_way[customer] += 1
            self.busiest[customer] = max(self.busiest[customer], self._under_way[customer])
        try:
            time.sleep(self.slowness)
            return super().answer(seen)
        finally:
            with self._counting:
                self._under_way[customer] -= 1

    def take(self, seen: Seen) -> tuple[int, Any]:
        """What Stripe makes of a form."""
        if seen.path != "/v1/billing/meter_events":
            return 404, _error("Unrecognized request URL")
        if seen.headers.get("content-type") != "application/x-www-form-urlencoded":
            return 400, _error("Invalid request")
        form = dict(parse_qsl(seen.body, keep_blank_values=True))
        wrong = self._wrong(form)
        if wrong:
            return 400, _error(wrong)
        self.events[form["identifier"]] = form
        return 200, {"object": "billing.meter_event", "identifier": form["identifier"], "livemode": False}

    def _wrong(self, form: dict[str, str]) -> str:
        complaints = {
            "Missing required param": not form.get("event_name") or "payload[stripe_customer_id]" not in form,
            "Invalid string: identifier must be at most 100 characters": len(form["identifier"]) > 100,
            "The value must be a whole number": not form["payload[value]"].removeprefix("-").isdecimal(),
            "The timestamp must be within the past 35 calendar days": not (
                -35 * _DAY_SECONDS < int(form["timestamp"]) - time.time() < 300
            ),
            "No such customer": form["payload[stripe_customer_id]"] in self.strangers,
            f"An event already exists with identifier {form['identifier']}.": form["identifier"] in self.events,
        }
        return next((message for message, is_so in complaints.items() if is_so), "")


def _error(message: str) -> dict[str, Any]:
    return {"error": {"type": "invalid_request_error", "message": message}}
