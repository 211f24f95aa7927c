"""Migration 0007: what it makes of what was there, and what the version before may still write beside it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from alembic import command
from sqlalchemy import Connection, text

from relay.connections import postgres_engine
from relay.sealing import KeyRing
from relay.settings import Settings
from relay.store import accounts, endpoints, migrating, rate_cards, sessions, templates
from relay.store.database import Database, StatementRefused
from relay.store.migrating import migrate
from tests.integration.store.conftest import settings_for
from tests.waiting import eventually

# 2026-11-18 12:07 UTC.
TOLD_MS = 1_795_003_620_000
TOLD = datetime.fromtimestamp(TOLD_MS / 1000, UTC)
ACCOUNT = "INSERT INTO accounts (id, name) VALUES ('acc_1', 'Acme')"
# As the version before writes them: it names no column that 0007 adds.
BEGUN = """
    INSERT INTO sessions (account_id, id, provider, template_id, livemode)
    VALUES (:account, :id, 'elevenlabs', :template, true)
"""
ENDED = """
    INSERT INTO sessions (account_id, id, provider, conversation_id, status, started_at, charge_sequence, cost,
        unrated_reason, terminal_rank, terminal_trust, terminal_ms, completed_at, livemode)
    VALUES ('acc_1', :id, 'retell', :call, 'completed', :started, :sequence, :cost, :reason, 2, 2, :told, :started,
        true)
"""
CHARGED = """
    INSERT INTO ledger (account_id, provider, conversation_id, kind, sequence, session_id, started_at,
        duration_seconds, billed_seconds, unit_price, exact, amount, currency, created_at)
    VALUES ('acc_1', 'retell', :call, :kind, :sequence, :id, :started, 60, 60, 0.1, 0.1, :amount, 'USD', :at)
"""
OWN = """
    INSERT INTO voice_agents (account_id, template_id, provider, made_with) VALUES (:account, :id, 'elevenlabs', :key)
"""
TERMS = text("SELECT id, pinned_card_id, tag, own_key FROM sessions WHERE template_id IS NOT NULL ORDER BY id")


@pytest.fixture
def old(empty_database_url: str) -> Iterator[Database]:
    """A database of the version before, with an account."""
    engine = postgres_engine(settings_for(empty_database_url))
    with engine.connect() as connection:
        config = migrating._alembic()
        config.attributes["connection"] = connection
        command.upgrade(config, "0006")
    database = Database(engine)
    with database.begin() as connection:
        connection.execute(text(ACCOUNT))
    yield database
    database.close()


@pytest.fixture
def newest(old: Database) -> Settings:
    """What migrates the database of the version before."""
    return settings_for(old.engine.url.render_as_string(hide_password=False))


def _add(connection: Connection, statement: str, **values: object) -> None:
    connection.execute(text(statement), values)


def _a_template(connection: Connection, ring: KeyRing, account_id: str) -> tuple[int, str]:
    """A template with a card of its own, a tag, and an agent on the account's own key."""
    card = rate_cards.add(connection, account_id, per_minute=Decimal("0.01"), offered=True)
    made = templates.create(
        connection,
        ring,
        account_id=account_id,
        name="T",
        type="conversation",
        config={"tag": "gold"},
        rate_card_id=card.id,
    )
    _add(connection, OWN, account=account_id, id=made.template.id, key=b"k" * 32)
    return made.template.id, card.id


def test_a_session_that_an_older_version_begins_takes_its_templates_terms(
    database: Database, ring: KeyRing, account_id: str
) -> None:
    """Old web processes and record lanes go on for a while after the migration; they do not name these columns."""
    with database.begin() as connection:
        template_id, card_id = _a_template(connection, ring, account_id)
        other = accounts.create(connection, name="Other").id
        _add(connection, BEGUN, account=account_id, id=1, template=template_id)
        _add(connection, BEGUN, account=other, id=2, template=template_id)
        _add(connection, BEGUN, account=account_id, id=3, template=None)
        assert connection.execute(TERMS).all() == [(1, card_id, "gold", True), (2, None, None, False)]
        assert sessions.get(connection, account_id=account_id, session_id=3).own_key is False


def test_what_is_said_of_a_key_stays_said(database: Database, ring: KeyRing, account_id: str) -> None:
    """A session of this version that runs on the operator's key does, whoever made its template's agent."""
    with database.begin() as connection:
        template_id, _ = _a_template(connection, ring, account_id)
        begun = sessions.create(connection, account_id=account_id, provider="elevenlabs", template_id=template_id)
        assert (begun.tag, begun.own_key) == ("gold", False)


def test_sessions_under_way_take_their_terms_with_the_migration(old: Database, newest: Settings) -> None:
    """They end by the newer version, as those that begin after it."""
    with old.begin() as connection:
        for template_id, config in ((1, '{"tag": "gold"}'), (2, '{"tag": ""}')):
            _add(
                connection,
                "INSERT INTO templates (account_id, id, name, type, config, provider, sealed_secret) "
                "VALUES ('acc_1', :id, 'T', 'conversation', CAST(:config AS jsonb), 'elevenlabs', '')",
                id=template_id,
                config=config,
            )
            _add(connection, BEGUN, account="acc_1", id=template_id, template=template_id)
        _add(connection, OWN, account="acc_1", id=1, key=b"k" * 32)

    migrate(newest)

    with old.begin() as connection:
        assert connection.execute(TERMS).all() == [(1, None, "gold", True), (2, None, None, False)]


@pytest.mark.usefixtures("account_id")
def test_an_older_version_ends_no_session(database: Database) -> None:
    """What it says would be in no usage, and never be rated: it is refused, and waits for a worker of this version."""
    values = {"id": 1, "call": "c", "started": TOLD, "sequence": 0, "cost": None, "told": TOLD_MS}
    with pytest.raises(StatementRefused) as refused, database.begin() as connection:
        _add(connection, ENDED, reason="no_rate_card", **values)
    assert refused.value.sqlstate == "23514"


def test_what_began_when_nothing_can_counts_when_it_was_charged(old: Database, newest: Settings) -> None:
    """So that the first closing makes no statement for 1969, nor a later one for a year that is far off."""
    near = datetime(2026, 10, 31, 23, 59, tzinfo=UTC)
    corrected = datetime(2026, 12, 1, tzinfo=UTC)
    starts = {"near": near, "long_ago": datetime(1969, 12, 31, tzinfo=UTC), "far_off": datetime(2058, 1, 1, tzinfo=UTC)}
    with old.begin() as connection:
        for number, (call, started) in enumerate(starts.items(), start=1):
            kept = {"id": number, "call": call, "started": started}
            _add(connection, ENDED, **kept, sequence=2, cost="0.1", reason=None, told=TOLD_MS)
            _add(connection, CHARGED, **kept, kind="charge", sequence=1, amount="0.2", at=TOLD)
            _add(connection, CHARGED, **kept, kind="reversal", sequence=1, amount="-0.2", at=corrected)
            _add(connection, CHARGED, **kept, kind="charge", sequence=2, amount="0.1", at=corrected)
        unrated = {"sequence": 0, "cost": None, "reason": "no_rate_card", "told": TOLD_MS}
        _add(connection, ENDED, id=8, call="unrated_8", started=None, **unrated)
        _add(connection, ENDED, id=9, call="unrated_9", started=starts["long_ago"], **unrated)

    migrate(newest)

    november = date(2026, 11, 1)
    with old.begin() as connection:
        rows = connection.execute(text("SELECT DISTINCT conversation_id, started_at, period FROM ledger ORDER BY 1"))
        assert rows.all() == [
            ("far_off", TOLD, november),
            ("long_ago", TOLD, november),
            ("near", near, date(2026, 10, 1)),
        ]
        rated = connection.execute(text("SELECT conversation_id, rated_at, started_at FROM sessions ORDER BY 1"))
        assert [(row[0], row[1]) for row in rated] == [
            ("far_off", TOLD), ("long_ago", TOLD), ("near", near), ("unrated_8", TOLD), ("unrated_9", TOLD)
        ]  # fmt: skip
        told = connection.execute(text("SELECT started_at FROM sessions WHERE conversation_id = 'long_ago'"))
        assert told.scalar_one() == starts["long_ago"]
        quarters = connection.execute(text("SELECT quarter, sum(sessions) FROM usage_quarters GROUP BY 1 ORDER BY 1"))
        assert [(row[0], int(row[1])) for row in quarters] == [
            (datetime(2026, 10, 31, 23, 45, tzinfo=UTC), 1),
            (datetime(2026, 11, 18, 12, 0, tzinfo=UTC), 4),
        ]
    with pytest.raises(StatementRefused), old.begin() as connection:
        _add(connection, "UPDATE ledger SET amount = 0")


def test_the_migration_and_an_older_billing_lane_never_wait_in_a_circle(
    old: Database, newest: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A charge reads cards, locks sessions, then writes rows; whoever takes these locks takes them in that order."""
    monkeypatch.setattr(migrating, "_TRIES", 1)
    monkeypatch.setattr(migrating, "_LOCK_TIMEOUT", "60s")  # it waits for the charge, however slow that is
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'")
    with ThreadPoolExecutor() as pool:
        with old.begin() as charge:
            charge.execute(text("SELECT 1 FROM rate_cards"))
            run = pool.submit(migrate, newest)
            with old.begin() as seeing:
                eventually(
                    lambda: seeing.execute(waiting).scalar_one() == 1,
                    within_seconds=10,
                    what="the migration waits for the cards",
                )
            charge.execute(text("SELECT 1 FROM sessions FOR UPDATE"))
            _add(charge, CHARGED, call="c", kind="charge", sequence=1, id=1, started=TOLD, amount="0.1", at=TOLD)
        assert run.result() is None
    with old.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM ledger")).scalar_one() == 1


def test_an_endpoint_for_operations_takes_nothing_else(database: Database, ring: KeyRing, account_id: str) -> None:
    """An older version knows its filters alone, and sends it whatever these take."""
    for filters in (("*",), ("switchhook.*", "retell.*")):
        with pytest.raises(StatementRefused) as refused, database.begin() as connection:
            endpoints.create(
                connection, ring, account_id=account_id, url="http://a.test/", filters=filters, operations=True
            )
        assert refused.value.sqlstate == "23514"
    ours = ("switchhook.budget.*", "switchhook.*")
    with database.begin() as connection:
        made = endpoints.create(
            connection, ring, account_id=account_id, url="http://a.test/", filters=ours, operations=True
        )
    assert made.filters == ours
