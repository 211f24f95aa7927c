"""Targets that cannot be reached, each for another reason: tenants see one code and cannot tell what lies behind it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

import pytest

from relay.directory import Mirror
from relay.sealing import KeyRing
from relay.store import endpoints
from tests.customers import Customer
from tests.payloads import retell_event, retell_headers
from tests.stack import Stack
from tests.waiting import eventually

# What only operators see -> a way to be unreachable.
DETAILS: Final = {
    "refused by the guard": "target_refused",
    "closed": "connect_failed",
    "filtered": "connect_timed_out",
    "unknown": "dns_failed",
}


@pytest.fixture
def urls() -> Iterator[dict[str, str]]:
    """A URL for each way. The worker may not connect to 127.0.0.2, though somebody listens there."""
    with ExitStack() as stack:
        inside = stack.enter_context(socket.create_server(("127.0.0.2", 0)))
        with socket.create_server(("127.0.0.1", 0)) as gone:
            closed = gone.getsockname()[1]
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # fills the backlog: later connections are not even acknowledged, as behind a firewall
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(silent.getsockname())
        yield {
            "refused by the guard": f"http://127.0.0.2:{inside.getsockname()[1]}/",
            "closed": f"http://127.0.0.1:{closed}/",
            "filtered": f"http://127.0.0.1:{silent.getsockname()[1]}/",
            "unknown": f"http://{'x' * 64}.invalid/",  # a label too long for DNS, so that no name server is asked
        }
        inside.setblocking(False)
        with pytest.raises(BlockingIOError):
            inside.accept()


def test_all_ways_to_be_unreachable_look_alike(stack: Stack, customer: Customer, urls: dict[str, str]) -> None:
    """A6: one code, no status, no size, and a text of ours; the reason is for operators."""
    source = customer.source("retell")
    made = {endpoint_at(stack, customer, url, source_id=source.id): name for name, url in urls.items()}
    body = retell_event("call_started", "call_1")
    assert stack.post(source.url, body, retell_headers(body, source.secret)).status_code == 200

    def attempted() -> bool:
        found = stack.deliveries(customer)
        return len(found) == len(made) and all(one.history for one in found)

    eventually(attempted, within_seconds=10, what="an attempt at each")

    for delivery in stack.deliveries(customer):
        first = delivery.history[0]
        assert (delivery.code, first.code, first.http_status, first.response_bytes) == (*["unreachable"] * 2, None, 0)
        assert first.detail == DETAILS[made[delivery.endpoint_id]]


def endpoint_at(stack: Stack, customer: Customer, url: str, *, source_id: str) -> str:
    """An endpoint whose name answered when it was made and does not any more: made past that check; its id."""
    ring = KeyRing(stack.settings.keys)
    with stack.database.begin() as connection:
        made = endpoints.create(
            connection, ring, account_id=customer.id, url=url, source_id=source_id, deadline_seconds=1
        )
    Mirror(stack.redis, ring).publish(stack.database, customer.id)
    return made.id
