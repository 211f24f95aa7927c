"""What has ended is settled, whatever the courier is doing besides."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from relay.delivery import courier
from tests.couriers import HeldReceiver, Relay
from tests.receiver import Receiver, receiving
from tests.waiting import eventually


@pytest.fixture
def relay(redis_client: redis.Redis) -> Iterator[Relay]:
    """A relay that has not begun."""
    relay = Relay(redis_client)
    yield relay
    relay.close()


@pytest.fixture
def held(relay: Relay) -> Iterator[HeldReceiver]:
    """A receiver that answers when it is let. It goes before the courier stops."""
    receiver = HeldReceiver()
    yield receiver
    receiver.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A customer's server."""
    with receiving() as it:
        yield it


def test_what_ends_just_before_an_idle_look_is_settled(
    relay: Relay, receiver: Receiver, held: HeldReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look takes it along. If it was lost, its lease would run out, and it would be sent again.

    The 5 ms in which a settle waits for others are made long enough for a look to fall into them.
    """
    monkeypatch.setattr(courier, "_SETTLE_SECONDS", 60.0)
    # Longer than the courier lingers after a claim: its next look is an idle one.
    receiver.usual_reply(200, delay_seconds=courier._LINGER_SECONDS + 0.3)
    slow, quick = relay.endpoint(held), relay.endpoint(receiver)
    relay.accept(slow, rings=False)
    relay.accept(quick, rings=False)
    relay.start()
    held.await_posts(1)

    eventually(lambda: relay.audit().delivered == 1, within_seconds=5, what="a settled delivery")

    held.may_answer.set()
    relay.await_settled(accepted=2, delivered=2)
    assert (len(receiver.posts), len(held.posts)) == (1, 1)
