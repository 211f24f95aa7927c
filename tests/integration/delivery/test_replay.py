"""Replays by the real courier: what died is delivered after all, once, and Postgres follows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from standardwebhooks import Webhook

from relay.delivery.retry import MAX_ATTEMPTS
from relay.outbox import Outbox, keys
from relay.outbox.outcomes import OutcomeReader
from relay.replay import Answer, Selection, replay
from relay.settings import Settings
from relay.store import deliveries, endpoints
from relay.store.database import Database
from relay.store.deliveries import Delivery
from relay.store.snapshot import EndpointState
from relay.store.tables import accounts
from tests.couriers import ACCOUNT, BODY, RING, SIGNING_SECRET, HeldReceiver, Relay
from tests.receiver import Post
from tests.waiting import eventually
from workers.record import RecordLane


class Recorded:
    """A relay whose outcomes are recorded in Postgres, where its endpoints are too."""

    def __init__(self, relay: Relay, settings: Settings, database: Database) -> None:
        self.relay = relay
        self._settings = settings
        self._database = database
        reader = OutcomeReader(relay.client, consumer="record")
        self._lane = RecordLane(reader, database, on_gone=lambda _, endpoint_id: self.set_state(endpoint_id, "gone"))
        with database.begin() as connection:
            connection.execute(accounts.insert().values(id=ACCOUNT, name="Acme"))

    def endpoint(self, receiver: HeldReceiver) -> str:
        """A new endpoint at the receiver; its id."""
        endpoint_id = self.relay.endpoint(receiver)
        with self._database.begin() as connection:
            endpoints.create(connection, RING, account_id=ACCOUNT, url=receiver.url, endpoint_id=endpoint_id)
        return endpoint_id

    def set_state(self, endpoint_id: str, state: EndpointState) -> None:
        """Disable or enable an endpoint, as provisioning does."""
        with self._database.begin() as connection:
            endpoints.set_state(connection, account_id=ACCOUNT, endpoint_id=endpoint_id, state=state)
        self.relay.change(endpoint_id, state=state)
        if state == "active":
            self.relay.outbox.reopen("relay", endpoint_id)

    def row(self, event_id: str) -> Delivery:
        """The one delivery of an event, as recorded so far."""
        while self._lane.step():
            pass
        with self._database.begin() as connection:
            [row] = deliveries.page(connection, event_id=event_id)
        return row

    def await_row(self, event_id: str, status: str, *, attempts: int) -> Delivery:
        """Wait until it is recorded so."""

        def reached() -> Delivery | None:
            row = self.row(event_id)
            return row if (row.status, row.attempts) == (status, attempts) else None

        found = eventually(reached, within_seconds=15, what=f"{status} after {attempts}")
        assert found is not None
        return found

    def replay(self, event_id: str) -> Answer:
        """What becomes of the wish to replay an event's delivery."""
        outbox, retention = Outbox(self.relay.client), self._settings.retention
        [[done]] = replay(self._database, outbox, Selection(event_id=event_id), retention=retention)
        self.relay.courier.wake()
        return done.answer

    def held_bytes(self) -> int:
        """What the account holds of its quota."""
        return int(self.relay.client.get(keys.held_bytes(ACCOUNT)) or 0)


@pytest.fixture
def recorded(redis_client: redis.Redis, settings: Settings, database: Database) -> Iterator[Recorded]:
    """A relay that has not begun, with its records."""
    relay = Relay(redis_client)
    yield Recorded(relay, settings, database)
    relay.close()


@pytest.fixture
def receiver(recorded: Recorded) -> Iterator[HeldReceiver]:
    """A receiver that can be held, and is not at first."""
    receiver = HeldReceiver()
    receiver.may_answer.set()
    yield receiver
    receiver.close()


def used_up(recorded: Recorded, endpoint_id: str, event_id: str) -> None:
    """Have all attempts but one of a waiting delivery behind it."""
    recorded.relay.client.hset(keys.event(event_id), f"n:relay:{endpoint_id}", MAX_ATTEMPTS - 1)


@pytest.mark.parametrize(
    ("code", "attempts"),
    [("endpoint_gone", 1), ("endpoint_disabled", 0), ("attempts_exhausted", MAX_ATTEMPTS)],
)
def test_what_died_is_delivered_once_it_is_replayed(
    recorded: Recorded, receiver: HeldReceiver, code: str, attempts: int
) -> None:
    """Same id, same bytes, the next attempt; records go from dead to pending to delivered; the quota is free again."""
    relay, endpoint_id = recorded.relay, recorded.endpoint(receiver)
    receiver.usual_reply(410 if code == "endpoint_gone" else 500)
    event_id = relay.accept(endpoint_id)
    size = recorded.held_bytes()
    if code == "endpoint_disabled":
        recorded.set_state(endpoint_id, "disabled")
    if code == "attempts_exhausted":
        used_up(recorded, endpoint_id, event_id)
    relay.start()
    assert recorded.await_row(event_id, "dead", attempts=attempts).code == code
    if code != "attempts_exhausted":
        assert recorded.replay(event_id) == Answer(code)
        recorded.set_state(endpoint_id, "active")

    before = receiver.of(event_id)
    receiver.may_answer.clear()
    receiver.usual_reply(200)
    assert recorded.replay(event_id) is Answer.REPLAYED
    row = recorded.await_row(event_id, "pending", attempts=attempts)
    assert (row.code, row.settled_at) == (None, None)
    assert row.next_attempt_at is not None
    assert recorded.held_bytes() == size
    receiver.may_answer.set()
    row = recorded.await_row(event_id, "delivered", attempts=attempts + 1)

    posts = receiver.of(event_id)
    assert len(posts) == len(before) + 1
    assert {(post.event_id, post.body) for post in posts} == {(event_id, BODY)}
    check_signed(posts[-1])
    assert posts[-1].headers["switchhook-attempt"] == str(attempts + 1)
    assert [attempt.number for attempt in row.history][-1] == attempts + 1
    assert recorded.held_bytes() == 0
    assert relay.client.get(keys.event(event_id)) == b"1"
    relay.await_settled(accepted=2, dead=1, delivered=1)


def check_signed(post: Post) -> None:
    """A replay is signed at its own moment, as every attempt is."""
    Webhook(SIGNING_SECRET).verify(post.body, dict(post.headers))


def test_a_replay_past_the_last_attempt_is_sent_once(recorded: Recorded, receiver: HeldReceiver) -> None:
    """Its attempts were used up: it gets one more, fails, and is dead as before; each further replay the same."""
    relay, endpoint_id = recorded.relay, recorded.endpoint(receiver)
    receiver.usual_reply(500)
    event_id = relay.accept(endpoint_id)
    used_up(recorded, endpoint_id, event_id)
    relay.start()
    for attempts in range(MAX_ATTEMPTS, MAX_ATTEMPTS + 3):
        row = recorded.await_row(event_id, "dead", attempts=attempts)
        assert (row.code, len(receiver.of(event_id))) == ("attempts_exhausted", attempts - MAX_ATTEMPTS + 1)
        assert recorded.replay(event_id) is Answer.REPLAYED
    recorded.await_row(event_id, "dead", attempts=MAX_ATTEMPTS + 3)
    relay.await_settled(accepted=4, dead=4)


def test_a_replay_has_its_whole_schedule_though_its_first_time_is_over(
    recorded: Recorded, receiver: HeldReceiver
) -> None:
    """Long after the end of its event a failed replay is tried again instead of ending as retention_ended."""
    relay, endpoint_id = recorded.relay, recorded.endpoint(receiver)
    receiver.usual_reply(410)
    event_id = relay.accept(endpoint_id)
    relay.start()
    recorded.await_row(event_id, "dead", attempts=1)
    day_ms = 86_400_000
    for name, age_ms in (("t", 5 * day_ms), ("e", day_ms)):
        relay.client.hset(keys.event(event_id), name, relay.now_ms() - age_ms)
    recorded.set_state(endpoint_id, "active")
    receiver.usual_reply(500)
    assert recorded.replay(event_id) is Answer.REPLAYED
    assert recorded.await_row(event_id, "pending", attempts=2).code == "http_500"
    wait_ms = relay.due_in_ms(endpoint_id, event_id)
    assert wait_ms is not None
    assert wait_ms > 60_000  # the second wait of the schedule is five minutes


def test_a_command_that_is_run_again_delivers_once(recorded: Recorded, receiver: HeldReceiver) -> None:
    """Killed after Redis had it, run again while it flies and after it was delivered: one delivery."""
    relay, endpoint_id = recorded.relay, recorded.endpoint(receiver)
    recorded.set_state(endpoint_id, "disabled")
    event_id = relay.accept(endpoint_id)
    relay.start()
    recorded.await_row(event_id, "dead", attempts=0)
    recorded.set_state(endpoint_id, "active")
    receiver.may_answer.clear()
    assert recorded.replay(event_id) is Answer.REPLAYED
    assert recorded.replay(event_id) is Answer.PENDING  # by the outbox: the records still say dead
    receiver.await_posts(1)
    assert recorded.replay(event_id) is Answer.PENDING
    receiver.may_answer.set()
    relay.await_settled(accepted=2, dead=1, delivered=1)
    assert recorded.replay(event_id) is Answer.CONTENT_GONE
    assert recorded.row(event_id).status == "delivered"
    assert recorded.replay(event_id) is Answer.CONTENT_GONE
    assert len(receiver.of(event_id)) == 1
    assert recorded.held_bytes() == 0
