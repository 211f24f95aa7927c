"""A provider that keeps its connection is answered as fast as one that makes a new one each time."""

from __future__ import annotations

import time
from statistics import median

from tests.customers import Customer
from tests.payloads import retell_event, retell_headers
from tests.stack import Stack

# A packet that waits for the acknowledgement of the one before it waits 40 ms (tcp(7), TCP_NODELAY).
DELAYED_SECONDS = 0.04


def test_answers_do_not_wait_for_acknowledgements(stack: Stack, customer: Customer) -> None:
    """Webhooks one after another over one connection."""
    source = customer.source("retell")
    body = retell_event("call_started", "call_1")
    headers, took = retell_headers(body, source.secret), []
    for _ in range(41):
        began = time.perf_counter()
        assert stack.post(source.url, body, headers).status_code == 200
        took.append(time.perf_counter() - began)
    assert median(took) < DELAYED_SECONDS / 2
