"""Upkeep on real servers: what must happen now and then does, and twice does no harm."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import redis
from sqlalchemy import text

from relay.calls import CallEvent, Facts
from relay.directory import Mirror
from relay.outbox import Admission, Outbox, Unit, keys
from relay.outbox.outcomes import encode_facts
from relay.queues import RELAY
from relay.sealing import KeyRing
from relay.store import accounts, endpoints
from relay.store.database import Database
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
    assert outbox.claim(RELAY, most=10, alone=True, content=True).units == ()
    assert upkeep.end_events(outbox) == 1
    (unit,) = outbox.claim(RELAY, most=10, alone=True, content=True).units
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
