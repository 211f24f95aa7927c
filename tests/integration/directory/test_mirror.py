"""The mirror of the configuration in Redis, and the directory that answers from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, TypeVar

import msgspec
import pytest
import redis

from relay.connections import postgres_engine
from relay.connections import redis_client as connect_redis
from relay.directory import Directory, Mirror
from relay.directory.mirror import KEYS
from relay.errors import NotFound, Unavailable
from relay.sealing import KeyRing, UnsealError
from relay.settings import Settings
from relay.store import accounts, endpoints, sources, templates
from relay.store.database import Database
from tests.customers import Customer, Customers

OLD_KEY, NEW_KEY = "old:" + "b" * 43 + "=", "new:" + "a" * 43 + "="
T = TypeVar("T")
URL = "http://127.0.0.1:9/t0ken-in-path"


@pytest.fixture
def settings(switchhook_env: dict[str, str]) -> Settings:
    """Settings with a key ring that can be rotated."""
    return Settings.from_environ(switchhook_env | {"SWITCHHOOK_KEYS": OLD_KEY})


@pytest.fixture
def ring(settings: Settings) -> KeyRing:
    return KeyRing(settings.keys)


@pytest.fixture
def mirror(redis_client: redis.Redis, ring: KeyRing) -> Mirror:
    return Mirror(redis_client, ring)


@pytest.fixture
def directory(mirror: Mirror, ring: KeyRing, database: Database) -> Directory:
    """A directory that has not been asked anything."""
    return Directory(mirror, ring, database)


@pytest.fixture
def customer(settings: Settings, database: Database, redis_client: redis.Redis) -> Customer:
    """An account, mirrored as each change of it is."""
    return Customers(settings, database, redis_client).create()


@pytest.fixture
def other(settings: Settings, database: Database, redis_client: redis.Redis) -> Customer:
    """Another account."""
    return Customers(settings, database, redis_client).create()


@pytest.fixture
def nowhere(settings: Settings) -> Iterator[Database]:
    """A Postgres that is away."""
    away = dataclasses.replace(settings, database_url="postgresql+psycopg://nobody@/none?host=/nonexistent")
    database = Database(postgres_engine(away))
    yield database
    database.close()


def keyed(ring: KeyRing, secret: str) -> str:
    return ring.lookup_hashes(secret)[0]


# -- the mirror


def test_mirrors_an_account_as_postgres_has_it(
    customer: Customer, mirror: Mirror, database: Database, ring: KeyRing
) -> None:
    """Everything at one version, found by account, source, secret and agent."""
    inlet = customer.source("retell", relay_url=URL)
    made = customer.template(URL, agent_id="agent/1 ü", webhook_secret="t0p-secret")
    with database.begin() as connection:
        expected = accounts.config(connection, ring, customer.id)
    assert mirror.get(customer.id) == expected
    assert mirror.version(customer.id) == expected.version
    assert mirror.account_of_source(inlet.id) == customer.id
    there = [(customer.id, made.template.id)]
    assert mirror.templates_of(keyed(ring, "t0p-secret")) == there
    assert mirror.templates_of_agent("elevenlabs", "agent/1 ü") == there
    assert mirror.templates_of_agent("retell", "agent/1 ü") == []


def test_knows_nothing_of_what_was_not_mirrored(mirror: Mirror, ring: KeyRing) -> None:
    """Nothing is found, and nothing is claimed to be complete."""
    assert mirror.get("acc_none") is None
    assert mirror.version("acc_none") is None
    assert mirror.account_of_source("src_none") is None
    assert mirror.templates_of(keyed(ring, "none")) == []
    assert mirror.template_of_session("acc_none", 1) is None
    assert not mirror.is_complete()


def test_the_newer_version_wins_in_whatever_order_they_come(customer: Customer, mirror: Mirror) -> None:
    """A publisher that was slow does not bring back what was."""
    customer.source("retell")
    older = mirror.get(customer.id)
    assert older is not None
    newer = msgspec.structs.replace(older, version=older.version + 1, sources=())
    mirror.put(newer)
    mirror.put(older)
    assert mirror.get(customer.id) == newer
    assert mirror.account_of_source(older.sources[0].id) is None


def test_publishes_only_what_postgres_has_newer(
    customer: Customer, mirror: Mirror, database: Database, redis_client: redis.Redis
) -> None:
    """A crash between commit and mirror is made good, at little cost when there was none."""
    assert mirror.publish_all(database) == 0
    assert mirror.is_complete()
    with database.begin() as connection:
        accounts.create_key(connection, account_id=customer.id)  # and no publish: it crashed
        accounts.create(connection, name="Never mirrored")
    assert mirror.publish_all(database) == 2
    redis_client.hdel("sw:config:accounts", customer.id)
    assert mirror.publish_all(database) == 1


def test_every_change_moves_the_version_that_caches_go_by(
    customer: Customer, mirror: Mirror, redis_client: redis.Redis
) -> None:
    """And what changes nothing does not."""
    before = int(redis_client.get("sw:config:version") or 0)
    customer.source("retell")
    assert int(redis_client.get("sw:config:version") or 0) == before + 1
    config = mirror.get(customer.id)
    assert config is not None
    mirror.put(config)
    assert int(redis_client.get("sw:config:version") or 0) == before + 1


def test_what_was_removed_is_found_no_more(
    customer: Customer, mirror: Mirror, database: Database, ring: KeyRing, redis_client: redis.Redis
) -> None:
    """Sources, secrets, agents and keys disappear from the indexes, and others of the account stay."""
    source, kept = customer.source("retell"), customer.source("retell")
    made = customer.template(None, agent_id="agent_1", webhook_secret="old-secret")
    with database.begin() as connection:
        (first_key,) = accounts.keys(connection, account_id=customer.id)
        accounts.create_key(connection, account_id=customer.id)
    mirror.publish(database, customer.id)
    assert redis_client.hlen(KEYS) == 2

    with database.begin() as connection:
        accounts.revoke_key(connection, account_id=customer.id, key_id=first_key.id)
        sources.disable(connection, ring, account_id=customer.id, source_id=source.id)
        templates.update(
            connection,
            ring,
            account_id=customer.id,
            template_id=made.template.id,
            agent_id="agent_2",
            webhook_secret="between",
        )
        templates.update(
            connection,
            ring,
            account_id=customer.id,
            template_id=made.template.id,
            webhook_secret="new-secret",
        )
    mirror.publish(database, customer.id)

    assert mirror.account_of_source(source.id) is None
    assert mirror.account_of_source(kept.id) == customer.id
    there = [(customer.id, made.template.id)]
    assert mirror.templates_of(keyed(ring, "old-secret")) == []
    assert mirror.templates_of(keyed(ring, "between")) == there  # for calls under way
    assert mirror.templates_of(keyed(ring, "new-secret")) == there
    assert mirror.templates_of_agent("elevenlabs", "agent_1") == []
    assert mirror.templates_of_agent("elevenlabs", "agent_2") == there
    assert redis_client.hlen(KEYS) == 1


def test_accounts_with_the_same_secret_do_not_lose_each_others(
    customer: Customer, other: Customer, database: Database, mirror: Mirror, ring: KeyRing
) -> None:
    """A secret may be known to several; one who changes it removes only its own entry."""
    mine, theirs = (c.template(None, webhook_secret="shared") for c in (customer, other))
    with database.begin() as connection:
        for secret in ("mine alone", "and another"):  # the one before the newest is still indexed
            templates.update(
                connection, ring, account_id=customer.id, template_id=mine.template.id, webhook_secret=secret
            )
    mirror.publish(database, customer.id)
    assert mirror.templates_of(keyed(ring, "shared")) == [(other.id, theirs.template.id)]


def test_remembers_a_session_for_its_account_and_for_a_while(mirror: Mirror, redis_client: redis.Redis) -> None:
    """Another account that names it learns nothing."""
    mirror.remember_session("acc_1", 17, 3, lifetime=timedelta(hours=1))
    assert mirror.template_of_session("acc_1", 17) == 3
    assert mirror.template_of_session("acc_2", 17) is None
    assert 3_500_000 < redis_client.pttl("sw:config:session:acc_1:17") <= 3_600_000


def test_nothing_in_redis_can_be_read(customer: Customer, redis_client: redis.Redis) -> None:
    """Secrets, URLs and headers are sealed or hashed under the ring's key."""
    inlet = customer.source("retell", relay_url=URL, secret="provider-s3cret")
    made = customer.template(URL, webhook_secret="webhook-s3cret")
    wide = customer.endpoint(URL, headers={"Authorization": "header-s3cret"})
    assert inlet.endpoint is not None
    assert made.endpoint is not None
    secrets = ["t0ken-in-path", "provider-s3cret", "webhook-s3cret", "header-s3cret"]
    secrets += [secret for e in (inlet.endpoint, made.endpoint, wide) for secret in (*e.signing_secrets,)]
    dump = b"\n".join(_everything(redis_client))
    assert customer.id.encode() in dump
    assert made.template.name.encode() not in dump
    for secret in secrets:
        assert secret.encode() not in dump
        assert secret.encode().hex().encode() not in dump


def _everything(client: redis.Redis) -> Iterator[bytes]:
    """Every key with its whole value."""
    readers: dict[Any, Any] = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1),
        b"stream": client.xrange,
    }
    for key in client.scan_iter():
        yield key
        value = readers[client.type(key)](key)
        if isinstance(value, dict):
            value = [part for pair in value.items() for part in pair]
        yield from [value] if isinstance(value, bytes) else value


def test_a_configuration_opens_only_for_its_own_account(
    customer: Customer, other: Customer, redis_client: redis.Redis, mirror: Mirror
) -> None:
    """Whoever may write to Redis cannot give one account another's endpoints."""
    sealed = redis_client.hget("sw:config:accounts", other.id)
    assert isinstance(sealed, bytes)
    redis_client.hset("sw:config:accounts", customer.id, sealed)
    with pytest.raises(UnsealError):
        mirror.get(customer.id)


# -- the directory


def test_answers_from_the_mirror_without_postgres(
    customer: Customer, mirror: Mirror, ring: KeyRing, database: Database, nowhere: Database
) -> None:
    """A Postgres that is away stops neither ingress nor relaying."""
    mirror.conversations.publish_all(database)  # as upkeep has done
    inlet = customer.source("retell", relay_url=URL)
    made = customer.template(URL, agent_id="agent_1", webhook_secret="t0p-secret")
    directory = Directory(mirror, ring, nowhere)
    view, source = directory.source(inlet.id)
    assert (view.account_id, source.secrets) == (customer.id, (inlet.secret,))
    assert len(directory.account(customer.id).endpoints) == 2
    for found in (directory.templates_of_secret("t0p-secret"), directory.templates_of_agent("elevenlabs", "agent_1")):
        assert [(view.account_id, template.id) for view, template in found] == [(customer.id, made.template.id)]


def test_fills_a_redis_that_was_emptied_from_postgres(
    customer: Customer, mirror: Mirror, ring: KeyRing, database: Database, redis_client: redis.Redis
) -> None:
    """Whatever is asked for first; what is not there afterwards does not exist."""
    inlet = customer.source("retell")
    made = customer.template(None, agent_id="agent_1", webhook_secret="t0p-secret")

    def emptied() -> Directory:
        redis_client.flushdb()
        return Directory(mirror, ring, database)

    assert emptied().source(inlet.id)[0].account_id == customer.id
    assert emptied().account(customer.id).account_id == customer.id
    assert [t.id for _, t in emptied().templates_of_secret("t0p-secret")] == [made.template.id]
    assert [t.id for _, t in emptied().templates_of_agent("elevenlabs", "agent_1")] == [made.template.id]
    directory = emptied()
    with pytest.raises(NotFound):
        directory.source("src_none")
    assert directory.templates_of_secret("none") == []
    assert directory.templates_of_agent("elevenlabs", "none") == []
    with pytest.raises(NotFound):
        directory.account("acc_none")


def test_what_cannot_be_known_is_unavailable_and_never_unknown(
    customer: Customer, mirror: Mirror, ring: KeyRing, nowhere: Database, redis_client: redis.Redis
) -> None:
    """With Redis emptied and Postgres away, a provider has to come again; a 404 would make it give up."""
    inlet = customer.source("retell")
    redis_client.flushdb()
    directory = Directory(mirror, ring, nowhere)
    for ask in (
        lambda: directory.source(inlet.id),
        lambda: directory.source("src_none"),
        lambda: directory.account(customer.id),
        lambda: directory.templates_of_secret("any"),
        lambda: directory.templates_of_agent("elevenlabs", "any"),
    ):
        with pytest.raises(Unavailable):
            ask()


def test_redis_away_is_unavailable(settings: Settings, ring: KeyRing, database: Database) -> None:
    """In every method, without the client's own errors."""
    away = dataclasses.replace(settings, redis_url="unix:///nonexistent/redis.sock")
    with connect_redis(away) as client:
        mirror = Mirror(client, ring)
        directory = Directory(mirror, ring, database)
        for ask in (
            lambda: directory.source("src_1"),
            lambda: directory.account("acc_1"),
            lambda: directory.templates_of_secret("any"),
            lambda: directory.templates_of_agent("elevenlabs", "any"),
            lambda: directory.template_of_session("acc_1", 1),
            lambda: mirror.remember_session("acc_1", 1, 1, lifetime=timedelta(hours=1)),
            lambda: mirror.publish_all(database),
        ):
            with pytest.raises(Unavailable):
                ask()


def test_a_cached_account_needs_neither_redis_nor_postgres(
    customer: Customer, mirror: Mirror, ring: KeyRing, nowhere: Database, redis_client: redis.Redis
) -> None:
    """Until a version that moved is seen."""
    inlet = customer.source("retell")
    directory = Directory(mirror, ring, nowhere)
    directory.source(inlet.id)
    redis_client.flushdb()
    assert directory.source(inlet.id)[1].id == inlet.id
    directory.saw(99)
    with pytest.raises(Unavailable):
        directory.source(inlet.id)


def test_a_change_is_seen_once_its_version_was(
    customer: Customer, directory: Directory, mirror: Mirror, database: Database
) -> None:
    """Every reply of the outbox names it."""
    endpoint = customer.endpoint(URL)
    assert directory.account(customer.id).endpoints[endpoint.id].state == "active"
    with database.begin() as connection:
        endpoints.set_state(connection, account_id=customer.id, endpoint_id=endpoint.id, state="disabled")
    mirror.publish(database, customer.id)
    assert directory.account(customer.id).endpoints[endpoint.id].state == "active"
    directory.saw(1_000)
    assert directory.account(customer.id).endpoints[endpoint.id].state == "disabled"


def test_reload_sees_a_change_whatever_was_seen(customer: Customer, directory: Directory) -> None:
    """After the outbox called the cached version stale."""
    before = directory.account(customer.id)
    customer.endpoint(URL)
    assert directory.account(customer.id) is before
    assert len(directory.reload(customer.id).endpoints) == 1


def test_a_disabled_source_is_unknown(
    customer: Customer, directory: Directory, mirror: Mirror, database: Database, ring: KeyRing
) -> None:
    """Also to a process that has just used it."""
    inlet = customer.source("retell")
    directory.source(inlet.id)
    with database.begin() as connection:
        sources.disable(connection, ring, account_id=customer.id, source_id=inlet.id)
    mirror.publish(database, customer.id)
    directory.saw(1_000)
    with pytest.raises(NotFound):
        directory.source(inlet.id)


def test_what_was_made_after_it_was_asked_for_is_found(customer: Customer, directory: Directory) -> None:
    """A miss is not remembered."""
    directory.account(customer.id)
    assert directory.templates_of_secret("t0p-secret") == []
    made = customer.template(None, webhook_secret="t0p-secret")
    assert [t.id for _, t in directory.templates_of_secret("t0p-secret")] == [made.template.id]
    inlet = customer.source("retell")
    assert directory.source(inlet.id)[1].id == inlet.id


def test_a_secret_that_was_replaced_twice_opens_nothing(
    customer: Customer, directory: Directory, mirror: Mirror, database: Database, ring: KeyRing
) -> None:
    """As soon as the account is read again, though the version was not seen yet; once, it is for calls under way."""
    made = customer.template(None, webhook_secret="leaked")
    assert len(directory.templates_of_secret("leaked")) == 1
    for secret, opened in (("fresh", 1), ("fresher", 0)):
        with database.begin() as connection:
            templates.update(
                connection, ring, account_id=customer.id, template_id=made.template.id, webhook_secret=secret
            )
        mirror.publish(database, customer.id)
        directory.reload(customer.id)
        assert len(directory.templates_of_secret("leaked")) == opened
        assert len(directory.templates_of_secret(secret)) == 1


def test_secrets_are_found_after_the_ring_was_rotated(
    customer: Customer, mirror: Mirror, database: Database, redis_client: redis.Redis
) -> None:
    """A new key in front does not make the mirror forget what was indexed under the one before it."""
    made = customer.template(None, webhook_secret="t0p-secret")
    mirror.publish_all(database)
    rotated = KeyRing(f"{NEW_KEY},{OLD_KEY}")
    directory = Directory(Mirror(redis_client, rotated), rotated, database)
    assert [t.id for _, t in directory.templates_of_secret("t0p-secret")] == [made.template.id]


def test_secrets_are_found_while_the_ring_is_being_rotated(
    customer: Customer, redis_client: redis.Redis, ring: KeyRing, database: Database
) -> None:
    """A process that still has only the old key finds what one with the new ring has mirrored."""
    made = customer.template(None, webhook_secret="t0p-secret")
    redis_client.flushdb()
    Mirror(redis_client, KeyRing(f"{OLD_KEY},{NEW_KEY}")).publish_all(database)
    directory = Directory(Mirror(redis_client, ring), ring, database)
    assert [t.id for _, t in directory.templates_of_secret("t0p-secret")] == [made.template.id]


class OvertakenMirror(Mirror):
    """A mirror that another process completes right after this one looked and found nothing."""

    def overtake_with(self, database: Database) -> None:
        self._overtaking: Database | None = database

    def account_of_source(self, source_id: str) -> str | None:
        return self._overtaken(super().account_of_source(source_id))

    def templates_of(self, keyed_hash: str) -> list[tuple[str, int]]:
        return self._overtaken(super().templates_of(keyed_hash))

    def templates_of_agent(self, provider: str, agent_id: str) -> list[tuple[str, int]]:
        return self._overtaken(super().templates_of_agent(provider, agent_id))

    def _overtaken(self, found: T) -> T:
        if self._overtaking is not None:
            database, self._overtaking = self._overtaking, None
            self.publish_all(database)
        return found


def test_a_mirror_that_was_completed_meanwhile_is_looked_at_again(
    customer: Customer, redis_client: redis.Redis, ring: KeyRing, database: Database
) -> None:
    """After Redis was emptied, requests at the same moment are never told that their source is unknown."""
    inlet = customer.source("retell")
    customer.template(None, agent_id="agent_1", webhook_secret="t0p-secret")
    mirror = OvertakenMirror(redis_client, ring)

    def emptied() -> Directory:
        redis_client.flushdb()
        mirror.overtake_with(database)
        return Directory(mirror, ring, database)

    assert emptied().source(inlet.id)[1].id == inlet.id
    assert len(emptied().templates_of_secret("t0p-secret")) == 1
    assert len(emptied().templates_of_agent("elevenlabs", "agent_1")) == 1
