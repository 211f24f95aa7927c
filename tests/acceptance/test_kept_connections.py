"""A provider that keeps its connection is answered as fast as one that makes a new one each time."""

from __future__ import annotations

import time
from statistics import median

import requests

from tests.customers import Customer
from tests.payloads import retell_event, retell_headers
from tests.stack import Stack

# A packet that waits for the acknowledgement of the one before it waits 40 ms (tcp(7), TCP_NODELAY).
DELAYED_SECONDS = 0.04


def test_answers_do_not_wait_for_acknowledgements(stack: Stack, customer: Customer) -> None:
    """Webhooks over one connection, in turn with others on connections of their own, which never wait."""
    source = customer.source("retell")
    body = retell_event("call_started", "call_1")
    headers = {"Content-Type": "application/json", **retell_headers(body, source.secret)}
    kept: list[float] = []
    fresh: list[float] = []
    with requests.Session() as keeping, requests.Session() as closing:
        closing.headers["Connection"] = "close"
        for session in (keeping, closing):
            session.trust_env = False
        for _ in range(41):
            for session, took in ((keeping, kept), (closing, fresh)):
                began = time.perf_counter()
                assert session.post(source.url, body, headers=headers, timeout=10).status_code == 200
                took.append(time.perf_counter() - began)
    assert median(kept) < median(fresh) + DELAYED_SECONDS / 2
