"""Several that work one outbox at once, and a lease that ends while its request is under way: one delivery each."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from relay.demo.embedded import EmbeddedPostgres, Scratch
from relay.outbox import keys
from relay.queues import CHARGE, KICK, RELAY, celery_app
from tests.couriers import HeldReceiver
from tests.customers import Customer
from tests.receiver import Receiver
from tests.stack import Stack, fresh_stack
from tests.traffic import Traffic
from tests.waiting import eventually

PER_SECOND = 100


@pytest.fixture(scope="module")
def stack(
    scratch: Scratch, embedded_postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """A web and two workers: nothing here breaks them."""
    with fresh_stack(scratch, embedded_postgres, logs=tmp_path_factory.mktemp("logs")) as stack:
        stack.start("web", "worker", "worker")
        yield stack


@contextmanager
def commotion(stack: Stack) -> Iterator[None]:
    """Ring every bell again and again, and have every event looked at by the sweep as if its end had come."""
    app, calm = celery_app(stack.settings), threading.Event()

    def ring() -> None:
        while not calm.wait(0.01):
            waiting: Any = stack.redis.zrange(keys.ENDS, 0, -1)
            if waiting:
                stack.redis.zadd(keys.ENDS, dict.fromkeys(waiting, int(time.time() * 1000)), xx=True)
            for task in (KICK, CHARGE):
                app.send_task(task)

    ringing = threading.Thread(target=ring, name="commotion")
    ringing.start()
    try:
        yield
    finally:
        calm.set()
        ringing.join()
        app.close()


@pytest.mark.parametrize("events", [200, pytest.param(3_000, marks=pytest.mark.heavy)])
def test_ticks_and_sweeps_at_once_send_nothing_twice(
    stack: Stack, traffic: Traffic, receiver: Receiver, events: int
) -> None:
    """F22: two workers that are rung a hundred times a second and sweep as often; each event is sent once."""
    receiver.usual_reply(200, delay_seconds=0.02)  # so that units are in flight when somebody looks

    with commotion(stack), traffic.steady(range(events), per_second=PER_SECOND):
        pass

    assert len(traffic.accepted) == events
    traffic.assert_ledgers_agree()


def test_a_lease_that_ends_during_a_slow_request_costs_one_request_more(stack: Stack, customer: Customer) -> None:
    """F22: the receiver has not answered when another claims the unit: two requests, one delivery, one bill."""
    held = HeldReceiver()
    try:
        traffic = Traffic(stack, customer, held)
        assert traffic.send(1) == 200
        [first] = held.await_posts(1)

        [delivery] = eventually(lambda: stack.deliveries(customer), within_seconds=5, what="its record")
        end_lease(stack, delivery.endpoint_id, first.event_id)
        held.await_posts(2)
        with commotion(stack):
            held.may_answer.set()
            traffic.assert_ledgers_agree(may_repeat={first.event_id})
    finally:
        held.close()

    assert [post.event_id for post in held.posts] == [first.event_id] * 2


def end_lease(stack: Stack, endpoint_id: str, event_id: str) -> None:
    """Have the lease of a claimed unit end now, as if its worker had stood still for a minute."""
    now_ms = int(time.time() * 1000)
    stack.redis.zadd(keys.fly(RELAY, endpoint_id), {event_id: now_ms}, xx=True)
    stack.redis.zadd(keys.due(RELAY), {endpoint_id: now_ms})
