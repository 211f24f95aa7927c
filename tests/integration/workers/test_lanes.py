"""The billing and record lanes on real servers: what is away comes back, what is bad stands alone."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NoReturn

import pytest
import redis
from sqlalchemy import text

from relay.calls import CallEvent, Ending, Facts, derived_session_id
from relay.demo.embedded import EmbeddedPostgres, Scratch, start_postgres
from relay.errors import Unavailable
from relay.outbox import Admission, GateVerdict, Outbox, Room, Settlement, Unit, Verb, keys
from relay.outbox.outcomes import AttemptOutcome, OutcomeReader, StreamEntry, encode_facts, encode_outcome
from relay.queues import BILLING, RELAY
from relay.settings import Settings
from relay.store import accounts, charges, deliveries, rate_cards, sessions
from relay.store.database import Database
from relay.store.migrating import migrate
from relay.telemetry import logs, metrics
from workers.charge import ChargeLane
from workers.record import RecordLane

HOUR_MS = 3_600_000


@pytest.fixture
def outbox(redis_client: redis.Redis) -> Outbox:
    """The outbox of an empty Redis."""
    return Outbox(redis_client)


@pytest.fixture
def account_id(database: Database) -> str:
    """An account at 0.10 USD a minute."""
    with database.begin() as connection:
        account = accounts.create(connection, name="Acme").id
        rate_cards.add(connection, account, per_minute=Decimal("0.10"))
    return account


def commit(
    outbox: Outbox, account_id: str, number: int, *, endpoint: str | None = None, kind: str = "call_ended"
) -> str:
    """Accept the end of a call of 60 s; returns the event's id."""
    conversation = f"call_{number}"
    call = CallEvent(
        provider="retell",
        kind=kind,
        event_class="event",
        conversation_id=conversation,
        dedupe=(kind, conversation),
        ending=Ending(status="completed", duration_seconds="60"),
    )
    facts = Facts(
        event_id=f"evt_{number:026d}",
        account_id=account_id,
        call=call,
        session_id=derived_session_id(account_id, "retell", conversation),
        accepted_at_ms=1_795_000_000_000 + number,
    )
    units = (Unit(BILLING, account_id), *((Unit(RELAY, endpoint),) if endpoint else ()))
    sealed = b"sealed" if endpoint else b""
    outbox.accept(
        [Admission(facts.event_id, account_id, encode_facts(facts), sealed, 96 * HOUR_MS, 95 * HOUR_MS, 1 << 30, units)]
    )
    return facts.event_id


def test_an_idle_lane_looks_for_itself_when_its_bell_rings(
    outbox: Outbox, database: Database, account_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between bells it only asks whether something is due, by a clock that it may know badly."""
    lane = ChargeLane(outbox, database)
    assert not lane.step()
    commit(outbox, account_id, 1)
    monkeypatch.setattr(outbox, "is_due", lambda _: False)
    lane.step()
    assert outbox.audit(BILLING).waiting == 1
    lane.expect()
    lane.step()
    assert outbox.audit(BILLING).waiting == 0


def test_charges_what_waits_and_settles_it(outbox: Outbox, database: Database, account_id: str) -> None:
    """Three calls in batches of two: three charges, an empty lane, nothing unaccounted."""
    for number in range(3):
        commit(outbox, account_id, number)
    lane = ChargeLane(outbox, database, batch=2)
    assert [lane.step(), lane.step(), lane.step()] == [True, False, False]
    with database.begin() as connection:
        assert len(charges.page(connection, account_id=account_id)) == 3
    audit = outbox.audit(BILLING)
    assert (audit.waiting, audit.delivered, audit.unaccounted) == (0, 3, 0)


def test_charge_that_was_committed_and_not_settled_is_not_made_again(
    redis_client: redis.Redis, database: Database, account_id: str
) -> None:
    """A process that dies between its commit and its settle leaves one charge behind, not two."""
    impatient = Outbox(redis_client, lease_ms=1)
    commit(impatient, account_id, 1)
    claims = impatient.claim(BILLING, Room(10), alone=True, content=False)
    ChargeLane(impatient, database)._charged(claims.units)
    ChargeLane(impatient, database).step()
    with database.begin() as connection:
        assert len(charges.page(connection, account_id=account_id)) == 1
    assert impatient.audit(BILLING).waiting == 0


@pytest.fixture
def own_postgres(scratch: Scratch) -> Iterator[EmbeddedPostgres]:
    """A Postgres that a test may stop."""
    server = start_postgres(scratch, name="pg-lanes", fsync=False)
    yield server
    server.stop()


def test_postgres_away_pauses_the_lane_and_loses_nothing(
    outbox: Outbox, own_postgres: EmbeddedPostgres, settings: Settings
) -> None:
    """While Postgres is away units go back untouched; when it is there again they are charged."""
    from relay.connections import postgres_engine

    away = Settings(
        database_url=own_postgres.url.replace("postgresql://", "postgresql+psycopg://", 1),
        redis_url=settings.redis_url,
        keys=settings.keys,
    )
    migrate(away)
    database = Database(postgres_engine(away))
    with database.begin() as connection:
        account_id = accounts.create(connection, name="Acme").id
        rate_cards.add(connection, account_id, per_minute=Decimal("0.10"))
    commit(outbox, account_id, 1)
    lane = ChargeLane(outbox, database)
    own_postgres.kill()
    with pytest.raises(Unavailable):
        lane.step()
    assert outbox.audit(BILLING).waiting == 1
    own_postgres.start()
    lane.step()
    with database.begin() as connection:
        assert len(charges.page(connection, account_id=account_id)) == 1
    database.close()


def test_bad_row_waits_alone_and_never_blocks_the_rest(outbox: Outbox, database: Database, account_id: str) -> None:
    """One call that Postgres refuses every time: the other nineteen are charged, it is released with an alarm."""
    for number in range(20):
        commit(outbox, account_id, number)
    with database.begin() as connection:
        connection.execute(text("ALTER TABLE ledger ADD CONSTRAINT refused CHECK (conversation_id <> 'call_13')"))
    ChargeLane(outbox, database).step()
    with database.begin() as connection:
        charged = {row.conversation_id for row in charges.page(connection, account_id=account_id)}
    assert charged == {f"call_{number}" for number in range(20)} - {"call_13"}
    assert outbox.audit(BILLING).waiting == 1


def settle_one(outbox: Outbox, account_id: str, *, status: str, http_status: int, verb: Verb) -> None:
    """Claim the one waiting delivery and settle it as an attempt would."""
    (unit,) = outbox.claim(RELAY, Room(1), alone=True, content=True).units
    outcome = AttemptOutcome(
        event_id=unit.event_id,
        endpoint_id=unit.key,
        account_id=account_id,
        accepted_ms=1_795_000_000_001,
        number=unit.attempts + 1,
        status=status,  # type: ignore[arg-type]
        code=f"http_{http_status}",
        http_status=http_status,
        duration_ms=12,
        retry_in_ms=1 if status == "pending" else None,
    )
    gate = GateVerdict.OK if verb is Verb.DONE else GateVerdict.NONE
    outbox.settle(RELAY, [Settlement(unit, verb, attempted=True, gate=gate, outcome=encode_outcome(outcome))])


def record_lane(client: redis.Redis, database: Database, gone: list[Any]) -> RecordLane:
    """A recorder that notes what answered 410."""
    return RecordLane(OutcomeReader(client, consumer="test"), database, on_gone=lambda *endpoint: gone.append(endpoint))


def drain(lane: RecordLane) -> None:
    """Run a lane until it has nothing more, which it may say twice."""
    for _ in range(3):
        while lane.step():
            pass


def test_records_deliveries_with_their_attempts_and_empties_the_stream(
    outbox: Outbox, redis_client: redis.Redis, database: Database, account_id: str
) -> None:
    """A failure and a success: one delivery, two attempts in order, an event, and no entry left in Redis."""
    event_id = commit(outbox, account_id, 1, endpoint="ep_1")
    settle_one(outbox, account_id, status="pending", http_status=500, verb=Verb.RETRY)
    settle_one(outbox, account_id, status="delivered", http_status=200, verb=Verb.DONE)
    drain(record_lane(redis_client, database, []))
    with database.begin() as connection:
        (delivery,) = deliveries.page(connection, account_id=account_id)
    assert (delivery.event_id, delivery.status, delivery.attempts) == (event_id, "delivered", 2)
    assert [one.http_status for one in delivery.history] == [500, 200]
    assert redis_client.xlen(keys.OUTCOMES) == 0


def test_outcomes_that_are_read_twice_change_nothing(
    outbox: Outbox, redis_client: redis.Redis, database: Database, account_id: str
) -> None:
    """A recorder that dies between its commit and its acknowledgement repeats itself without effect."""
    commit(outbox, account_id, 1, endpoint="ep_1")
    settle_one(outbox, account_id, status="delivered", http_status=200, verb=Verb.DONE)
    dying = OutcomeReader(redis_client, consumer="dying")
    dying.read(most=10)  # makes the group
    entries = [entry for entry in dying.read(most=10) if isinstance(entry, StreamEntry)]
    assert len(entries) == 2
    lane = record_lane(redis_client, database, [])
    for _ in range(2):
        lane._write(entries)
    with database.begin() as connection:
        (delivery,) = deliveries.page(connection, account_id=account_id)
        assert len(delivery.history) == 1


def test_undecodable_and_refused_outcomes_are_set_aside(
    outbox: Outbox, redis_client: redis.Redis, database: Database, account_id: str
) -> None:
    """Rubbish in the stream and a row that Postgres refuses leave it, and everything else is recorded."""
    commit(outbox, account_id, 1)
    redis_client.xadd(keys.OUTCOMES, {"o": b"\xff rubbish"})
    redis_client.xadd(keys.OUTCOMES, {"unknown": b"1"})
    bad = AttemptOutcome(
        event_id="evt_bad", endpoint_id="ep_1", account_id=account_id, accepted_ms=1_795_000_000_000, number=1,
        status="nonsense",  # type: ignore[arg-type]
    )  # fmt: skip
    redis_client.xadd(keys.OUTCOMES, {"o": encode_outcome(bad)})
    commit(outbox, account_id, 2)
    drain(record_lane(redis_client, database, []))
    assert redis_client.xlen(keys.OUTCOMES) == 0
    with database.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM events")).scalar_one() == 2
        assert connection.execute(text("SELECT count(*) FROM deliveries")).scalar_one() == 0


def test_what_waits_for_postgres_is_alarmed_and_counted_once(
    outbox: Outbox,
    redis_client: redis.Redis,
    database: Database,
    account_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same batch comes to the lane again and again until it can be recorded."""
    alarms: list[str] = []
    monkeypatch.setattr(logs, "alarm", lambda event, **_: alarms.append(event))
    counted: list[tuple[str, int]] = []
    monkeypatch.setattr(metrics, "record_recorded", lambda result, count: counted.append((result, count)))
    lane = record_lane(redis_client, database, [])
    drain(lane)
    counted.clear()
    commit(outbox, account_id, 1)
    redis_client.xadd(keys.OUTCOMES, {"o": b"\xff rubbish"})

    with monkeypatch.context() as away:
        away.setattr(database, "begin", unavailable)
        for _ in range(3):
            with pytest.raises(Unavailable):
                lane.step()
    drain(lane)

    assert alarms == ["outcome_unreadable"]
    assert [pair for pair in counted if pair[1]] == [("recorded", 1), ("refused", 1)]


def unavailable() -> NoReturn:
    """Be a Postgres that is away."""
    raise Unavailable


def test_answer_of_410_is_reported_once_recorded(
    outbox: Outbox, redis_client: redis.Redis, database: Database, account_id: str
) -> None:
    """The endpoint that is gone is named with its account."""
    commit(outbox, account_id, 1, endpoint="ep_1")
    settle_one(outbox, account_id, status="dead", http_status=410, verb=Verb.DEAD)
    gone: list[Any] = []
    drain(record_lane(redis_client, database, gone))
    assert gone == [(account_id, "ep_1")]


def test_sessions_of_running_calls_are_active_until_billing_ends_them(
    outbox: Outbox, redis_client: redis.Redis, database: Database, account_id: str
) -> None:
    """What billing has completed is not made active again by a record that comes later."""
    commit(outbox, account_id, 1)
    ChargeLane(outbox, database).step()
    drain(record_lane(redis_client, database, []))
    with database.begin() as connection:
        (session,) = sessions.page(connection, account_id=account_id)
    assert (session.status, session.cost) == ("completed", Decimal("0.1"))


def test_outcomes_of_a_dead_recorder_are_recorded_while_others_keep_coming(
    outbox: Outbox,
    redis_client: redis.Redis,
    database: Database,
    account_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a killed worker had read is found by the clock, not by a quiet moment."""
    monkeypatch.setattr("relay.outbox.outcomes._ABANDONED_MS", 0)
    monkeypatch.setattr("workers.record._ABANDONED_SECONDS", 0.0)
    lost = commit(outbox, account_id, 1)
    dead = OutcomeReader(redis_client, consumer="dead")
    dead.read(most=10)  # makes the group
    assert len(dead.read(most=10)) == 1
    lane = record_lane(redis_client, database, [])
    for number in range(2, 6):
        commit(outbox, account_id, number)
        lane.step()
    with database.begin() as connection:
        recorded = set(connection.execute(text("SELECT id FROM events")).scalars())
    assert lost in recorded
