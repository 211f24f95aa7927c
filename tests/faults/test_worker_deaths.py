"""Workers that are killed, stand still, or are asked to end while there is work."""

from __future__ import annotations

import random
import threading

import pytest

from tests.processes import ManagedProcess
from tests.receiver import Receiver
from tests.stack import Stack
from tests.traffic import Traffic
from tests.waiting import eventually

# What a dead worker had claimed is claimed again when its lease ends (relay.outbox.LEASE_MS).
LEASE_SECONDS = 60
# What platforms allow between SIGTERM and SIGKILL.
GRACE_SECONDS = 30
PER_SECOND = 50


def wait_at_random(chance: random.Random, most_seconds: float) -> None:
    """Let a random time pass: the fault is to come at any moment."""
    threading.Event().wait(chance.uniform(0.05, most_seconds))


@pytest.mark.parametrize(
    ("kills", "waits"),
    [pytest.param(5, False, marks=pytest.mark.timeout(300)), pytest.param(20, True, marks=pytest.mark.heavy)],
    ids=["smoke", "heavy"],
)
def test_killed_workers_lose_nothing_and_repeat_only_what_was_in_flight(
    stack: Stack, traffic: Traffic, receiver: Receiver, *, kills: int, waits: bool
) -> None:
    """F1: kill -9 at random moments under load, each time followed by a restart; once more if nothing was in flight.

    The long run waits for the leases of the dead; the short one brings their end forward.
    """
    chance = random.Random(1)
    receiver.usual_reply(200, delay_seconds=0.1)  # so that something is in flight at most moments
    _, worker = stack.start("web", "worker")
    in_flight: list[str] = []  # once for each death: bad luck can meet an event twice
    deaths = 0

    with traffic.flowing(per_second=PER_SECOND) as sent:
        while deaths < kills or not in_flight:
            wait_at_random(chance, 1.5)
            worker.kill()
            in_flight += stack.in_flight()
            if not waits:
                stack.end_leases()
            deaths += 1
            [worker] = stack.start("worker")

    assert len(traffic.accepted) == len(sent)
    traffic.assert_ledgers_agree(within_seconds=LEASE_SECONDS + 15, may_repeat=in_flight)


def test_what_a_frozen_worker_was_told_of_is_delivered_by_the_next(
    stack: Stack, traffic: Traffic, receiver: Receiver
) -> None:
    """F2: the bell reaches a worker that stands still and is then killed; the event does not depend on it."""
    _, worker = stack.start("web", "worker")
    eventually(lambda: waits_on_the_queue(stack), within_seconds=10, what="a worker that waits on its queue")
    worker.pause()

    assert traffic.send(1) == 200
    worker.kill()
    stack.spawn("worker")

    receiver.await_posts(1, within_seconds=10)
    traffic.assert_ledgers_agree()


@pytest.mark.parametrize(("restarts", "events"), [(2, 300), pytest.param(10, 1500, marks=pytest.mark.heavy)])
def test_workers_that_are_replaced_in_turn_repeat_nothing(
    stack: Stack, traffic: Traffic, receiver: Receiver, restarts: int, events: int
) -> None:
    """F17: SIGTERM under load, the next one started before; every worker ends by itself and in time."""
    receiver.usual_reply(200, delay_seconds=0.1)
    _, worker = stack.start("web", "worker")
    ended: list[ManagedProcess] = []

    with traffic.steady(range(events), per_second=PER_SECOND):
        for _ in range(restarts):
            [successor] = stack.start("worker")
            worker.terminate()
            ended.append(worker)
            worker = successor

    assert [process.wait(within_seconds=GRACE_SECONDS) for process in ended] == [0] * restarts
    assert len(traffic.accepted) == events
    traffic.assert_ledgers_agree()


def test_a_worker_ends_in_time_however_often_it_is_asked(stack: Stack) -> None:
    """Platforms repeat SIGTERM, and a signal may come while the one before it is handled."""
    [worker] = stack.start("worker")

    for _ in range(20):
        worker.terminate()

    assert worker.wait(within_seconds=10) == 0


def waits_on_the_queue(stack: Stack) -> bool:
    """Whether some client is blocked in BRPOP."""
    return any(client["cmd"] == "brpop" and "b" in client["flags"] for client in stack.redis.client_list())
