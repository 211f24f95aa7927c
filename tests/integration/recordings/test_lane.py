"""The recordings lane on real servers: each call becomes one event, whatever happens on the way."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import redis

from relay.calls import Facts
from relay.connections import postgres_engine
from relay.connections import redis_client as connect_redis
from relay.delivery.admitting import Admitting
from relay.demo.embedded import EmbeddedPostgres, EmbeddedRedis
from relay.directory import Directory, Mirror
from relay.errors import BodiesFull, TargetRefused, Unavailable
from relay.outbox import Accepted, Claim, Outbox, Room, Settlement, Verb, keys
from relay.outbox.outcomes import OutcomeReader, decode_facts
from relay.queues import BILLING, RECORDINGS, RELAY
from relay.recordings.intake import RecordingIntake
from relay.recordings.measure import Measured
from relay.recordings.request import Assistant, HandedIn
from relay.recordings.schedule import SCHEDULE
from relay.recordings.unmeasured import Interrupted, Unmeasured
from relay.sealing import KeyRing, open_event
from relay.settings import Settings
from relay.store import accounts, charges, endpoints, rate_cards, sessions, tables
from relay.store.database import Database
from relay.store.sessions import Session
from relay.telemetry import logs, metrics
from workers.charge import ChargeLane
from workers.lost import find_lost_recordings
from workers.record import RecordLane
from workers.recordings import LOOK_SECONDS, SLOTS, RecordingLane

LOCATION = "http://127.0.0.1/call.wav?token=hush"
MEASURED = Measured(Decimal("61.500"), "wav")


class Listener:
    """In place of fetching and parsing: gives what it was told, the last of it for good."""

    def __init__(self, *outcomes: Measured | Exception) -> None:
        self.outcomes = list(outcomes)
        self.heard: list[str] = []

    def __call__(self, location: str) -> Measured:
        self.heard.append(location)
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@dataclass
class World:
    """One account with an endpoint, on servers of the test's own."""

    settings: Settings
    client: redis.Redis
    database: Database
    account_id: str
    endpoint_id: str

    def __post_init__(self) -> None:
        self.ring = KeyRing(self.settings.keys)
        self.mirror = Mirror(self.client, self.ring)
        self.outbox = Outbox(self.client)
        self.rung: list[str] = []

    def directory(self) -> Directory:
        """As a new process has it."""
        return Directory(self.mirror, self.ring, self.database)

    def hand_in(self, call_id: str = "call_1") -> bool:
        """As the API does."""
        intake = RecordingIntake(
            self.settings, self.ring, self.directory(), commit=lambda one: self.outbox.accept([one]).verdicts[0]
        )
        handed_in = HandedIn(
            assistant=Assistant(id="agent_1", speaks_first=True, description="Sales"),
            location=LOCATION,
            call_id=call_id,
        )
        return intake.take(self.account_id, handed_in)

    def lane(
        self,
        measure: Callable[[str], Measured],
        *,
        outbox: Outbox | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> RecordingLane:
        """The lane of a new process."""

        def ring_for(accepted: Accepted) -> None:
            self.rung += accepted.rings

        return RecordingLane(
            outbox or self.outbox,
            self.directory(),
            self.ring,
            Admitting(self.settings, self.ring),
            measure,
            database=self.database,
            on_accepted=ring_for,
            clock=clock,
        )

    def make_due(self) -> None:
        """Have what waits for its next try be due now."""
        line = keys.line(RECORDINGS, self.account_id)
        waiting: Any = self.client.zrange(line, 0, -1)
        if waiting:
            self.client.zadd(line, dict.fromkeys(waiting, 2))
            self.client.zadd(keys.due(RECORDINGS), {self.account_id: 2})

    def held_bytes(self) -> int:
        """What counts against the account's quota."""
        held: Any = self.client.get(keys.held_bytes(self.account_id))
        return int(held or 0)

    def deliveries(self) -> list[tuple[Facts, dict[str, Any]]]:
        """What waits for the endpoint: facts and the body."""
        claims = self.outbox.claim(RELAY, Room(50), alone=False, content=True)
        return [self._opened(claim) for claim in claims.units]

    def _opened(self, claim: Claim) -> tuple[Facts, dict[str, Any]]:
        assert claim.sealed is not None
        body = open_event(self.ring, claim.sealed, event_id=claim.event_id, account_id=claim.account_id)
        return decode_facts(claim.facts, event_id=claim.event_id, account_id=claim.account_id), json.loads(body)

    def session(self) -> Session:
        """The one session, once everything that waits is recorded and billed."""
        RecordLane(OutcomeReader(self.client, consumer="test"), self.database, on_gone=lambda *_: None).step()
        ChargeLane(self.outbox, self.database).step()
        with self.database.begin() as connection:
            (session,) = sessions.page(connection, account_id=self.account_id)
        return session

    def amounts(self) -> list[str]:
        """The ledger."""
        with self.database.begin() as connection:
            return [str(charge.amount) for charge in charges.page(connection, account_id=self.account_id)]


@pytest.fixture(scope="module")
def settings(
    embedded_redis: EmbeddedRedis,
    redis_numbers: Iterator[int],
    embedded_postgres: EmbeddedPostgres,
    migrated_template: str,
) -> Iterator[Settings]:
    """Servers of the module's own."""
    number = next(redis_numbers)
    name = f"recordings_{number}_{os.urandom(4).hex()}"
    environ = {
        "DATABASE_URL": embedded_postgres.create_database(name, template=migrated_template),
        "REDIS_URL": embedded_redis.url_of(number),
        "SWITCHHOOK_KEYS": "k" * 40,
        "SWITCHHOOK_ALLOW_HTTP": "1",
        "SWITCHHOOK_EGRESS_ALLOW": "127.0.0.0/8",
    }
    yield Settings.from_environ(environ)
    embedded_postgres.drop_database(name)


@pytest.fixture(scope="module")
def database(settings: Settings) -> Iterator[Database]:
    """The database of the module."""
    database = Database(postgres_engine(settings))
    yield database
    database.close()


@pytest.fixture
def world(settings: Settings, database: Database) -> Iterator[World]:
    """A new account at 0.10 USD a minute with an endpoint for everything, on an empty Redis."""
    ring = KeyRing(settings.keys)
    redis_client = connect_redis(settings)
    redis_client.flushdb()
    with database.begin() as connection:
        account_id = accounts.create(connection, name="Acme").id
        rate_cards.add(connection, account_id, per_minute=Decimal("0.10"))
        endpoint = endpoints.create(connection, ring, account_id=account_id, url="http://127.0.0.1/hook")
    Mirror(redis_client, ring).publish(database, account_id)
    yield World(settings, redis_client, database, account_id, endpoint.id)
    redis_client.close()


def unmeasured(code: str = "unreachable", *, permanent: bool = False) -> Unmeasured:
    return Unmeasured(code, permanent=permanent, detail_code="target_refused")


def seconds_of(client: redis.Redis) -> float:
    """Redis' clock."""
    seconds, micros = client.time()
    return float(seconds + micros / 1_000_000)


def counted(outcome: str) -> float:
    """The metric."""
    value = metrics.REGISTRY.get_sample_value("switchhook_relay_recordings_total", {"outcome": outcome})
    return value or 0.0


def test_a_measured_call_is_charged_and_told(world: World) -> None:
    """Its session is complete, its duration billed, its endpoint told with metadata of ours; its content is gone."""
    before = counted("completed")
    assert world.hand_in()
    lane = world.lane(listener := Listener(MEASURED))
    assert (lane.step(), lane.step()) == (True, False)
    assert listener.heard == [LOCATION]
    [(facts, body)] = world.deliveries()
    assert (facts.call.type, facts.call.event_class) == ("canonical.recording", "complete")
    assert body == {
        "event": "recording",
        "callId": "call_1",
        "assistant": {"id": "agent_1", "speaksFirst": True, "description": "Sales"},
        "status": "completed",
        "durationSeconds": 61.5,
        "format": "wav",
        "code": None,
    }
    session = world.session()
    assert (session.provider, session.conversation_id, session.agent_id) == ("canonical", "call_1", "agent_1")
    assert (session.status, session.duration_seconds, session.failure_code) == ("completed", 61.5, None)
    assert (world.amounts(), str(session.cost)) == (["0.103333"], "0.103333")
    assert world.rung == sorted([RELAY, BILLING], key=world.rung.index)
    audit = world.outbox.audit(RECORDINGS)
    assert (audit.accepted, audit.delivered, audit.waiting, audit.unaccounted) == (1, 1, 0, 0)
    assert counted("completed") == before + 1


def test_the_same_call_twice_is_measured_and_charged_once(world: World) -> None:
    """Before it is measured, and after."""
    lane = world.lane(listener := Listener(MEASURED))
    assert [world.hand_in(), world.hand_in()] == [True, False]
    lane.step()
    assert not world.hand_in()
    assert not lane.step()
    assert len(listener.heard) == 1
    world.session()
    assert world.amounts() == ["0.103333"]


def test_what_dies_before_it_settles_is_measured_again_and_told_once(world: World) -> None:
    """The event is committed, the unit is not settled: the next process finds the event there, and the first wins."""
    impatient = Outbox(world.client, lease_ms=1)
    world.hand_in()
    (claim,) = impatient.claim(RECORDINGS, Room(1), alone=True, content=True).units
    world.lane(Listener(MEASURED), outbox=impatient)._settlement(claim)
    other = Measured(Decimal("9.000"), "wav")
    assert world.lane(Listener(other)).step()
    [(_, body)] = world.deliveries()
    assert body["durationSeconds"] == 61.5
    world.session()
    assert world.amounts() == ["0.103333"]
    assert world.outbox.audit(RECORDINGS).unaccounted == 0


def forget(world: World) -> None:
    """What the outbox does a day after everything was delivered."""
    for claim in world.outbox.claim(RELAY, Room(9), alone=False, content=False).units:
        world.outbox.settle(RELAY, [Settlement(claim, Verb.DONE)])
    markers: Any = world.client.keys(keys.event("*"))
    assert len(markers) == 2
    world.client.delete(*markers)


def test_a_call_that_was_charged_is_a_repeat_for_good(world: World) -> None:
    """A day later its ids are unknown to the outbox; its session knows: nothing is fetched, told or charged again."""
    world.hand_in()
    world.lane(Listener(MEASURED)).step()
    before, told = world.session(), counted("repeated")
    forget(world)
    another = Listener(Measured(Decimal("9.000"), "wav"))
    assert world.hand_in()
    assert world.lane(another).step()
    assert another.heard == []
    assert world.deliveries() == []
    assert (world.session(), world.amounts()) == (before, ["0.103333"])
    assert counted("repeated") == told + 1
    audit = world.outbox.audit(RECORDINGS)
    assert (audit.waiting, audit.unaccounted, world.held_bytes()) == (0, 0, 0)


def test_a_repeat_needs_neither_its_content_nor_a_price(world: World) -> None:
    """Also of a call that was completed and could not be charged: its event was told."""
    with world.database.begin() as connection:
        world.account_id = accounts.create(connection, name="Unpriced").id
        endpoints.create(connection, world.ring, account_id=world.account_id, url="http://127.0.0.1/hook")
    world.mirror.publish(world.database, world.account_id)
    world.hand_in()
    world.lane(Listener(MEASURED)).step()
    assert world.session().unrated_reason == "no_rate_card"
    forget(world)
    world.hand_in()
    world.client.delete(*world.client.keys(keys.sealed("*")))
    assert world.lane(Listener(MEASURED)).step()
    assert world.deliveries() == []
    assert world.session().status == "completed"


def test_a_call_that_was_charged_is_a_repeat_whatever_its_session_says(world: World) -> None:
    """The ledger's row stands."""
    world.hand_in()
    world.lane(Listener(MEASURED)).step()
    world.session()
    with world.database.begin() as connection:
        mine = tables.sessions.c.account_id == world.account_id
        connection.execute(tables.sessions.update().where(mine).values(status="failed"))
    forget(world)
    world.hand_in()
    assert world.lane(listener := Listener(MEASURED)).step()
    assert (listener.heard, world.deliveries(), world.amounts()) == ([], [], ["0.103333"])


def test_a_call_that_failed_is_measured_when_it_is_handed_in_a_day_later(world: World) -> None:
    """It was not charged: nothing contradicts what is found now."""
    world.hand_in()
    world.lane(Listener(unmeasured("not_audio", permanent=True))).step()
    assert world.session().status == "failed"
    forget(world)
    world.hand_in()
    assert world.lane(listener := Listener(MEASURED)).step()
    assert listener.heard == [LOCATION]
    [(_, body)] = world.deliveries()
    assert (body["status"], body["durationSeconds"]) == ("completed", 61.5)
    assert (world.session().status, world.amounts()) == ("completed", ["0.103333"])


def test_another_accounts_call_of_the_same_id_is_no_repeat(world: World) -> None:
    """Ids are the callers' own."""
    world.hand_in()
    world.lane(Listener(MEASURED)).step()
    world.session()
    with world.database.begin() as connection:
        world.account_id = accounts.create(connection, name="Other").id
    world.mirror.publish(world.database, world.account_id)
    world.hand_in()
    assert world.lane(listener := Listener(MEASURED)).step()
    assert listener.heard == [LOCATION]


def test_nothing_is_fetched_while_postgres_is_away(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else knows what was charged: the call waits, and costs no attempt."""
    world.hand_in()
    lane = world.lane(listener := Listener(MEASURED))

    def away(_: Any) -> Any:
        raise Unavailable

    monkeypatch.setattr(Database, "begin", away)
    for _ in range(7):
        lane.expect()
        with pytest.raises(Unavailable):
            lane.step()
    assert listener.heard == []
    monkeypatch.undo()
    lane.expect()
    assert lane.step()
    assert listener.heard == [LOCATION]
    assert world.deliveries()[0][1]["status"] == "completed"


@pytest.mark.parametrize("code", ["not_audio", "too_large", "no_duration"])
def test_what_cannot_be_measured_fails_at_once_and_costs_nothing(world: World, code: str) -> None:
    """The session is failed with its code; no charge, not even of 0, and no alarm that it is unrated."""
    world.hand_in()
    world.lane(Listener(unmeasured(code, permanent=True))).step()
    [(facts, body)] = world.deliveries()
    assert facts.call.ending is not None
    assert (facts.call.ending.status, facts.call.ending.code) == ("failed", code)
    assert (body["status"], body["code"], body["durationSeconds"], body["format"]) == ("failed", code, None, None)
    session = world.session()
    assert (session.status, session.failure_code, session.unrated_reason, session.cost) == ("failed", code, None, None)
    assert world.amounts() == []
    assert world.outbox.audit(RECORDINGS).unaccounted == 0


def test_what_cannot_be_reached_is_tried_again_on_its_schedule(world: World) -> None:
    """Six times; the waits are those of the schedule, and then the call has failed."""
    world.hand_in()
    lane = world.lane(listener := Listener(unmeasured()))
    line = keys.line(RECORDINGS, world.account_id)
    for wait in SCHEDULE:
        before = seconds_of(world.client)
        assert lane.step()
        after = seconds_of(world.client)
        waiting: Any = world.client.zrange(line, 0, -1, withscores=True)
        due = waiting[0][1] / 1000
        assert before + 0.75 * wait.total_seconds() < due < after + 1.25 * wait.total_seconds()
        assert world.deliveries() == []
        world.make_due()
        lane.expect()
    lane.step()
    assert len(listener.heard) == len(SCHEDULE) + 1
    [(_, body)] = world.deliveries()
    assert body["code"] == "unreachable"
    session = world.session()
    assert (session.status, session.failure_code, world.amounts()) == ("failed", "unreachable", [])


def test_a_recording_that_appears_later_is_measured(world: World) -> None:
    """One failure, then the file is there."""
    world.hand_in()
    lane = world.lane(Listener(unmeasured("http_404"), MEASURED))
    lane.step()
    world.make_due()
    lane.expect()
    lane.step()
    assert world.session().status == "completed"
    assert world.amounts() == ["0.103333"]


@pytest.mark.parametrize("error", [Interrupted(), BodiesFull()])
def test_what_is_given_up_for_now_costs_no_attempt(world: World, error: Exception) -> None:
    """A process that ends or is full hands the unit back."""
    world.hand_in()
    lane = world.lane(Listener(error, MEASURED))
    lane.step()
    assert world.outbox.audit(RECORDINGS).waiting == 1
    world.make_due()
    (claim,) = world.outbox.claim(RECORDINGS, Room(1), alone=True, content=False).units
    assert (claim.attempts, claim.claims) == (0, 1)


def test_an_error_of_ours_ends_the_call_as_well(world: World) -> None:
    """Tried like any failure, then told: what was accepted never ends in silence."""
    world.hand_in()
    lane = world.lane(Listener(RuntimeError("a bug")))
    for _ in range(len(SCHEDULE) + 1):
        lane.step()
        world.make_due()
        lane.expect()
    assert [body["code"] for _, body in world.deliveries()] == ["internal_error"]


def test_a_unit_that_took_its_process_down_too_often_is_set_aside(world: World) -> None:
    """Five claims without a settle: it is not fetched again."""
    world.hand_in()
    impatient = Outbox(world.client, lease_ms=1)
    claimed = 0
    while claimed < 5:
        claimed += len(impatient.claim(RECORDINGS, Room(1), alone=True, content=True).units)
    lane = world.lane(listener := Listener(MEASURED))
    while not lane.step():
        lane.expect()
    assert listener.heard == []
    assert [body["code"] for _, body in world.deliveries()] == ["poison"]
    assert world.session().failure_code == "poison"
    assert world.outbox.audit(RECORDINGS).unaccounted == 0


def test_a_call_whose_address_is_gone_has_failed(world: World) -> None:
    """Its retention ended or it was erased: what is known of it is told."""
    world.hand_in()
    (sealed,) = world.client.scan_iter(match=keys.sealed("*"))
    world.client.delete(sealed)
    world.lane(listener := Listener(MEASURED)).step()
    [(_, body)] = world.deliveries()
    assert (listener.heard, body["code"], body["assistant"]) == ([], "content_gone", {"id": "agent_1"})


def test_a_missing_key_holds_the_call_back(world: World) -> None:
    """An operator can mend it: no attempt is used, nothing is told."""
    world.hand_in()
    lane = world.lane(listener := Listener(MEASURED))
    lane._ring = KeyRing("another passphrase, long enough to be taken")
    lane.step()
    audit = world.outbox.audit(RECORDINGS)
    assert (listener.heard, audit.waiting, audit.delivered, world.deliveries()) == ([], 1, 0, [])


def test_a_configuration_that_changes_meanwhile_is_read_again(world: World) -> None:
    """The event goes where the newest configuration says, though this process knew an older one."""
    heard: list[str] = []

    def change(location: str) -> Measured:
        heard.append(location)
        if len(heard) < 2:
            return MEASURED
        with world.database.begin() as connection:
            endpoints.create(connection, world.ring, account_id=world.account_id, url="http://127.0.0.1/other")
        world.mirror.publish(world.database, world.account_id)
        return MEASURED

    lane = world.lane(change)
    for number in range(2):
        world.hand_in(f"call_{number}")
        lane.expect()
        lane.step()
    assert len(world.deliveries()) == 3


def test_redis_that_takes_no_event_gets_its_unit_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Released at once, not at the end of its lease: five of those would look like poison."""
    world.hand_in()
    lane = world.lane(Listener(MEASURED))

    def refuse(*_: Any) -> None:
        raise Unavailable

    with monkeypatch.context() as patch:
        patch.setattr(world.outbox, "accept", refuse)
        with pytest.raises(Unavailable):
            lane.step()
    (claim,) = world.outbox.claim(RECORDINGS, Room(1), alone=True, content=False).units
    assert claim.claims == 1


def test_one_account_has_half_of_the_slots(world: World) -> None:
    """Two recordings that hang leave room for those of others; when one ends, the next goes."""
    for number in range(3):
        world.hand_in(f"call_{number}")
    gate, began = threading.Event(), threading.Semaphore(0)

    def hang(_: str) -> Measured:
        began.release()
        assert gate.wait(10)
        return MEASURED

    lane = world.lane(hang)
    threads = [threading.Thread(target=lane.step) for _ in range(2)]
    for thread in threads:
        thread.start()
        assert began.acquire(timeout=10)
    assert not lane.step()
    gate.set()
    for thread in threads:
        thread.join()
    lane.expect()
    assert lane.step()


def awaited(world: World, *, minutes: int = 60) -> Session:
    """The session of a call that was handed in so long ago."""
    lane = RecordLane(OutcomeReader(world.client, consumer="test"), world.database, on_gone=lambda *_: None)
    lane.step()  # makes the group
    lane.step()
    with world.database.begin() as connection:
        aged = tables.sessions.update().where(tables.sessions.c.account_id == world.account_id)
        connection.execute(aged.values(created_at=datetime.now(UTC) - timedelta(minutes=minutes)))
    return world.session()


def test_a_recording_that_redis_has_lost_is_told(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Its session has failed, with an alarm; handed in again, the call is measured and charged after all."""
    find_lost_recordings(world.client, world.database)  # what other tests have left
    world.hand_in()
    assert awaited(world).status == "active"
    world.client.flushdb()
    logs.configure("INFO")
    assert find_lost_recordings(world.client, world.database) == 1
    session = world.session()
    assert (session.status, session.failure_code, session.cost) == ("failed", "recording_lost", None)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    told = [line for line in lines if line["event"] == "recording_lost"]
    assert [(line["level"], line["account_id"], line["count"]) for line in told] == [("error", world.account_id, 1)]
    assert find_lost_recordings(world.client, world.database) == 0

    assert world.hand_in()
    world.lane(Listener(MEASURED)).step()
    session = world.session()
    assert (session.status, session.failure_code, len(world.amounts())) == ("completed", None, 1)


@pytest.mark.parametrize("step", ["waits", "measured", "young", "behind"])
def test_a_recording_that_is_on_its_way_is_not_lost(world: World, step: str) -> None:
    """It waits in its lane, for its bill, or for its record; and what is young may not be anywhere yet."""
    find_lost_recordings(world.client, world.database)  # what other tests have left
    world.hand_in()
    awaited(world, minutes=5 if step == "young" else 60)
    if step == "measured":
        world.lane(Listener(MEASURED)).step()
        for name in world.client.scan_iter(match="sw:event:*"):
            if world.client.type(name) == b"string":
                world.client.delete(name)  # what is settled is remembered for a day
    elif step != "waits":
        world.client.flushdb()
    if step == "behind":
        old = datetime.now(UTC) - timedelta(hours=1)
        world.client.xadd(keys.OUTCOMES, {"o": b"whatever"}, id=f"{int(old.timestamp() * 1000)}-1")
    assert find_lost_recordings(world.client, world.database) == 0


def test_an_idle_minute_costs_redis_60_commands_at_most(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many threads wait they share their looks, and what comes is found by the next of them."""
    asked: list[str] = []
    is_due = world.outbox.is_due

    def counted_is_due(lane: str) -> bool:
        asked.append(lane)
        return is_due(lane)

    monkeypatch.setattr(world.outbox, "is_due", counted_is_due)
    now = [0.0]
    lane = world.lane(Listener(MEASURED), clock=lambda: now[0])
    assert not lane.step()
    before = commands(world)
    assert not world.outbox.claim(RECORDINGS, Room(1), alone=True, content=True).units
    claim = commands(world) - before
    before = commands(world)
    for tick in range(600):
        now[0] = 100 + tick / 10
        if tick % 16 < SLOTS:  # each thread's own tick, and its rest
            assert not lane.step()
    assert len(asked) >= 60 / LOOK_SECONDS - 1
    # And twice a minute the outbox wants a claim in any case.
    assert commands(world) - before + 2 * claim <= 60
    world.hand_in()
    now[0] += LOOK_SECONDS
    assert lane.step()


def commands(world: World) -> int:
    """How many commands Redis has run, this one aside."""
    stats: Any = world.client.info("commandstats")
    return sum(command["calls"] for name, command in stats.items() if name != "cmdstat_info")


def test_several_threads_take_what_one_bell_rang_for(world: World) -> None:
    """Whoever finds a call leaves the next one to the others, and not to their next tick."""
    for number in range(3):
        world.hand_in(f"call_{number}")
    lane = world.lane(Listener(MEASURED), clock=lambda: 0.0)
    assert [lane.step() for _ in range(4)] == [True, True, True, False]


def test_addresses_are_https_unless_the_operator_says_otherwise(world: World) -> None:
    """What was said must not cross the network in the clear."""
    world.settings = replace(world.settings, allow_http=False)
    with pytest.raises(TargetRefused, match="https://") as refusal:
        world.hand_in()
    assert refusal.value.field == "location"
    assert world.outbox.audit(RECORDINGS).accepted == 0


def test_bytes_of_a_call_are_given_back_when_it_ends(world: World) -> None:
    """They count against the account's quota only while it waits."""
    world.hand_in()
    assert world.held_bytes() > 0
    world.lane(Listener(MEASURED)).step()
    for claim in world.outbox.claim(RELAY, Room(9), alone=False, content=False).units:
        world.outbox.settle(RELAY, [Settlement(claim, Verb.DONE)])
    world.session()
    assert world.held_bytes() == 0
    assert list(world.client.scan_iter(match=keys.sealed("*"))) == []


def test_an_account_at_its_quota_still_gets_what_was_accepted(world: World) -> None:
    """The call was taken within the quota, so its event is."""
    world.hand_in()
    world.client.set(keys.held_bytes(world.account_id), world.settings.account_quota_bytes)
    world.lane(Listener(MEASURED)).step()
    assert len(world.deliveries()) == 1
