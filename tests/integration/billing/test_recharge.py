"""A ledger that is made again from what Redis has kept, on a copy of the database from before the calls."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import redis
from click.testing import CliRunner, Result
from sqlalchemy import text
from sqlalchemy.engine import make_url

from relay.calls import CallEvent, Ending, Facts, derived_session_id
from relay.cli import main
from relay.connections import postgres_engine
from relay.demo.embedded import EmbeddedPostgres
from relay.directory import Mirror
from relay.directory.used import UsedIds, used_ids
from relay.outbox import Admission, Outbox, Unit, keys
from relay.outbox.outcomes import encode_facts
from relay.queues import BILLING
from relay.sealing import KeyRing
from relay.settings import Settings
from relay.store import accounts, rate_cards, sessions
from relay.store.database import Database
from relay.store.rate_cards import Scope
from tests.customers import Customer, Customers
from workers import upkeep
from workers.charge import ChargeLane
from workers.recharge import Answer, Recharged, prepare, recharge

HOUR_MS = 3_600_000
KEEP = timedelta(hours=72)
AGO = timedelta(minutes=1)
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def customer(settings: Settings, database: Database, redis_client: redis.Redis) -> Customer:
    """An account at 0.10 USD a minute, and at 0.50 for what is tagged `gold`."""
    made = Customers(settings, database, redis_client).create()
    with database.begin() as connection:
        rate_cards.add(connection, made.id, per_minute=Decimal("0.50"), scope=Scope(tag="gold"))
    return made


@pytest.fixture
def backup(
    embedded_postgres: EmbeddedPostgres, settings: Settings, database: Database, customer: Customer
) -> Iterator[Settings]:
    """The settings of a copy of the database as it is before any call."""
    database.close()
    name = str(make_url(settings.database_url).database)
    url = embedded_postgres.create_database(f"{name}_backup", template=name)
    env = {
        "DATABASE_URL": url,
        "REDIS_URL": settings.redis_url,
        "SWITCHHOOK_KEYS": settings.keys,
        "SWITCHHOOK_ALLOW_HTTP": "1",
    }
    yield Settings.from_environ(env)
    embedded_postgres.drop_database(f"{name}_backup")


@pytest.fixture
def restored(backup: Settings) -> Iterator[Database]:
    """That copy."""
    database = Database(postgres_engine(backup))
    yield database
    database.close()


@pytest.fixture
def lane(redis_client: redis.Redis, database: Database) -> ChargeLane:
    """The billing lane on the database that will be lost."""
    return ChargeLane(Outbox(redis_client), database, keep=KEEP)


def accept(
    client: redis.Redis,
    account_id: str,
    number: int,
    *,
    kind: str = "call_ended",
    seconds: int = 60,
    session_id: int | None = None,
    provider: str = "retell",
) -> None:
    """Accept the end of a call."""
    conversation = f"call_{number}"
    call = CallEvent(
        provider=provider,
        kind=kind,
        event_class="event",
        conversation_id=conversation,
        ending=Ending(status="completed", duration_seconds=str(seconds), provider_cost_usd="0.01"),
    )
    facts = Facts(
        event_id=f"evt_{kind}_{number}",
        account_id=account_id,
        call=call,
        session_id=session_id or derived_session_id(account_id, provider, conversation),
        accepted_at_ms=1_795_000_000_000 + number * 100 + seconds,
    )
    units = (Unit(BILLING, account_id),)
    admission = Admission(
        facts.event_id, account_id, encode_facts(facts), b"", 96 * HOUR_MS, 95 * HOUR_MS, 1 << 30, units
    )
    assert Outbox(client).accept([admission]).verdicts == ("new",)


def since() -> datetime:
    """The moment of the backup."""
    return datetime.now(UTC) - AGO


def made_again(client: redis.Redis, database: Database, **options: Any) -> Recharged:
    """Charge all of it again; the sum."""
    done = Recharged()
    for part in recharge(client, database, since=since(), **options):
        done = part
    return done


def books(database: Database) -> list[list[str]]:
    """Ledger, sessions and sums of usage, each row as JSON without when it was written; the ledger's without its id."""
    shown = {
        "ledger": "to_jsonb(t) - 'created_at' - 'id'",
        "sessions": "to_jsonb(t) - 'created_at'",
        "usage_quarters": "to_jsonb(t)",
    }
    with database.begin() as connection:
        return [
            list(connection.execute(text(f"SELECT ({row})::text FROM {table} t ORDER BY 1")).scalars())
            for table, row in shown.items()
        ]


def test_the_ledger_is_made_again_as_it_was(
    redis_client: redis.Redis, database: Database, restored: Database, customer: Customer, lane: ChargeLane
) -> None:
    """Charges, a correction and a call of several events: every row, session and sum of usage is as before."""
    for number in range(5):
        accept(redis_client, customer.id, number, seconds=60 + number)
    lane.step()
    accept(redis_client, customer.id, 3, kind="call_analyzed", seconds=200)
    accept(redis_client, customer.id, 4, kind="call_analyzed", seconds=64)
    lane.step()

    done = made_again(redis_client, restored)

    assert done.counts == {Answer.CHARGED: 5, Answer.CORRECTED: 1, Answer.KNOWN: 1}
    assert books(restored) == books(database)
    assert len(books(restored)[0]) == 7
    assert done.different == 0


def test_doing_it_again_changes_nothing(
    redis_client: redis.Redis, restored: Database, customer: Customer, lane: ChargeLane
) -> None:
    """What is there already stays."""
    accept(redis_client, customer.id, 1)
    lane.step()
    made_again(redis_client, restored)
    before = books(restored)
    assert made_again(redis_client, restored).counts == {Answer.KNOWN: 1}
    assert books(restored) == before


def test_a_dry_run_writes_nothing(
    redis_client: redis.Redis, restored: Database, customer: Customer, lane: ChargeLane
) -> None:
    """And says what would be charged."""
    accept(redis_client, customer.id, 1)
    lane.step()
    assert made_again(redis_client, restored, dry_run=True).counts == {Answer.CHARGED: 1}
    assert books(restored) == [[], [], []]


def test_a_session_of_the_api_has_its_id_and_its_terms_again(
    redis_client: redis.Redis, database: Database, restored: Database, customer: Customer, lane: ChargeLane
) -> None:
    """Its tag chose the card; Postgres has forgotten both, and the facts know of neither."""
    with database.begin() as connection:
        session = sessions.create(connection, account_id=customer.id, provider="retell", tag="gold")
    accept(redis_client, customer.id, 1, session_id=session.id)
    lane.step()

    done = made_again(redis_client, restored)

    assert done.different == 0
    with restored.begin() as connection:
        again = sessions.get(connection, account_id=customer.id, session_id=session.id)
    assert (again.tag, again.cost) == ("gold", Decimal("0.5"))


def test_ids_that_were_used_are_not_handed_out_again(
    redis_client: redis.Redis, backup: Settings, restored: Database, customer: Customer, lane: ChargeLane
) -> None:
    """Of sessions that were charged, of those that only were begun, and of templates."""
    template = customer.template(None).template
    called, begun = customer.session(template.id), customer.session(template.id)
    accept(redis_client, customer.id, 1, session_id=called, provider="elevenlabs")
    lane.step()
    assert used_ids(redis_client) == UsedIds(begun, template.id)

    mirror = Mirror(redis_client, KeyRing(backup.keys))
    prepared = prepare(redis_client, restored, mirror, since=since())

    assert prepared.used == UsedIds(begun, template.id)
    with restored.begin() as connection:
        assert sessions.next_id(connection) == begun + 1
        assert connection.execute(text("SELECT nextval('template_ids')")).scalar_one() == template.id + 1
    prepare(redis_client, restored, mirror, since=since())
    with restored.begin() as connection:
        assert sessions.next_id(connection) == begun + 2


def test_sessions_that_redis_kept_only_in_the_stream_count_too(
    redis_client: redis.Redis, backup: Settings, restored: Database, customer: Customer, lane: ChargeLane
) -> None:
    """What the mirror knew of them may have gone by then."""
    accept(redis_client, customer.id, 1, session_id=4711)
    lane.step()
    prepared = prepare(redis_client, restored, Mirror(redis_client, KeyRing(backup.keys)), since=since())
    assert prepared.used.session_id == 4711


def test_changes_reach_the_mirror_again(
    redis_client: redis.Redis, backup: Settings, restored: Database, customer: Customer
) -> None:
    """Redis has a newer configuration than the restored Postgres, and would take no change of it."""
    customer.template(None, name="Made since the backup")
    mirror = Mirror(redis_client, KeyRing(backup.keys))
    assert mirror.overtake(restored) == 1
    config = mirror.get(customer.id)
    assert config is not None
    assert config.templates == ()
    with restored.begin() as connection:
        accounts.update(connection, customer.id, quota_bytes=4711)
    mirror.publish(restored, customer.id)
    config = mirror.get(customer.id)
    assert config is not None
    assert config.quota_bytes == 4711
    assert mirror.overtake(restored) == 0


def test_what_costs_something_else_than_before_is_told(
    redis_client: redis.Redis, restored: Database, customer: Customer, lane: ChargeLane, database: Database
) -> None:
    """A rate card that was made since the backup is missing."""
    with database.begin() as connection:
        rate_cards.add(
            connection, customer.id, per_minute=Decimal("0.20"), effective_from=datetime(2026, 1, 1, tzinfo=UTC)
        )
    accept(redis_client, customer.id, 1)
    lane.step()
    done = made_again(redis_client, restored)
    assert done.different == 1
    assert [(one.was, one.now) for one in done.differences] == [(Decimal("0.2"), Decimal("0.1"))]


def test_an_account_that_is_not_there_is_named(
    redis_client: redis.Redis, settings: Settings, database: Database, restored: Database, lane: ChargeLane
) -> None:
    """It was made since the backup; the others are charged."""
    new = Customers(settings, database, redis_client).create()
    accept(redis_client, new.id, 1)
    lane.step()
    done = made_again(redis_client, restored)
    assert (done.counts, done.missing_accounts) == ({Answer.NO_ACCOUNT: 1}, {new.id})


def test_what_postgres_refuses_and_what_cannot_be_read_stop_nothing(
    redis_client: redis.Redis, restored: Database, customer: Customer, lane: ChargeLane
) -> None:
    """Each is counted, and the rest is charged."""
    for number in range(8):
        accept(redis_client, customer.id, number)
    lane.step()
    redis_client.xadd(keys.CHARGED, {b"b": b"of another version"})
    with restored.begin() as connection:
        connection.execute(text("ALTER TABLE ledger ADD CONSTRAINT refused CHECK (conversation_id <> 'call_3')"))
    done = made_again(redis_client, restored)
    assert done.counts == {Answer.CHARGED: 7, Answer.REFUSED: 1, Answer.UNREADABLE: 1}


def test_only_one_account_if_that_is_asked_for(
    redis_client: redis.Redis, restored: Database, customer: Customer, lane: ChargeLane
) -> None:
    """The others' events are passed over."""
    accept(redis_client, customer.id, 1)
    lane.step()
    assert made_again(redis_client, restored, account_id="acc_other").counts == {}


def test_a_crash_before_anything_was_kept_is_made_good(
    redis_client: redis.Redis, database: Database, restored: Database, customer: Customer
) -> None:
    """The charge is committed, the process dies: whoever claims the unit again finds it charged, and keeps it."""
    from relay.outbox import Room

    impatient = Outbox(redis_client, lease_ms=1)
    accept(redis_client, customer.id, 1)
    claims = impatient.claim(BILLING, Room(10), alone=True, content=False)
    lane = ChargeLane(impatient, database, keep=KEEP)
    lane._charged(claims.units)
    assert not redis_client.exists(keys.CHARGED)
    lane.step()
    assert made_again(redis_client, restored).counts == {Answer.CHARGED: 1}


def test_nothing_is_kept_if_it_is_turned_off(redis_client: redis.Redis, database: Database, customer: Customer) -> None:
    """SWITCHHOOK_RECHARGE_HOURS=0."""
    accept(redis_client, customer.id, 1)
    ChargeLane(Outbox(redis_client), database, keep=timedelta()).step()
    assert not redis_client.exists(keys.CHARGED)


def test_what_is_old_is_forgotten(redis_client: redis.Redis, customer: Customer, lane: ChargeLane) -> None:
    """By upkeep, also when nothing more is charged."""
    redis_client.xadd(keys.CHARGED, {b"b": b"old"}, id="1-1")
    accept(redis_client, customer.id, 1)
    lane.step()
    upkeep.forget_charged(redis_client, KEEP)
    assert redis_client.xlen(keys.CHARGED) == 1
    upkeep.forget_charged(redis_client, timedelta())
    assert redis_client.xlen(keys.CHARGED) == 0


# The command


def run(backup: Settings, *arguments: str) -> Result:
    """`switchhook billing recharge` on the restored database."""
    return invoke(backup, "billing", "recharge", *arguments)


def invoke(backup: Settings, *arguments: str) -> Result:
    """A command on the restored database."""
    environ = {
        "DATABASE_URL": backup.database_url.replace("postgresql+psycopg", "postgresql"),
        "REDIS_URL": backup.redis_url,
        "SWITCHHOOK_KEYS": backup.keys,
        "SWITCHHOOK_ALLOW_HTTP": "1",
    }
    return CliRunner(env=environ).invoke(main, arguments)


def test_the_command_tells_what_it_did(
    redis_client: redis.Redis, backup: Settings, restored: Database, customer: Customer, lane: ChargeLane
) -> None:
    """In words and as JSON; what the stream does not reach is left to the providers."""
    accept(redis_client, customer.id, 1)
    lane.step()
    rehearsed = run(backup, "--since", "1h", "--dry-run")
    assert rehearsed.exit_code == 0, rehearsed.output
    assert rehearsed.stdout.splitlines()[0] == "at most: 1 charged"
    assert "rated again or waived, and durations that were stated" in rehearsed.stdout
    done = run(backup, "--since", "1h", "--json")
    assert done.exit_code == 0
    made = json.loads(done.stdout)
    assert made["counts"]["charged"] == 1
    again = run(backup, "--since", "1h")
    assert again.stdout.splitlines()[0] == "1 there already"
    assert "switchhook billing reconcile --since" in again.stdout.splitlines()[-1]


def test_the_command_asks_the_providers_if_it_is_told_to(backup: Settings, restored: Database) -> None:
    """As `reconcile` does, which has no key to ask with here; in a dry run they are not asked."""
    done = run(backup, "--since", "1h", "--providers")
    alone = invoke(backup, "billing", "reconcile", "--since", "1h")
    assert (done.exit_code, alone.exit_code) == (0, 0)
    assert done.stdout == f"nothing was charged since\n{alone.stdout}"
    assert len(run(backup, "--since", "1h", "--providers", "--json").stdout.splitlines()) == 2
    assert run(backup, "--since", "1h", "--providers", "--dry-run").exit_code == 2


def test_the_command_fails_when_something_is_missing(
    redis_client: redis.Redis, settings: Settings, database: Database, backup: Settings, lane: ChargeLane
) -> None:
    """With the accounts that have to be made anew."""
    new = Customers(settings, database, redis_client).create()
    accept(redis_client, new.id, 1)
    lane.step()
    done = run(backup, "--since", "1h")
    assert done.exit_code == 1
    assert new.id in done.stdout
