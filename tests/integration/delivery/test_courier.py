"""The courier on a real Redis, with a real transport and a receiver on loopback."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis
from elevenlabs.client import ElevenLabs
from retell import Retell
from standardwebhooks import Webhook

from relay.connections import redis_client as connect_redis
from relay.delivery import courier as courier_module
from relay.delivery.load import SLOTS, Load
from relay.delivery.retry import MAX_ATTEMPTS, SCHEDULE
from relay.delivery.transport import Request, Transport
from relay.demo.embedded import EmbeddedRedis, Scratch, start_redis
from relay.outbox import Outbox, Room, keys
from relay.queues import RELAY
from relay.settings import Settings
from tests.couriers import BODY, SIGNING_SECRET, HeldReceiver, Relay
from tests.receiver import Post, Receiver, Reply
from tests.waiting import eventually

_numbers = itertools.count(1)


@pytest.fixture
def relay(redis_client: redis.Redis) -> Iterator[Relay]:
    """A relay that has not begun."""
    relay = Relay(redis_client)
    yield relay
    relay.close()


@pytest.fixture
def receiver(relay: Relay) -> Iterator[Receiver]:
    """A receiver that answers 200. It goes before the courier stops, so that nothing in flight is waited for."""
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def held(relay: Relay) -> Iterator[HeldReceiver]:
    """A receiver that answers when it is let."""
    receiver = HeldReceiver()
    yield receiver
    receiver.close()


def test_delivers_and_leaves_nothing_behind(relay: Relay, receiver: Receiver) -> None:
    """The exact bytes arrive once; then the content is gone and only the marker is left."""
    endpoint_id = relay.endpoint(receiver)
    relay.start()
    event_id = relay.accept(endpoint_id)
    (post,) = receiver.await_posts(1)
    assert post.body == BODY
    assert Webhook(SIGNING_SECRET).verify(post.body, dict(post.headers)) == json.loads(BODY)
    assert (post.headers["x-webhook-secret"], post.headers["switchhook-attempt"]) == ("hush", "1")
    relay.await_settled(accepted=1, delivered=1)
    outcome = relay.await_outcome(event_id)
    assert (outcome.status, outcome.http_status, outcome.number, outcome.code) == ("delivered", 200, 1, None)
    assert relay.client.exists(keys.sealed(event_id), keys.facts(event_id)) == 0
    assert relay.client.get(keys.event(event_id)) == b"1"
    assert relay.settled.is_set()
    assert len(receiver.posts) == 1


def test_delivers_without_a_bell(relay: Relay, receiver: Receiver) -> None:
    """What waits before it starts, and what comes while no bell is rung: it looks by itself every second."""
    endpoint_ids = [relay.endpoint(receiver) for _ in range(10)]
    event_ids = [relay.accept(endpoint_id, rings=False) for endpoint_id in endpoint_ids * 10]
    relay.start()
    relay.await_settled(accepted=100, delivered=100)
    assert relay.idle.wait(5)
    event_ids.append(relay.accept(endpoint_ids[0], rings=False))
    relay.await_settled(accepted=101, delivered=101)
    assert receiver.per_event() == dict.fromkeys(event_ids, 1)


@pytest.mark.parametrize("reply", [500, 302, "reset"])
def test_a_failed_attempt_is_due_again_on_schedule(relay: Relay, receiver: Receiver, reply: Reply) -> None:
    """Five seconds, give or take a fifth; the unit waits in its line with its attempt counted."""
    endpoint_id = relay.endpoint(receiver)
    receiver.usual_reply(reply)
    relay.start()
    event_id = relay.accept(endpoint_id)
    outcome = relay.await_outcome(event_id)
    assert outcome.status == "pending"
    assert outcome.retry_in_ms is not None
    assert 4_000 <= outcome.retry_in_ms <= 6_000
    wait_ms = relay.due_in_ms(endpoint_id, event_id)
    assert wait_ms is not None
    assert outcome.retry_in_ms - 3_000 < wait_ms <= outcome.retry_in_ms
    assert relay.audit().waiting == 1


def test_attempts_follow_the_schedule_until_they_are_used_up(relay: Relay, receiver: Receiver) -> None:
    """Ten attempts with the same id and the same bytes, then dead; its content is kept for a replay."""
    endpoint_id = relay.endpoint(receiver)
    receiver.usual_reply(500)
    relay.start()
    event_id = relay.accept(endpoint_id)
    for number, scheduled in enumerate(SCHEDULE, start=1):
        outcome = relay.await_outcome(event_id, number=number)
        assert (outcome.status, outcome.number, outcome.code) == ("pending", number, "http_500")
        assert outcome.retry_in_ms is not None
        assert 0.8 <= outcome.retry_in_ms / 1000 / scheduled.total_seconds() <= 1.2
        relay.make_due(endpoint_id, event_id)
    last = relay.await_outcome(event_id, number=MAX_ATTEMPTS)
    assert (last.status, last.number, last.code) == ("dead", MAX_ATTEMPTS, "attempts_exhausted")
    relay.await_settled(accepted=1, dead=1)
    posts = receiver.of(event_id)
    assert [post.headers["switchhook-attempt"] for post in posts] == [str(n) for n in range(1, MAX_ATTEMPTS + 1)]
    assert {post.body for post in posts} == {BODY}
    assert relay.client.exists(keys.sealed(event_id)) == 1


def _verify_standard(post: Post) -> None:
    assert "elevenlabs-signature" not in post.headers


def _verify_elevenlabs(post: Post) -> None:
    given = ElevenLabs(api_key="unused").webhooks.construct_event(
        rawBody=post.body.decode(), sig_header=post.headers["elevenlabs-signature"], secret=SIGNING_SECRET
    )
    assert given == json.loads(BODY)


def _verify_retell(post: Post) -> None:
    signature = post.headers["x-retell-signature"]
    client: Any = Retell(api_key="unused")
    assert client.verify(post.body.decode(), SIGNING_SECRET, signature)


@pytest.mark.parametrize(
    ("mode", "provider", "verify"),
    [
        ("standard", "elevenlabs", _verify_standard),
        ("provider", "elevenlabs", _verify_elevenlabs),
        ("provider", "retell", _verify_retell),
    ],
)
def test_the_ninth_attempt_still_proves_itself(
    relay: Relay, receiver: Receiver, mode: str, provider: str, verify: Callable[[Post], None]
) -> None:
    """To the official packages, for each attempt is signed anew."""
    endpoint_id = relay.endpoint(receiver, signing=mode)
    receiver.next_replies(*[503] * 8)
    relay.start()
    event_id = relay.accept(endpoint_id, provider=provider)
    for number in range(1, 9):
        relay.await_outcome(event_id, number=number)
        relay.make_due(endpoint_id, event_id)
    assert relay.await_outcome(event_id, number=9).status == "delivered"
    ninth = receiver.of(event_id)[8]
    assert ninth.headers["switchhook-attempt"] == "9"
    assert Webhook(SIGNING_SECRET).verify(ninth.body, dict(ninth.headers)) == json.loads(BODY)
    verify(ninth)


# -- endpoints that take nothing


@pytest.mark.parametrize(("state", "code"), [("disabled", "endpoint_disabled"), ("gone", "endpoint_gone")])
def test_what_waits_for_an_endpoint_that_takes_nothing_is_dead(
    relay: Relay, receiver: Receiver, state: str, code: str
) -> None:
    """It is settled, never skipped, and nothing is sent."""
    endpoint_id = relay.endpoint(receiver)
    event_ids = [relay.accept(endpoint_id) for _ in range(3)]
    relay.change(endpoint_id, state=state)
    relay.start()
    relay.await_settled(accepted=3, dead=3)
    for event_id in event_ids:
        outcome = relay.await_outcome(event_id)
        assert (outcome.status, outcome.code, outcome.attempted) == ("dead", code, False)
    assert receiver.posts == []


def test_what_waits_for_an_endpoint_that_is_gone_is_dead(relay: Relay, receiver: Receiver) -> None:
    """After a 410 nothing more is sent there, before anybody changed the configuration."""
    endpoint_id = relay.endpoint(receiver)
    receiver.usual_reply(410)
    first = relay.accept(endpoint_id)
    relay.start()
    assert relay.await_outcome(first).code == "endpoint_gone"
    others = [relay.accept(endpoint_id) for _ in range(3)]
    relay.await_settled(accepted=4, dead=4)
    assert {relay.await_outcome(event_id).code for event_id in others} == {"endpoint_gone"}
    assert receiver.per_event() == {first: 1}


def test_an_unknown_endpoint_is_gone(relay: Relay) -> None:
    """Its units end as well."""
    event_id = relay.accept("ep_never")
    relay.start()
    assert relay.await_outcome(event_id).code == "endpoint_gone"


def test_a_misconfigured_endpoint_harms_no_other(relay: Relay, receiver: Receiver) -> None:
    """The courier goes on, and what waits for the bad one waits."""
    bad = relay.endpoint(receiver, signing_secrets=("nothing that signs",))
    good = relay.endpoint(receiver)
    waiting = relay.accept(bad)
    relay.start()
    relay.await_outcome(relay.accept(good))
    eventually(lambda: relay.due_in_ms(bad, waiting), within_seconds=5, what="the unit back in its line")
    assert relay.await_outcome(relay.accept(good)).status == "delivered"
    assert receiver.of(waiting) == []


# -- content that is gone, units that kill


def test_missing_content_is_told_and_a_resend_works(relay: Relay, receiver: Receiver) -> None:
    """The marker goes too, so that the provider's next try is new."""
    endpoint_id = relay.endpoint(receiver)
    event_id = relay.accept(endpoint_id)
    relay.client.delete(keys.sealed(event_id))
    relay.start()
    outcome = relay.await_outcome(event_id)
    assert (outcome.status, outcome.code) == ("content_lost", "content_lost")
    relay.await_settled(accepted=1, lost=1)
    assert relay.client.exists(keys.event(event_id)) == 0
    relay.accept(endpoint_id, event_id=event_id)
    assert relay.await_outcome(event_id, number=2).status == "delivered"
    relay.await_settled(accepted=2, lost=1, delivered=1)


def _die_with(relay: Relay, times: int) -> None:
    """Be a worker that claims the one unit that waits and dies, so often."""
    dying = Outbox(relay.client, lease_ms=1)
    for _ in range(times):
        eventually(
            lambda: dying.claim(RELAY, Room(1), alone=True, content=True).units, within_seconds=5, what="a claim"
        )


def test_a_unit_that_was_claimed_five_times_in_vain_is_set_aside(relay: Relay, receiver: Receiver) -> None:
    """It may have killed its process each time; the others are not affected."""
    endpoint_id = relay.endpoint(receiver)
    poison = relay.accept(endpoint_id)
    _die_with(relay, 5)
    relay.start()
    outcome = relay.await_outcome(poison)
    assert (outcome.status, outcome.code, outcome.attempted) == ("dead", "poison", False)
    assert receiver.posts == []
    assert relay.await_outcome(relay.accept(endpoint_id)).status == "delivered"
    relay.await_settled(accepted=2, dead=1, delivered=1)


def test_a_unit_whose_processes_died_four_times_is_still_delivered(relay: Relay, receiver: Receiver) -> None:
    """Alone, so that it takes nothing with it."""
    event_id = relay.accept(relay.endpoint(receiver))
    _die_with(relay, 4)
    relay.start()
    assert relay.await_outcome(event_id).status == "delivered"


def test_a_suspect_is_not_sent_beside_what_was_claimed_a_moment_ago(
    relay: Relay, held: HeldReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was just claimed has to prove harmless for a second first, though it is not sent yet."""
    sent: dict[str, float] = {}
    start = Transport.start

    def noting(self: Transport, request: Request, ticket: Any) -> None:
        # When it is sent, whatever the receiver's threads need to take it in.
        sent[ticket.claim.event_id] = time.monotonic()
        start(self, request, ticket)

    monkeypatch.setattr(Transport, "start", noting)
    suspect = relay.accept(relay.endpoint(held), rings=False)
    _die_with(relay, 4)
    # More keys than one claim visits, so that the next one follows at once.
    ordinary = [relay.accept(relay.endpoint(held), rings=False) for _ in range(80)]
    relay.start()
    held.await_posts(81)
    before = [sent[event_id] for event_id in ordinary if sent[event_id] < sent[suspect]]
    assert before
    assert sent[suspect] - max(before) > 0.5


# -- no retention


@pytest.mark.parametrize(("reply", "status"), [(200, "delivered"), (500, "dead"), ("reset", "dead"), (410, "dead")])
def test_without_retention_there_is_one_attempt(relay: Relay, receiver: Receiver, reply: Reply, status: str) -> None:
    """Whatever came of it, the content is gone afterwards."""
    endpoint_id = relay.endpoint(receiver, retention_hours=0)
    receiver.usual_reply(reply)
    relay.start()
    event_id = relay.accept(endpoint_id)
    assert relay.await_outcome(event_id).status == status
    relay.await_settled(accepted=1, **{status: 1})
    assert relay.client.exists(keys.sealed(event_id)) == 0
    assert len(receiver.posts) == 1


def test_without_retention_a_crash_in_the_attempt_ends_it(relay: Relay, receiver: Receiver) -> None:
    """The process that died may have sent it: it is dead, not sent again."""
    event_id = relay.accept(relay.endpoint(receiver, retention_hours=0))
    _die_with(relay, 1)
    relay.start()
    assert relay.await_outcome(event_id).code == "attempts_exhausted"
    relay.await_settled(accepted=1, dead=1)
    assert relay.client.exists(keys.sealed(event_id)) == 0
    assert receiver.posts == []


# -- Redis away


@pytest.fixture
def own_redis(scratch: Scratch) -> Iterator[EmbeddedRedis]:
    """A Redis that a test may take away."""
    server = start_redis(scratch, name=f"courier_{next(_numbers)}")
    yield server
    server.stop()


@pytest.mark.parametrize("way", ["killed", "hanging"])
def test_what_was_delivered_while_redis_was_away_is_not_sent_again(own_redis: EmbeddedRedis, way: str) -> None:
    """It is settled when Redis is back, and delivering goes on."""
    with ExitStack() as stack:
        settings = Settings(database_url="", redis_url=own_redis.url, keys="")
        relay = Relay(stack.enter_context(connect_redis(settings)))
        stack.callback(relay.close)
        held = HeldReceiver()
        stack.callback(held.close)
        endpoint_id = relay.endpoint(held)
        relay.start()
        event_ids = [relay.accept(endpoint_id) for _ in range(3)]
        held.await_posts(3)
        take_away, bring_back = {
            "killed": (own_redis.kill, own_redis.start),
            "hanging": (own_redis.pause, own_redis.resume),
        }[way]
        take_away()
        stack.callback(own_redis.stop)
        held.may_answer.set()
        eventually(lambda: relay.outbox.unanswered, within_seconds=10, what="a settle without answer")
        bring_back()
        relay.await_settled(accepted=3, delivered=3)
        assert relay.await_outcome(relay.accept(endpoint_id)).status == "delivered"
        assert all(held.per_event()[event_id] == 1 for event_id in event_ids)


# -- endpoints that hang


def test_an_endpoint_that_hangs_delays_no_other(relay: Relay, receiver: Receiver, held: HeldReceiver) -> None:
    """It gets a few slots; everybody else is delivered while it hangs."""
    slow, quick = relay.endpoint(held, deadline_seconds=50), relay.endpoint(receiver)
    for _ in range(50):
        relay.accept(slow)
    relay.start()
    held.await_posts(8)
    for _ in range(50):
        relay.accept(quick)
    receiver.await_posts(50)
    eventually(lambda: relay.audit().delivered == 50, within_seconds=10, what="50 deliveries")
    audit = relay.audit()
    assert (audit.in_flight, audit.waiting) == (8, 42)
    assert len(held.posts) == 8
    held.may_answer.set()
    relay.await_settled(accepted=100, delivered=100)


def test_endpoints_that_hang_leave_slots_to_those_that_have_answered(
    relay: Relay, receiver: Receiver, held: HeldReceiver
) -> None:
    """More of them than a process has slots: what is on probation gets half."""
    quick = relay.endpoint(receiver)
    relay.start()
    relay.await_outcome(relay.accept(quick))
    for _ in range(200):
        slow = relay.endpoint(held, deadline_seconds=50)
        for _ in range(8):
            relay.accept(slow, rings=False)
    relay.courier.wake()
    eventually(lambda: relay.audit().in_flight >= SLOTS // 2, within_seconds=10, what="half of the slots")
    for _ in range(50):
        relay.accept(quick)
    receiver.await_posts(51)
    assert len(held.posts) <= SLOTS // 2
    held.may_answer.set()
    relay.await_settled(accepted=1651, delivered=1651)


def test_a_full_courier_rings_for_the_others_once_a_second(redis_client: redis.Redis, receiver: Receiver) -> None:
    """Not at each round trip: a bell is a message through the broker, and one wakes whoever has room."""
    bells: list[float] = []
    relay = Relay(redis_client, load=Load(slots=4), on_more=lambda: bells.append(time.monotonic()))
    receiver.usual_reply(200, delay_seconds=0.01)
    endpoint_id = relay.endpoint(receiver)
    for _ in range(200):
        relay.accept(endpoint_id, rings=False)
    began = time.monotonic()
    relay.start()
    relay.await_settled(accepted=200, delivered=200)
    took_seconds = time.monotonic() - began
    relay.close()
    assert 1 <= len(bells) <= took_seconds + 1


# -- stopping


def test_stopping_finishes_what_is_in_flight_and_claims_nothing_more(relay: Relay, held: HeldReceiver) -> None:
    """A rolling restart loses nothing and repeats nothing."""
    endpoint_id = relay.endpoint(held)
    relay.start()
    in_flight = relay.accept(endpoint_id)
    held.await_posts(1)
    eventually(lambda: is_between_looks(relay), within_seconds=30, what="a courier that looks at nothing")
    relay.courier.stop()
    waiting = relay.accept(endpoint_id)
    held.may_answer.set()
    relay.stop()
    audit = relay.audit()
    assert (audit.delivered, audit.waiting, audit.in_flight) == (1, 1, 0)
    assert held.per_event() == {in_flight: 1}
    assert relay.due_in_ms(endpoint_id, waiting) is not None


def is_between_looks(relay: Relay) -> bool:
    """Whether the courier claims nothing now, nor in the next moments unless a bell is rung."""
    courier = relay.courier
    return courier._round_trip is None and courier._next_look > time.monotonic() + 0.5


def test_what_outlasts_the_grace_is_released(
    redis_client: redis.Redis, held: HeldReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once for another worker, without an attempt counted."""
    monkeypatch.setattr(courier_module, "DRAIN_SECONDS", 0.2)
    relay = Relay(redis_client, lease_ms=600_000)
    endpoint_id = relay.endpoint(held, deadline_seconds=60)
    relay.start()
    event_id = relay.accept(endpoint_id)
    held.await_posts(1)
    relay.stop()
    wait_ms = relay.due_in_ms(endpoint_id, event_id)
    assert wait_ms is not None
    assert wait_ms <= 0
    relay.courier.wake()  # a bell that is late disturbs nobody
    assert relay.client.hget(keys.event(event_id), f"n:{RELAY}:{endpoint_id}") == b"0"
    assert relay.outcomes(event_id) == []


def test_stopping_while_redis_is_away_ends_too(own_redis: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be settled is found by the next worker when its lease runs out."""
    monkeypatch.setattr(courier_module, "DRAIN_SECONDS", 0.2)
    with ExitStack() as stack:
        settings = Settings(database_url="", redis_url=own_redis.url, keys="")
        relay = Relay(stack.enter_context(connect_redis(settings)))
        held = HeldReceiver()
        stack.callback(held.close)
        relay.start()
        relay.accept(relay.endpoint(held))
        held.await_posts(1)
        own_redis.kill()
        held.may_answer.set()
        relay.stop()


def test_a_claim_that_came_too_late_is_released_unsent(redis_client: redis.Redis, receiver: Receiver) -> None:
    """A lease that could run out before the answer is settled would mean a second delivery."""
    relay = Relay(redis_client, lease_ms=10_000)
    endpoint_id = relay.endpoint(receiver, deadline_seconds=20)
    event_id = relay.accept(endpoint_id)
    relay.start()
    eventually(relay.settled.is_set, within_seconds=5, what="a release")
    relay.stop()
    assert receiver.posts == []
    assert relay.due_in_ms(endpoint_id, event_id) is not None
