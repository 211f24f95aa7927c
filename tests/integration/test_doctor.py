"""`switchhook doctor` on real servers: nothing to say of healthy ones, and the cause named where something is wrong."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from click.testing import CliRunner
from sqlalchemy import text

from relay.cli import main
from relay.connections import postgres_engine
from relay.directory import Mirror
from relay.directory.mirror import ACCOUNTS, VERSIONS
from relay.doctor import Finding, Level, examine, surroundings
from relay.outbox import keys
from relay.sealing import KeyRing
from relay.settings import Settings
from relay.store import partitions
from relay.store.database import Database
from tests.customers import Customer, Customers

pytestmark = pytest.mark.usefixtures("day_that_goes_on")

NOT_OK = {Level.WARN, Level.FAIL}


@pytest.fixture
def durable(redis_url: str) -> Iterator[None]:
    """The Redis of this run syncs each write, as everybody's should."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        before = client.config_get("appendfsync")["appendfsync"]
        client.config_set("appendfsync", "always")
        yield
        client.config_set("appendfsync", before)


@pytest.fixture
def environ(redis_url: str, database_url: str, durable: None) -> dict[str, str]:
    """An installation without anything to remark on."""
    return {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "SWITCHHOOK_KEYS": f"new:{key()},old:{key()}",
        "METRICS_TOKEN": "token",
    }


@pytest.fixture
def settings(environ: dict[str, str]) -> Settings:
    """The same, as it is read."""
    return Settings.from_environ(environ)


@pytest.fixture
def customer(settings: Settings, database: Database, redis_client: redis.Redis) -> Customer:
    """An account with a source and an endpoint, mirrored, with the partitions of the coming days."""
    with database.begin() as connection:
        partitions.ensure(connection, datetime.now(UTC).date(), days_ahead=2)
    customer = Customers(settings, database, redis_client).create()
    customer.source("retell", relay_url="https://8.8.8.8/hook")
    Mirror(redis_client, KeyRing(settings.keys)).publish_all(database)
    return customer


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the machine has."""
    monkeypatch.setattr(surroundings, "proxy_variables", tuple)


def key() -> str:
    """A sealing key."""
    return base64.b64encode(os.urandom(32)).decode()


def remarks(environ: Mapping[str, str], **changes: str) -> dict[str, Finding]:
    """What is not as it should be, by what was looked at."""
    findings = list(examine(lambda: Settings.from_environ({**environ, **changes})))
    return {finding.check: finding for finding in findings if finding.level in NOT_OK}


def failed(environ: Mapping[str, str], **changes: str) -> list[str]:
    """What fails."""
    return [check for check, finding in remarks(environ, **changes).items() if finding.level is Level.FAIL]


def run(environ: Mapping[str, str], *arguments: str) -> Any:
    """The command itself."""
    return CliRunner().invoke(main, ["doctor", *arguments], env=dict(environ))


def test_has_nothing_to_say_of_a_healthy_system(environ: dict[str, str], customer: Customer) -> None:
    """Every line is ok, the rows that are sealed were tried, and it ends with 0."""
    done = run(environ)
    assert remarks(environ) == {}
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert all(line.startswith("ok ") for line in lines[:-1])
    assert lines[-1] == f"{len(lines) - 1} checks, 0 to look at, 0 failed"
    assert "sealing keys: 2: new seals, old only open" in done.stdout
    assert "sealed configuration: 2 rows tried" in done.stdout


def test_prints_one_line_of_json(environ: dict[str, str], customer: Customer) -> None:
    """In camelCase, with the same findings."""
    done = run(environ, "--json")
    [line] = done.stdout.splitlines()
    said = json.loads(line)
    assert said["isHealthy"] is True
    assert {"check", "level", "found", "advice"} == said["findings"][0].keys()
    assert {finding["level"] for finding in said["findings"]} == {"ok"}


def test_ends_with_1_when_something_fails(environ: dict[str, str], customer: Customer) -> None:
    """And says what to do on the next line."""
    done = run({**environ, "REDIS_URL": "redis://127.0.0.1:1"})
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    [place] = [number for number, line in enumerate(lines) if line.startswith("FAIL")]
    assert "REDIS_URL" in lines[place + 1]
    assert not json.loads(run({**environ, "REDIS_URL": "redis://127.0.0.1:1"}, "--json").stdout)["isHealthy"]


def test_settings_that_make_no_sense_are_all_there_is(environ: dict[str, str]) -> None:
    """By the variable's name, never by its value."""
    [finding] = examine(lambda: Settings.from_environ({**environ, "REDIS_URL": "hunter2"}))
    assert (finding.check, finding.level) == ("settings", Level.FAIL)
    assert "REDIS_URL" in finding.found
    assert "hunter2" not in str(finding)


def test_servers_that_are_away(environ: dict[str, str], customer: Customer) -> None:
    """Each is named, and what needs neither is looked at all the same."""
    away = {"REDIS_URL": "redis://:hunter2@127.0.0.1:1", "DATABASE_URL": "postgres://u:hunter2@127.0.0.1:1/none"}
    findings = list(examine(lambda: Settings.from_environ({**environ, **away})))
    assert [f.check for f in findings if f.level is Level.FAIL] == ["redis: answers", "postgres: answers"]
    assert {"sealing keys", "names", "metrics"} <= {finding.check for finding in findings}
    assert "hunter2" not in str(findings)


def test_a_redis_that_evicts_or_is_full(
    environ: dict[str, str], customer: Customer, redis_client: redis.Redis, request: pytest.FixtureRequest
) -> None:
    """What processes refuse to start on, and where web refuses events."""
    config: Any = redis_client.config_get("*")
    before = [(name, config[name]) for name in ("maxmemory", "maxmemory-policy")]
    request.addfinalizer(lambda: [redis_client.config_set(name, value) for name, value in before])
    redis_client.config_set("maxmemory-policy", "allkeys-lru")
    redis_client.config_set("maxmemory", redis_client.info("memory")["used_memory"])
    assert failed(environ) == ["redis: keeps everything", "redis: memory"]


def test_a_redis_that_does_not_tell(
    environ: dict[str, str], customer: Customer, redis_client: redis.Redis, request: pytest.FixtureRequest
) -> None:
    """Providers forbid CONFIG: its one line is left out, with a word why; everything else comes from INFO."""
    redis_client.acl_setuser("guest", enabled=True, nopass=True, keys=["*"], categories=["+@all"], commands=["-config"])
    request.addfinalizer(lambda: redis_client.acl_deluser("guest"))
    url = environ["REDIS_URL"].replace("unix://", "unix://guest:any@")
    findings = {
        finding.check: finding for finding in examine(lambda: Settings.from_environ({**environ, "REDIS_URL": url}))
    }
    assert findings["redis: appendfsync"].level is Level.SKIPPED
    assert {finding.level for finding in findings.values()} == {Level.OK, Level.SKIPPED}


def test_a_database_without_tables(environ: dict[str, str], empty_database_url: str) -> None:
    """The command that makes them is named, and nothing is asked of tables."""
    found = remarks(environ, DATABASE_URL=empty_database_url)
    assert [check for check, finding in found.items() if finding.level is Level.FAIL] == ["postgres: migrations"]
    assert "switchhook migrate" in found["postgres: migrations"].advice


def test_a_database_of_another_revision(environ: dict[str, str], customer: Customer, database: Database) -> None:
    """Both revisions are named."""
    with database.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    assert "0000" in remarks(environ)["postgres: migrations"].found
    assert failed(environ) == ["postgres: migrations"]


def test_a_database_that_takes_no_writes(environ: dict[str, str], customer: Customer, database: Database) -> None:
    """As providers make it when its disk is nearly full."""
    with database.begin() as connection:
        name = connection.execute(text("SELECT current_database()")).scalar_one()
        connection.execute(text(f"ALTER DATABASE {name} SET default_transaction_read_only = on"))
    assert failed(environ) == ["postgres: writes"]


def test_partitions_that_nobody_makes(environ: dict[str, str], customer: Customer, database: Database) -> None:
    """A warning: the default partition takes their rows."""
    with database.begin() as connection:
        partitions.drop_before(connection, datetime.now(UTC).date() + timedelta(days=365))
    found = remarks(environ)
    assert found.keys() == {"postgres: partitions"}
    assert "6 of the coming days" in found["postgres: partitions"].found


def test_keys_that_open_nothing(environ: dict[str, str], customer: Customer) -> None:
    """The sealed rows are counted; the old key alone still opens none of them."""
    assert failed(environ, SWITCHHOOK_KEYS=f"new:{key()}") == ["sealed configuration"]
    old_only = environ["SWITCHHOOK_KEYS"].split(",")[1]
    assert "2 of 2" in remarks(environ, SWITCHHOOK_KEYS=old_only)["sealed configuration"].found
    assert failed(environ, SWITCHHOOK_KEYS="short") == ["sealing keys"]


def test_a_mirror_that_is_behind(environ: dict[str, str], customer: Customer, redis_client: redis.Redis) -> None:
    """Beat makes it good."""
    redis_client.hdel(VERSIONS, customer.id)
    assert remarks(environ).keys() == {"configuration in Redis"}
    assert failed(environ) == []


def test_a_mirror_that_is_newer_than_postgres(
    environ: dict[str, str], customer: Customer, database: Database, redis_client: redis.Redis, settings: Settings
) -> None:
    """Postgres was restored: what the advised command does makes the mirror what Postgres is."""
    mirror = Mirror(redis_client, KeyRing(settings.keys))
    redis_client.hincrby(VERSIONS, customer.id, 5)
    found = remarks(environ)["configuration in Redis"]
    assert (found.level, "1 account(s)" in found.found) == (Level.FAIL, True)
    assert "switchhook billing recharge" in found.advice

    mirror.overtake(database)

    assert remarks(environ) == {}


def test_a_mirror_that_knows_an_account_which_postgres_does_not(
    environ: dict[str, str], customer: Customer, database: Database, redis_client: redis.Redis, settings: Settings
) -> None:
    """It was made after the backup: doing what is advised, and then beat, makes the mirror what Postgres is."""
    mirror = Mirror(redis_client, KeyRing(settings.keys))
    restored = mirror.version(customer.id)
    redis_client.hset(VERSIONS, "acc_made_since", 1)
    found = remarks(environ)["configuration in Redis"]
    assert (found.level, "1 account(s) are not in Postgres" in found.found) == (Level.FAIL, True)
    assert VERSIONS in found.advice
    assert ACCOUNTS in found.advice

    redis_client.delete(VERSIONS, ACCOUNTS)
    mirror.publish_all(database)

    assert mirror.version(customer.id) == restored
    assert remarks(environ) == {}


def test_an_outbox_that_does_not_add_up(environ: dict[str, str], customer: Customer, redis_client: redis.Redis) -> None:
    """A unit that was counted and is nowhere."""
    redis_client.hset(keys.totals("relay"), "accepted", 1)
    assert failed(environ) == ["relay: accounted for"]


def test_work_that_nobody_does(environ: dict[str, str], customer: Customer, redis_client: redis.Redis) -> None:
    """A unit that is due, and an outcome that waits, for two minutes."""
    then_ms = int(time.time() * 1000) - 120_000
    redis_client.hset(keys.totals("billing"), "accepted", 1)
    redis_client.zadd(keys.line("billing", customer.id), {"evt_1": then_ms})
    redis_client.zadd(keys.due("billing"), {customer.id: then_ms})
    redis_client.xadd(keys.OUTCOMES, {"o": b"any"}, id=f"{then_ms}-0")
    found = remarks(environ)
    assert found.keys() == {"billing: in time", "record: in time"}
    assert all("1 waiting, the oldest" in finding.found for finding in found.values())


def test_what_production_should_not_have(environ: dict[str, str], customer: Customer) -> None:
    """Plain http, private networks, no token: warnings, with the variable's name."""
    open_doors = {"SWITCHHOOK_EGRESS_ALLOW": "10.0.0.0/8", "METRICS_TOKEN": ""}
    found = remarks(environ, **open_doors)
    assert {"allowed networks", "metrics"} == found.keys()
    assert remarks(environ, **open_doors, SWITCHHOOK_ALLOW_HTTP="1").keys() == {"http", "metrics"}


def test_names_that_do_not_resolve(settings: Settings, environ: dict[str, str]) -> None:
    """Unknown, or without an answer: deliveries would fail like that as well. An address needs no resolver."""

    def examined(url: str, addresses: tuple[str, ...]) -> Finding:
        asked = Settings.from_environ({**environ, "SWITCHHOOK_PUBLIC_URL": url})
        return next(finding for finding in surroundings.examine(asked, lookup=lambda _: addresses))

    assert examined("https://hooks.example", ("192.0.2.1",)).level is Level.OK
    assert examined("https://hooks.example", ()).level is Level.FAIL
    assert examined("https://192.0.2.1", ()).level is Level.OK


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """The migrated database of these settings."""
    database = Database(postgres_engine(settings))
    yield database
    database.close()
