"""An event whose delivery kills the process that makes it."""

from __future__ import annotations

import queue
import threading
from collections import Counter
from typing import Final

import pytest

from relay.outbox import keys
from relay.outbox.units import POISON_CLAIMS, SUSPECT_CLAIMS
from relay.queues import RELAY
from tests.customers import Customer
from tests.payloads import retell_event, retell_headers
from tests.processes import ManagedProcess
from tests.receiver import Post, Receiver, Reply
from tests.stack import Stack
from tests.traffic import Traffic
from tests.waiting import eventually

PER_SECOND: Final = 20
# What a dead worker had read of the outcomes is left alone for 10 s (relay.outbox.outcomes), and the others look for
# such things every 10 s (workers.record).
ABANDONED_SECONDS: Final = 20


class DeadlyReceiver(Receiver):
    """Kills the worker that sends it anything, before it answers."""

    def __init__(self) -> None:
        self.victim: ManagedProcess | None = None
        self.kills: queue.SimpleQueue[None] = queue.SimpleQueue()
        super().__init__()

    def take(self, post: Post) -> Reply:
        if self.victim is not None:
            self.victim.kill()
            self.kills.put(None)
        return super().take(post)


def is_dead(stack: Stack, customer: Customer) -> bool:
    """Whether the customer's delivery has ended so."""
    return [delivery.status for delivery in stack.deliveries(customer)] == ["dead"]


@pytest.mark.parametrize(
    "fatal_claims",
    [(1, POISON_CLAIMS), pytest.param(tuple(range(1, POISON_CLAIMS + 1)), marks=pytest.mark.heavy)],
    ids=["first and last", "all"],
)
def test_an_event_that_kills_its_process_is_set_aside(
    stack: Stack, traffic: Traffic, customer: Customer, receiver: Receiver, fatal_claims: tuple[int, ...]
) -> None:
    """F16: it takes five workers down and is then `dead` as `poison`; nothing else is lost, altered or billed twice.

    What flew beside it may come once more for each death that it was in. From the third on it flies alone. The short
    run counts three claims in vain as made, between its two deaths.
    """
    deadly = DeadlyReceiver()
    try:
        other = stack.customers.create()
        source = other.source("retell", relay_url=deadly.url)
        assert source.endpoint is not None
        _, deadly.victim = stack.start("web", "worker")
        beside: list[set[str]] = []
        stop = threading.Event()

        def keep_sending() -> None:
            number = 0
            while not stop.wait(1 / PER_SECOND):
                assert traffic.send(number) == 200
                number += 1

        sender = threading.Thread(target=keep_sending, name="sender")
        sender.start()
        try:
            traffic.await_accepted(PER_SECOND)
            body = retell_event("call_ended", "call_poison")
            answer = stack.post(source.url, body, retell_headers(body, source.secret))
            assert answer.status_code == 200
            event, claims = keys.event(answer.json()["id"]), f"c:{RELAY}:{source.endpoint.id}"
            for number in fatal_claims:
                deadly.kills.get(timeout=60)
                beside.append(stack.in_flight())
                assert stack.redis.hget(event, claims) == str(number).encode()
                if number != fatal_claims[-1]:
                    stack.redis.hset(event, claims, fatal_claims[len(beside)] - 1)
                stack.end_leases()
                deadly.victim = stack.spawn("worker")  # known before it can send anything
            eventually(lambda: is_dead(stack, other), within_seconds=30, what="the verdict")
        finally:
            stop.set()
            sender.join()
        for owner in (customer, other):
            stack.await_settled(owner, within_seconds=ABANDONED_SECONDS + 15)
    finally:
        deadly.close()

    [poison] = stack.deliveries(other)
    assert (poison.code, len(deadly.posts)) == ("poison", len(fatal_claims))
    assert len(stack.charges(other)) == 1  # the call took place
    may_repeat = Counter(event_id for in_flight in beside for event_id in in_flight)
    sent = receiver.per_event()
    assert sent.keys() == {one.event_id for one in traffic.accepted}
    assert [event_id for event_id, count in sent.items() if count > 1 + may_repeat[event_id]] == []
    assert {delivery.status for delivery in stack.deliveries(customer)} == {"delivered"}
    assert len(stack.charges(customer)) == len(traffic.accepted)
    alone = [len(flew) for number, flew in zip(fatal_claims, beside, strict=True) if number > SUSPECT_CLAIMS]
    assert set(alone) == {1}
