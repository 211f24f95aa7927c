"""Upkeep on real servers: what must happen now and then does, and twice does no harm."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
import redis
from sqlalchemy import text

from relay.calls import CallEvent, Facts
from relay.directory import Mirror
from relay.outbox import Admission, Outbox, Room, Unit, keys
from relay.outbox.outcomes import encode_facts
from relay.queues import RELAY
from relay.sealing import KeyRing
from relay.store import accounts, deliveries, endpoints, records, sessions, tables
from relay.store.database import Database
from relay.store.deliveries import sortable
from relay.store.records import DeliveryRecord
from relay.telemetry import logs
from workers import upkeep


@pytest.fixture
def outbox(redis_client: redis.Redis) -> Outbox:
    """The outbox of an empty Redis."""
    return Outbox(redis_client)


@pytest.fixture
def ring(settings: object) -> KeyRing:
    """A key ring."""
    return KeyRing("a passphrase for tests only, long enough to be taken")


def commit(outbox: Outbox, *, window_ms: int) -> str:
    """An event for one endpoint, which ends after so many milliseconds."""
    call = CallEvent(
        provider="retell", kind="call_started", event_class="event", conversation_id="call_1", dedupe=("call_1",)
    )
    facts = Facts(event_id="evt_1", account_id="acc_1", call=call, session_id=1, accepted_at_ms=1_795_000_000_000)
    admission = Admission(
        facts.event_id,
        facts.account_id,
        encode_facts(facts),
        b"sealed",
        60_000,
        window_ms,
        1 << 20,
        (Unit(RELAY, "ep_1"),),
    )
    outbox.accept([admission])
    return facts.event_id


def test_gives_what_waits_behind_an_open_gate_its_last_attempt(outbox: Outbox, redis_client: redis.Redis) -> None:
    """An event at its end is handed out although the gate is open for another minute."""
    event_id = commit(outbox, window_ms=0)
    redis_client.hset(keys.gate("ep_1"), mapping={"state": "open", "until": 9_999_999_999_999, "opens": 1})
    assert outbox.claim(RELAY, Room(10), alone=True, content=True).units == ()
    assert upkeep.end_events(outbox) == 1
    (unit,) = outbox.claim(RELAY, Room(10), alone=True, content=True).units
    assert unit.event_id == event_id


def test_leaves_events_alone_before_their_end(outbox: Outbox) -> None:
    """Nothing is seen that still has time."""
    commit(outbox, window_ms=60_000)
    assert upkeep.end_events(outbox) == 0


def test_mirrors_what_a_crash_left_out_of_the_mirror(
    database: Database, redis_client: redis.Redis, ring: KeyRing
) -> None:
    """An account that was committed and not mirrored is found and mirrored, once; disabled endpoints are counted."""
    with database.begin() as connection:
        account_id = accounts.create(connection, name="Acme").id
        endpoint = endpoints.create(connection, ring, account_id=account_id, url="https://example.com/")
        endpoints.set_state(connection, account_id=account_id, endpoint_id=endpoint.id, state="disabled")
    mirror = Mirror(redis_client, ring)
    assert upkeep.mirror_configuration(mirror, database) == 1
    assert upkeep.mirror_configuration(mirror, database) == 0
    assert mirror.version(account_id) is not None
    assert mirror.disabled_endpoints() == 1
    assert mirror.conversations.of_agent("elevenlabs", "agent_of_nobody") == {}  # known without Postgres from now on


def test_makes_partitions_ahead_and_drops_old_records(database: Database) -> None:
    """Two weeks of days exist after one run, a second makes none, and days past the retention are dropped."""
    made = upkeep.make_partitions(database)
    assert len(made) == 2 * 16
    assert upkeep.make_partitions(database) == []
    long_ago = (datetime.now(UTC) - upkeep.RECORDS_KEPT - timedelta(days=2)).date()
    with database.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO events (id, day, account_id, provider, kind, event_class, conversation_id, session_id, "
                "livemode, size_bytes, accepted_at) VALUES ('evt_old', :day, 'acc', 'retell', 'k', 'event', 'c', 1, "
                "true, 1, now())"
            ),
            {"day": long_ago},
        )
    upkeep.drop_old_records(database)
    with database.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM events")).scalar_one() == 0


def test_has_the_append_only_file_rewritten_once_a_day(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often the bell rings, and whoever restarts, Redis rewrites once in a day."""
    asked: list[int] = []
    monkeypatch.setattr(redis_client, "bgrewriteaof", lambda: asked.append(1))
    for _ in range(3):
        upkeep.rewrite_append_only_file(redis_client)
    assert asked == [1]
    assert 0 < redis_client.ttl(upkeep._REWRITTEN) <= 86_400


# -- what Redis has lost


OLD = datetime.now(UTC) - timedelta(hours=1)


def record(database: Database, event_id: str, *, accepted_at: datetime = OLD, account_id: str = "acc_1") -> None:
    """A pending delivery, as the record lane writes it."""
    row = DeliveryRecord(
        event_id=event_id,
        endpoint_id="ep_1",
        day=accepted_at.date(),
        account_id=account_id,
        status="pending",
        code=None,
        attempts=0,
        next_attempt_at=accepted_at,
        last_stream_id=sortable("1-0"),
        accepted_at=accepted_at,
        settled_at=None,
    )
    with database.begin() as connection:
        records.write(connection, events=[], deliveries=[row], attempts=[], sessions=[])


def statuses(database: Database) -> dict[str, str]:
    """What Postgres says of each event's delivery."""
    with database.begin() as connection:
        return {one.event_id: one.status for one in deliveries.page(connection)}


def test_what_the_outbox_has_lost_is_told(
    redis_client: redis.Redis, outbox: Outbox, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    """Redis was emptied: what it held ends as lost, with an alarm for each account; what it has does not."""
    commit(outbox, window_ms=60_000)  # evt_1
    redis_client.delete(keys.OUTCOMES)
    redis_client.set(keys.event("evt_settled"), 1)  # its outcome is on its way
    for event_id in ("evt_1", "evt_settled", "evt_lost", "evt_gone"):
        record(database, event_id)
    record(database, "evt_other", account_id="acc_2")
    record(database, "evt_new", accepted_at=datetime.now(UTC))
    logs.configure("INFO")

    assert upkeep.find_lost_deliveries(redis_client, database) == 3

    assert statuses(database) == {
        "evt_1": "pending",
        "evt_settled": "pending",
        "evt_lost": "content_lost",
        "evt_gone": "content_lost",
        "evt_other": "content_lost",
        "evt_new": "pending",
    }
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    alarms = {line["account_id"]: line["count"] for line in lines if line["event"] == "deliveries_lost"}
    assert alarms == {"acc_1": 2, "acc_2": 1}
    assert upkeep.find_lost_deliveries(redis_client, database) == 0


def test_looks_through_all_that_is_pending(
    redis_client: redis.Redis, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Page by page, past what is not lost."""
    monkeypatch.setattr(upkeep, "_LOST_PAGE", 3)
    for number in range(10):
        record(database, f"evt_{number}")
        if number % 2:
            redis_client.set(keys.event(f"evt_{number}"), 1)
    assert upkeep.find_lost_deliveries(redis_client, database) == 5
    assert sum(status == "pending" for status in statuses(database).values()) == 5


def test_judges_nothing_while_records_are_behind(redis_client: redis.Redis, database: Database) -> None:
    """Postgres was away for long: what was delivered meanwhile is told by the outcomes that still wait."""
    record(database, "evt_1")
    redis_client.xadd(keys.OUTCOMES, {"o": b"whatever"}, id=f"{int(OLD.timestamp() * 1000)}-1")
    assert upkeep.find_lost_deliveries(redis_client, database) == 0
    assert statuses(database) == {"evt_1": "pending"}


def test_an_outcome_that_comes_after_all_counts(redis_client: redis.Redis, database: Database) -> None:
    """It was in a copy of the stream that came back."""
    record(database, "evt_1")
    assert upkeep.find_lost_deliveries(redis_client, database) == 1
    with database.begin() as connection:
        [lost] = deliveries.page(connection)
        late = DeliveryRecord(
            event_id="evt_1",
            endpoint_id="ep_1",
            day=OLD.date(),
            account_id="acc_1",
            status="delivered",
            code=None,
            attempts=1,
            next_attempt_at=None,
            last_stream_id=sortable("2-0"),
            accepted_at=OLD,
            settled_at=OLD,
        )
        records.write(connection, events=[], deliveries=[late], attempts=[], sessions=[])
    assert (lost.status, statuses(database)) == ("content_lost", {"evt_1": "delivered"})


@pytest.mark.parametrize(
    ("status", "age", "ended"),
    [
        ("pending", timedelta(hours=23), "pending"),
        ("pending", timedelta(hours=25), "abandoned"),
        ("active", timedelta(days=6), "active"),
        ("active", timedelta(days=8), "abandoned"),
        ("completed", timedelta(days=8), "completed"),
    ],
)
def test_a_session_that_nothing_is_heard_of_is_abandoned(
    database: Database, status: str, age: timedelta, ended: str
) -> None:
    """After a day if nobody began it, after a week if nobody ended it."""
    with database.begin() as connection:
        account_id = accounts.create(connection, name="Acme").id
        session_id = sessions.create(connection, account_id=account_id, provider="elevenlabs").id
        aged = {"status": status, "created_at": datetime.now(UTC) - age}
        connection.execute(tables.sessions.update().values(aged))
    abandoned = upkeep.abandon_sessions(database)
    with database.begin() as connection:
        session = sessions.get(connection, account_id=account_id, session_id=session_id)
    assert (session.status, abandoned) == (ended, int(ended == "abandoned"))
    assert (session.completed_at is not None) == (ended == "abandoned")
