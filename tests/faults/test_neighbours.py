"""One account whose endpoints all hang, beside accounts that are well."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import Final

import pytest

from relay.outbox import Outbox
from relay.queues import RELAY
from tests.customers import Customer, Inlet
from tests.payloads import retell_event, retell_headers
from tests.receiver import Receiver
from tests.stack import Stack
from tests.waiting import eventually

SENDERS: Final = 16


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything. A baseline below `noise_seconds` counts as that: the machine alone does so much."""

    accounts: int
    endpoints: int
    held_events: int
    deadline_seconds: int
    calls: int
    per_second: float
    noise_seconds: float

    @property
    def held(self) -> int:
        """Deliveries that wait for the account that hangs."""
        return self.endpoints * self.held_events


SMOKE: Final = Size(
    accounts=8, endpoints=20, held_events=25, deadline_seconds=3, calls=210, per_second=80, noise_seconds=0.2
)
FULL: Final = Size(
    accounts=50, endpoints=50, held_events=200, deadline_seconds=15, calls=3_000, per_second=100, noise_seconds=0.05
)


class Neighbours:
    """Accounts that are well: calls sent to them in turn, and how long each took to reach its receiver."""

    def __init__(self, stack: Stack, receiver: Receiver, *, accounts: int) -> None:
        self._stack = stack
        self._receiver = receiver
        self.customers = [stack.customers.create() for _ in range(accounts)]
        self._sources = [customer.source("retell", relay_url=receiver.url) for customer in self.customers]
        self._numbers = itertools.count(1)

    def p99_seconds(self, calls: int, *, per_second: float) -> float:
        """The 99th percentile of the time from sending to arrival, of so many calls at a steady rate.

        The median of three such percentiles: one moment in which the machine was busy elsewhere does not decide.
        """
        return median(self._p99_seconds(calls // 3, per_second=per_second) for _ in range(3))

    def _p99_seconds(self, calls: int, *, per_second: float) -> float:
        sent: dict[str, float] = {}
        began = time.monotonic()
        with ThreadPoolExecutor(SENDERS) as pool:
            for place in range(calls):
                threading.Event().wait(max(0.0, began + place / per_second - time.monotonic()))
                pool.submit(self._send, next(self._numbers), sent)
        eventually(lambda: sent.keys() <= self._receiver.per_event().keys(), within_seconds=30, what="every delivery")
        arrived = {post.event_id: post.at for post in self._receiver.posts}
        lags = sorted(arrived[event_id] - at for event_id, at in sent.items())
        assert len(lags) == calls
        return lags[int(calls * 0.99)]

    def _send(self, number: int, sent: dict[str, float]) -> None:
        at = time.monotonic()
        sent[post_call(self._stack, self._sources[number % len(self._sources)], number)] = at


def post_call(stack: Stack, source: Inlet, number: int) -> str:
    """Post the end of a call; the event's id."""
    body = retell_event("call_ended", f"call_{number}")
    answer = stack.post(source.url, body, retell_headers(body, source.secret))
    assert answer.status_code == 200
    event_id: str = answer.json()["id"]
    return event_id


@pytest.fixture
def hanging_urls() -> Iterator[Sequence[str]]:
    """Servers that take connections and requests, and never say a word."""
    with ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=512)) for _ in range(4)]
        yield [f"http://127.0.0.1:{server.getsockname()[1]}/" for server in servers]


@pytest.mark.parametrize("size", [SMOKE, pytest.param(FULL, marks=pytest.mark.heavy)], ids=["smoke", "full"])
def test_an_account_whose_endpoints_all_hang_delays_no_other(
    stack: Stack, receiver: Receiver, customer: Customer, hanging_urls: Sequence[str], size: Size
) -> None:
    """F15: with 10,000 deliveries waiting for it, the p99 of all others is at most twice what it was before."""
    neighbours = Neighbours(stack, receiver, accounts=size.accounts - 1)
    source = customer.source("retell")
    for url in itertools.islice(itertools.cycle(hanging_urls), size.endpoints):
        customer.endpoint(url, source_id=source.id, deadline_seconds=size.deadline_seconds)
    stack.start("web", "worker")
    neighbours.p99_seconds(3 * size.accounts, per_second=size.per_second)  # connections, caches, first caps
    before = neighbours.p99_seconds(size.calls, per_second=size.per_second)

    for number in range(size.held_events):
        post_call(stack, source, number)
    beside = neighbours.p99_seconds(size.calls, per_second=size.per_second)

    audit = Outbox(stack.redis).audit(RELAY)
    assert audit.waiting + audit.in_flight >= size.held * 0.9, "what should wait has gone"
    assert beside <= 2 * max(before, size.noise_seconds), f"p99 {before * 1000:.0f} ms, then {beside * 1000:.0f} ms"
    assert audit.unaccounted == 0
    for one in neighbours.customers:
        assert {delivery.status for delivery in stack.deliveries(one)} <= {"delivered", "pending"}
