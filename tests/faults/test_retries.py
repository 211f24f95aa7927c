"""Retries that wait while every worker is killed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pytest

from relay.outbox import keys
from relay.queues import RELAY
from tests.customers import Customer, Inlet
from tests.payloads import retell_event, retell_headers
from tests.receiver import Receiver
from tests.stack import Stack
from tests.waiting import eventually

# Each at an endpoint of its own, so that no breaker opens before the tenth failure.
RETRIES: Final = 100
# The first retry comes 5 s after the failure, give or take a fifth (docs/events.md).
FIRST_WAIT_SECONDS: Final = (4.0, 6.0)
LATE_SECONDS: Final = 2.0


class Waiting:
    """The units that wait in the lines of some endpoints."""

    def __init__(self, stack: Stack, sources: Sequence[Inlet]) -> None:
        self._redis = stack.redis
        self._endpoint_ids = [source.endpoint.id for source in sources if source.endpoint]

    def due(self) -> dict[str, float]:
        """Event -> when it is due, by `time.monotonic()`. Redis' clock is this machine's."""
        # The largest of some: whoever was held up between the two clocks had a smaller one.
        ahead = max(time.monotonic() - time.time() for _ in range(10))
        found: dict[str, float] = {}
        for endpoint_id in self._endpoint_ids:
            scores: Any = self._redis.zrange(keys.line(RELAY, endpoint_id), 0, -1, withscores=True)
            found |= {event_id.decode(): due_ms / 1000 + ahead for event_id, due_ms in scores}
        return found

    def bring_forward(self, seconds: float) -> None:
        """Have each be due in so many seconds: a schedule of days, played in seconds."""
        due_ms = int((time.time() + seconds) * 1000)
        for endpoint_id in self._endpoint_ids:
            waiting: Any = self._redis.zrange(keys.line(RELAY, endpoint_id), 0, -1)
            self._redis.zadd(keys.line(RELAY, endpoint_id), dict.fromkeys(waiting, due_ms), xx=True)
            self._redis.zadd(keys.due(RELAY), {endpoint_id: due_ms})


@pytest.mark.parametrize(
    "retries", [pytest.param(1, marks=pytest.mark.timeout(300)), pytest.param(9, marks=pytest.mark.heavy)]
)
def test_retries_come_once_and_in_time_though_every_worker_is_killed(
    stack: Stack, customer: Customer, receiver: Receiver, retries: int
) -> None:
    """F9: kill -9 while 100 retries wait; each attempt number is sent once, and not before it is due.

    It comes at its due time, or as soon as a worker is back, and 2 s later at most: the new workers take a moment to
    start, and what falls due meanwhile has nobody to send it.

    The heavy run does so before each of nine retries, with waits of up to a day shortened to 6 s.
    """
    sources = [customer.source("retell", relay_url=receiver.url) for _ in range(RETRIES)]
    waiting = Waiting(stack, sources)
    receiver.usual_reply(500)
    stack.start("web")
    send_to_all(stack, sources)
    workers = stack.start("worker", "worker")  # now, so that all fail within less than the first wait

    for number in range(1, retries + 1):
        eventually(
            lambda: len(receiver.posts) == RETRIES * number and len(waiting.due()) == RETRIES,  # noqa: B023
            within_seconds=20,
            what=f"{RETRIES} retries that wait",
        )
        if number > 1:
            waiting.bring_forward(FIRST_WAIT_SECONDS[1])
        due, seen = waiting.due(), time.monotonic()
        for worker in workers:
            worker.kill()
        if number == retries:
            receiver.usual_reply(200)
        workers = stack.start("worker", "worker")
        ready = time.monotonic()
        receiver.await_posts(RETRIES * (number + 1), within_seconds=20)
        sent = attempts(receiver, number + 1)
        assert sent.keys() == due.keys()
        late = max(sent[event_id] - max(due[event_id], ready) for event_id in due)
        early = min(sent[event_id] - due[event_id] for event_id in due)
        assert (early >= 0, late <= LATE_SECONDS) == (True, True), f"{early:.2f} s early, {late:.2f} s late"
        if number == 1:
            failed = attempts(receiver, 1)
            # Between an attempt and the moment at which its retry was seen to wait, the retry was entered.
            assert min(due[event_id] - failed[event_id] for event_id in due) >= FIRST_WAIT_SECONDS[0]
            assert max(due.values()) <= seen + FIRST_WAIT_SECONDS[1]

    # What a killed worker had read and not recorded is read again after some 20 s; what it had claimed and not charged
    # is claimed again when its lease ends, after 60 s.
    stack.await_settled(customer, within_seconds=75)
    numbers = sorted(int(post.headers["switchhook-attempt"]) for post in receiver.posts)
    assert numbers == sorted([*range(1, retries + 2)] * RETRIES)
    assert {(delivery.status, delivery.attempts) for delivery in stack.deliveries(customer)} == {
        ("delivered", retries + 1)
    }
    assert len(stack.charges(customer)) == RETRIES


def send_to_all(stack: Stack, sources: Sequence[Inlet]) -> None:
    """One call's end to each source."""

    def send(numbered: tuple[int, Inlet]) -> int:
        number, source = numbered
        body = retell_event("call_ended", f"call_{number}")
        return stack.post(source.url, body, retell_headers(body, source.secret)).status_code

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(send, enumerate(sources))) == {200}


def attempts(receiver: Receiver, number: int) -> dict[str, float]:
    """Event -> when its attempt of this number came."""
    return {post.event_id: post.at for post in receiver.posts if post.headers["switchhook-attempt"] == str(number)}
