"""What waits is delivered once its endpoint mends: all of it, soon, and no faster than the endpoint can take."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from relay.outbox import keys
from tests.customers import Customer
from tests.receiver import Post, Receiver, Reply
from tests.stack import Stack
from tests.traffic import Traffic
from tests.waiting import eventually

# An open gate asks again within 45 s, and lets one request through until that one is answered.
PROBE_SECONDS = 60
# Far below what one worker does on a busy machine.
AT_LEAST_PER_SECOND = 50
# The most requests in flight that an endpoint may earn, in one worker or many (CAP_MOST in prelude.lua).
MOST_IN_FLIGHT = 64


class CountingReceiver(Receiver):
    """Knows the most requests that it had at one moment, and which events it did not take."""

    def __init__(self) -> None:
        self.most = 0
        self.in_vain: list[str] = []
        self._now = 0
        self._counting = threading.Lock()
        super().__init__()

    def take(self, post: Post) -> Reply:
        with self._counting:
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            reply = super().take(post)
            if reply != 200:
                self.in_vain.append(post.event_id)
            return reply
        finally:
            with self._counting:
                self._now -= 1


@pytest.fixture
def receiver() -> Iterator[CountingReceiver]:
    """A customer's server."""
    it = CountingReceiver()
    yield it
    it.close()


@pytest.mark.parametrize("events", [300, pytest.param(5000, marks=pytest.mark.heavy)])
def test_a_backlog_drains_once_its_endpoint_mends(
    stack: Stack, traffic: Traffic, customer: Customer, receiver: CountingReceiver, events: int
) -> None:
    """The gate spares attempts while it is open; when it closes all that waited goes, at the pace of the cap."""
    outage_seconds = events / 100
    receiver.usual_reply(503)
    stack.start("web", "worker", "worker")
    broke = time.monotonic()
    with traffic.steady(range(events), per_second=150):
        pass
    eventually(lambda: open_gates(stack) == 1, within_seconds=10, what="an open gate")
    time.sleep(max(0.0, broke + outage_seconds - time.monotonic()))
    receiver.usual_reply(200, delay_seconds=0.02)
    mended = time.monotonic()
    eventually(
        lambda: len(receiver.posts) >= len(receiver.in_vain) + events,
        within_seconds=PROBE_SECONDS + events / AT_LEAST_PER_SECOND,
        what="every event",
    )

    # Ten failures open it, eight of a first handful may be under way; then one probe at a time.
    assert len(receiver.in_vain) <= 10 + 8 + 4 + (mended - broke) / 5
    assert receiver.most <= MOST_IN_FLIGHT
    assert len(traffic.accepted) == events
    stack.await_settled(customer)
    assert {delivery.status for delivery in stack.deliveries(customer)} == {"delivered"}
    assert {delivery.event_id for delivery in stack.deliveries(customer) if delivery.attempts > 1} == set(
        receiver.in_vain
    )
    assert stack.scrape()["switchhook_unaccounted_events"] == 0


def test_an_endpoint_that_is_disabled_ends_what_waits_and_takes_again_when_enabled(
    stack: Stack, customer: Customer, receiver: CountingReceiver
) -> None:
    """Nothing ends in silence: each delivery says what became of it."""
    traffic = Traffic(stack, customer, receiver)
    receiver.usual_reply(503)
    stack.start("web", "worker")
    assert traffic.send_all(range(20)) == [200] * 20
    eventually(lambda: open_gates(stack) == 1, within_seconds=10, what="an open gate")

    customer.set_state(traffic.endpoint_id, enabled=False)
    stack.await_settled(customer, within_seconds=30)
    assert fates(stack, customer) == {("dead", "endpoint_disabled"): 20}
    assert traffic.send(20) == 200
    stack.await_settled(customer)
    assert fates(stack, customer) == {("dead", "endpoint_disabled"): 21}

    receiver.usual_reply(200)
    customer.set_state(traffic.endpoint_id, enabled=True)
    assert traffic.send(21) == 200
    stack.await_settled(customer)
    assert fates(stack, customer) == {("dead", "endpoint_disabled"): 21, ("delivered", None): 1}
    assert stack.scrape()["switchhook_unaccounted_events"] == 0
    assert len(stack.charges(customer)) == 22


def open_gates(stack: Stack) -> int:
    """How many endpoints' gates are open."""
    gates = [stack.redis.hget(key, "state") for key in stack.redis.scan_iter(match=keys.gate("*"))]
    return gates.count(b"open")


def fates(stack: Stack, customer: Customer) -> dict[tuple[str, str | None], int]:
    """How many deliveries ended how."""
    counted: dict[tuple[str, str | None], int] = {}
    for delivery in stack.deliveries(customer):
        counted[delivery.status, delivery.code] = counted.get((delivery.status, delivery.code), 0) + 1
    return counted
