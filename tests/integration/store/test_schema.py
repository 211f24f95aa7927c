"""The schema: how it comes about, that no column can hold content, and what the database itself refuses."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from relay.connections import postgres_engine
from relay.settings import Settings
from relay.store import migrating
from relay.store.database import Database, StatementRefused
from relay.store.migrating import current_revision, head_revision, migrate
from relay.store.tables import metadata
from relay.telemetry import logs

# Every column that exists. A new one is added here by someone who has asked: can it hold what was said in a call?
# Text of records is at most 256 characters; `config` and `metadata` are written by customers about their own set-up.
COLUMNS = {
    "accounts": "id name currency quota_bytes config_version created_at closed_through",
    "agora_agents": "account_id session_id appid name channel agent_id live",
    "alembic_version": "version_num",
    "api_keys": "id account_id prefix sha256 created_at revoked_at name can_write expires_at last_used_at",
    "audit": "id account_id at actor action object_id before_sha256 after_sha256",
    "attempts": "event_id endpoint_id number day at http_status code detail duration_ms response_bytes",
    "deliveries": "event_id endpoint_id day account_id status code attempts next_attempt_at last_stream_id accepted_at "
    "settled_at",
    "endpoints": "id account_id sealed_config filters signing deadline_seconds retention_hours template_id source_id "
    "state created_at disabled_at failure_when overlap_until deleted_at operations",
    "events": "id day account_id provider kind event_class conversation_id session_id source_id template_id livemode "
    "size_bytes accepted_at",
    "ledger": "id account_id provider conversation_id kind sequence session_id template_id rate_card_id started_at "
    "duration_seconds billed_seconds unit_price exact amount currency steps created_at line part "
    "quantity list_amount reason tag reference period provider_cost_usd",
    "provider_grants": "account_id provider object_id created_at",
    "provider_keys": "account_id provider sealed_key created_at",
    "rate_cards": "id account_id per_minute currency initial_seconds increment_seconds connect_fee free_seconds "
    "min_charge max_charge decimals rounding effective_from created_at offered template_id tag components markup "
    "month_price",
    "sessions": "account_id id provider conversation_id template_id agent_id status started_at ended_at "
    "duration_seconds billed_seconds currency cost unrated_reason rate_card_id charge_sequence terminal_rank "
    "terminal_trust terminal_ms provider_cost_usd "
    "provider_credits livemode metadata created_at completed_at failure_code text_only deleted_at turn_count "
    "content_erased_at tag pinned_card_id own_key rated_at list_cost waived_reason charge_lines reserved asked_at "
    "url_expires_at",
    "sources": "id account_id provider sealed_secrets created_at disabled_at shared name deleted_at managed",
    "templates": "id account_id name type config agent_id provider endpoint_id sealed_secret content_retention_hours "
    "created_at updated_at deleted_at hidden rate_card_id session_id former_secret_hashes former_secret_until",
    "voice_agents": "account_id template_id provider agent_id leftover_id created_here status wanted synced attempts "
    "next_attempt_at busy_until asked_at code created_at updated_at made_with refused_fields",
    "usage_quarters": "account_id quarter provider template_id tag status currency sessions unrated duration_seconds "
    "billed_seconds amount list_amount",
    "statements": "account_id month status number currency total body sha256 closed_by closed_at",
    "document_numbers": "series last",
    "credit_notes": "number account_id month amount currency reason actor approver created_at",
    "budgets": "id account_id tag amount thresholds hard_limit created_at updated_at deleted_at",
    "budget_alerts": "id budget_id account_id month threshold amount spent at rearmed_at",
    "notices": "id account_id kind subject body at due_at",
    "export_customers": "account_id destination customer created_at first_ledger_id",
    "exports": "destination ledger_id account_id attempts next_attempt_at code created_at sent_at",
    "reconciliations": "account_id provider day sessions provider_sessions found duration_seconds "
    "provider_duration_seconds amount currency provider_cost_usd checked_at",
    "reconciliation_runs": "account_id provider through compared_through busy_until",
    "workspace_webhooks": "source_id webhook_id busy_until created_at look_at",
}
# What arrives with a webhook ends up in these, so that their text columns are bounded by the database too.
RECORDS = ("sessions", "events", "deliveries", "attempts", "ledger")

CHARGE = text(
    "INSERT INTO ledger (account_id, provider, conversation_id, kind, session_id, started_at, billed_seconds, "
    "quantity, unit_price, exact, amount, currency, period) VALUES ('acc_1', 'retell', 'call_1', 'charge', 1, now(), "
    "60, 1, 0.1, 0.1, 0.1, 'USD', '2026-11-01')"
)
CARD = text("INSERT INTO rate_cards (id, account_id, per_minute, currency) SELECT 'rc_1', id, 0.1, 'USD' FROM accounts")


def _database_at(url: str) -> Database:
    return Database(postgres_engine(_settings(url)))


def _settings(url: str) -> Settings:
    return Settings(database_url=url, redis_url="redis://unused.invalid", keys="")


def test_migrates_an_empty_database_to_the_newest_revision(empty_database_url: str) -> None:
    """A database that was never migrated has no revision, and then the newest."""
    database = _database_at(empty_database_url)
    with database.begin() as connection:
        assert current_revision(connection) is None

    migrate(_settings(empty_database_url))

    with database.begin() as connection:
        assert current_revision(connection) == head_revision() == "0008"
    database.close()


def test_two_processes_may_migrate_at_once(empty_database_url: str) -> None:
    """Migrations that start together take turns, and the later one finds nothing to do."""
    with ThreadPoolExecutor() as pool:
        runs = [pool.submit(migrate, _settings(empty_database_url)) for _ in range(3)]
        assert [run.result() for run in runs] == [None, None, None]


def test_a_migration_does_not_queue_for_a_lock(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever came after it would wait as long; it steps back and tries again until the table is free."""
    monkeypatch.setattr(migrating, "_LOCK_TIMEOUT", "50ms")
    monkeypatch.setattr(migrating, "_PAUSE_SECONDS", 0.05)
    postponed = threading.Event()
    monkeypatch.setattr(logs, "warning", lambda *_, **__: postponed.set())
    database = _database_at(empty_database_url)
    with database.engine.connect() as connection:
        config = migrating._alembic()
        config.attributes["connection"] = connection
        command.upgrade(config, "0005")
    with database.begin() as reading, ThreadPoolExecutor() as pool:
        reading.execute(text("LOCK TABLE events IN ROW EXCLUSIVE MODE"))
        run = pool.submit(migrate, _settings(empty_database_url))
        assert postponed.wait(10)
        reading.rollback()
        assert run.result() is None
    with database.begin() as connection:
        assert current_revision(connection) == head_revision()
    database.close()


def test_migrating_prints_nothing(settings: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither the URL nor anything else reaches the terminal."""
    migrate(settings)

    assert capfd.readouterr() == ("", "")


def test_the_migrations_make_the_tables_that_statements_name(database: Database) -> None:
    """Alembic finds no difference in tables, columns, types or nullability."""

    def names_are_stated(name: str | None, kind: str, _: object) -> bool:
        return kind != "table" or name in metadata.tables

    def is_stated(_obj: object, _name: str | None, kind: str, *_: object) -> bool:
        # Indexes and references are stated once, in the migration.
        return kind in {"table", "column"}

    options = {"include_name": names_are_stated, "include_object": is_stated, "compare_type": True}
    with database.begin() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []


def test_no_column_exists_that_was_not_added_consciously(database: Database) -> None:
    """The columns of all tables and views are the listed ones; partitions have those of their parents."""
    every = text(
        "SELECT relname, string_agg(attname, ' ' ORDER BY attname) FROM pg_class JOIN pg_attribute ON attrelid = "
        "pg_class.oid WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT "
        "relispartition AND attnum > 0 AND NOT attisdropped GROUP BY relname"
    )
    with database.begin() as connection:
        found = {table: columns.split() for table, columns in connection.execute(every)}

    assert found == {table: sorted(columns.split()) for table, columns in COLUMNS.items()}


def test_a_transcript_fits_no_column_that_takes_what_a_provider_sends(database: Database) -> None:
    """Columns of records without a bound are ids of ours, or held to a list of words or a format by a check."""
    ours = {
        "account_id",
        "endpoint_id",
        "event_id",
        "id",
        "rate_card_id",
        "source_id",
        "metadata",
        "steps",
        "pinned_card_id",
    }
    checked = {"currency", "event_class", "kind", "last_stream_id", "status", "unrated_reason"}
    unbounded = text(
        "SELECT DISTINCT column_name FROM information_schema.columns WHERE table_name = ANY(:records) AND data_type "
        "NOT IN ('bigint', 'boolean', 'date', 'integer', 'numeric', 'smallint', 'timestamp with time zone') "
        "AND character_maximum_length IS DISTINCT FROM 256"
    )
    with database.begin() as connection:
        found = set(connection.execute(unbounded, {"records": list(RECORDS)}).scalars())

    assert found == ours | checked


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger SET amount = 0",
        "UPDATE ledger SET amount = 0 WHERE false",
        "DELETE FROM ledger",
        "TRUNCATE ledger",
        "UPDATE rate_cards SET per_minute = 0",
        "DELETE FROM rate_cards",
        "TRUNCATE rate_cards",
    ],
)
@pytest.mark.usefixtures("account_id")
def test_what_was_charged_and_priced_cannot_be_changed(database: Database, statement: str) -> None:
    """The ledger and the rate cards take new rows only."""
    with database.begin() as connection:
        connection.execute(CHARGE)
        connection.execute(CARD)

    with pytest.raises(StatementRefused) as refused, database.begin() as connection:
        connection.execute(text(statement))

    assert refused.value.sqlstate == "23001"


def test_one_conversation_is_charged_once(database: Database) -> None:
    """The ledger's key drops a second charge, however often it is tried."""
    again = text(f"{CHARGE} ON CONFLICT DO NOTHING RETURNING id")
    with database.begin() as connection:
        assert len(connection.execute(again).all()) == 1
        assert connection.execute(again).all() == []


def test_a_stream_id_that_does_not_sort_is_refused(database: Database) -> None:
    """Redis' own spelling of a stream id would order '5-9' after '5-10'."""
    raw = text(
        "INSERT INTO deliveries (event_id, endpoint_id, day, account_id, status, last_stream_id, accepted_at) "
        "VALUES ('evt_1', 'ep_1', '2026-11-20', 'acc_1', 'pending', '1763600000000-1', now())"
    )
    with pytest.raises(StatementRefused) as refused, database.begin() as connection:
        connection.execute(raw)

    assert refused.value.sqlstate == "23514"


def test_migrations_travel_with_the_package() -> None:
    """The files that Alembic loads by path are among those that setuptools packs."""
    root = Path(__file__).parents[3]
    packed = (root / "pyproject.toml").read_text(encoding="utf-8")
    assert "store/migrations/*.py" in packed
    assert "store/migrations/versions/*.py" in packed
