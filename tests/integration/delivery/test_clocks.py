"""A courier on a host whose clock jumps: what it decides is decided by Redis' clock."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import redis

from relay.delivery import courier as courier_module
from tests.couriers import HeldReceiver, Relay

HOUR_SECONDS = 3_600


class JumpingClock:
    """The clocks of a host: `time` with its wall clock, which an operator or NTP may set."""

    def __init__(self) -> None:
        self.ahead_seconds = 0.0

    def time(self) -> float:
        """The wall clock."""
        return time.time() + self.ahead_seconds

    def monotonic(self) -> float:
        """The clock that nobody sets."""
        return time.monotonic()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> JumpingClock:
    """The courier's clock."""
    clock = JumpingClock()
    monkeypatch.setattr(courier_module, "time", clock)
    return clock


@pytest.fixture
def relay(redis_client: redis.Redis, clock: JumpingClock) -> Iterator[Relay]:
    """A courier that runs by this clock."""
    relay = Relay(redis_client)
    yield relay
    relay.close()


@pytest.fixture
def held(relay: Relay) -> Iterator[HeldReceiver]:
    """A receiver that answers when it is let."""
    receiver = HeldReceiver()
    yield receiver
    receiver.close()


@pytest.mark.parametrize("jump_seconds", [HOUR_SECONDS, -HOUR_SECONDS])
def test_a_clock_that_jumps_during_a_request_changes_no_verdict(
    relay: Relay, held: HeldReceiver, clock: JumpingClock, jump_seconds: int
) -> None:
    """F10: an event with half an hour left is neither given up early nor retried at another time."""
    endpoint_id = relay.endpoint(held, retention_hours=1)
    held.usual_reply(500)
    relay.start()
    event_id = relay.accept(endpoint_id)
    held.await_posts(1)
    clock.ahead_seconds = jump_seconds
    held.may_answer.set()
    outcome = relay.await_outcome(event_id)
    assert (outcome.status, outcome.code) == ("pending", "http_500")
    wait_ms = relay.due_in_ms(endpoint_id, event_id)
    assert wait_ms is not None
    assert 0 < wait_ms <= 6_000


@pytest.mark.parametrize("jump_seconds", [HOUR_SECONDS, -HOUR_SECONDS])
def test_a_courier_goes_on_at_once_after_a_jump(
    relay: Relay, held: HeldReceiver, clock: JumpingClock, jump_seconds: int
) -> None:
    """F10: it neither sleeps through the hour nor does anything twice."""
    held.may_answer.set()
    endpoint_id = relay.endpoint(held)
    relay.start()
    before = relay.accept(endpoint_id)
    relay.await_outcome(before)
    clock.ahead_seconds = jump_seconds
    after = [relay.accept(endpoint_id, rings=False) for _ in range(20)]
    relay.await_settled(accepted=21, delivered=21)
    assert held.per_event() == dict.fromkeys([before, *after], 1)
