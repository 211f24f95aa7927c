"""API keys as the ingress sees them: in the sealed mirror, cached, and worthless once they are revoked."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import redis

from relay.connections import postgres_engine
from relay.connections import redis_client as connect_redis
from relay.directory import Directory, Mirror
from relay.errors import Unavailable
from relay.sealing import KeyRing
from relay.settings import Settings
from relay.store import accounts
from relay.store.accounts import NewApiKey
from relay.store.database import Database
from tests.customers import Customer, Customers


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
def nowhere(settings: Settings) -> Iterator[Database]:
    """A Postgres that is away."""
    away = dataclasses.replace(settings, database_url="postgresql+psycopg://nobody@/none?host=/nonexistent")
    database = Database(postgres_engine(away))
    yield database
    database.close()


@dataclass(frozen=True, slots=True)
class Keys:
    """Makes and revokes one account's keys, and mirrors each change."""

    account_id: str
    database: Database
    mirror: Mirror

    def make(self) -> NewApiKey:
        with self.database.begin() as connection:
            made = accounts.create_key(connection, account_id=self.account_id)
        self.mirror.publish(self.database, self.account_id)
        return made

    def revoke(self, key: NewApiKey) -> None:
        with self.database.begin() as connection:
            accounts.revoke_key(connection, account_id=self.account_id, key_id=key.id)
        self.mirror.publish(self.database, self.account_id)


@pytest.fixture
def customer(settings: Settings, database: Database, redis_client: redis.Redis) -> Customer:
    return Customers(settings, database, redis_client).create()


@pytest.fixture
def keys(customer: Customer, database: Database, mirror: Mirror) -> Keys:
    return Keys(customer.id, database, mirror)


def opened(directory: Directory, key: str) -> str | None:
    view = directory.account_of_key(key)
    return None if view is None else view.account_id


def test_a_key_opens_its_account_without_postgres(
    keys: Keys, customer: Customer, mirror: Mirror, ring: KeyRing, nowhere: Database
) -> None:
    """Any key in force does; the mirror suffices."""
    first, second = keys.make(), keys.make()
    directory = Directory(mirror, ring, nowhere)
    assert opened(directory, first.key) == opened(directory, second.key) == customer.id


@pytest.mark.parametrize("spoil", [str.lower, lambda key: key + " ", lambda key: key[:-1], lambda key: "\ud800" + key])
def test_only_the_very_key_opens_anything(keys: Keys, directory: Directory, mirror: Mirror, spoil: object) -> None:
    """Neither its hash nor what looks like it."""
    assert callable(spoil)
    made = keys.make()
    mirror.publish_all(keys.database)
    assert opened(directory, spoil(made.key)) is None
    assert opened(directory, accounts.key_hash(made.key).hex()) is None
    assert opened(directory, made.prefix) is None


def test_a_revoked_key_opens_nothing_once_its_version_was_seen(keys: Keys, directory: Directory) -> None:
    """Also in a process that has just used it; the account's other key goes on."""
    revoked, kept = keys.make(), keys.make()
    assert opened(directory, revoked.key) is not None
    keys.revoke(revoked)
    directory.saw(1_000)
    assert opened(directory, revoked.key) is None
    assert opened(directory, revoked.key) is None
    assert opened(directory, kept.key) is not None


def test_a_revoked_key_opens_nothing_as_soon_as_the_account_is_read_again(keys: Keys, directory: Directory) -> None:
    """After the outbox called the version stale, say."""
    made = keys.make()
    directory.account_of_key(made.key)
    keys.revoke(made)
    directory.reload(keys.account_id)
    assert opened(directory, made.key) is None


def test_a_key_that_is_made_after_it_was_asked_for_is_found(
    keys: Keys, customer: Customer, directory: Directory
) -> None:
    """A miss is not remembered, nor is an account that was cached before its newest key."""
    directory.account(customer.id)
    assert opened(directory, "sk_live_none") is None
    assert opened(directory, keys.make().key) == customer.id


def test_a_cached_key_needs_neither_redis_nor_postgres(
    keys: Keys, mirror: Mirror, ring: KeyRing, nowhere: Database, redis_client: redis.Redis
) -> None:
    """Until a version that moved is seen: then it cannot be known."""
    made = keys.make()
    directory = Directory(mirror, ring, nowhere)
    directory.account_of_key(made.key)
    redis_client.flushdb()
    assert opened(directory, made.key) == keys.account_id
    directory.saw(99)
    with pytest.raises(Unavailable):
        directory.account_of_key(made.key)


def test_a_redis_that_was_emptied_is_filled_before_a_key_is_called_unknown(
    keys: Keys, directory: Directory, redis_client: redis.Redis
) -> None:
    """What is not there afterwards does not exist."""
    made = keys.make()
    redis_client.flushdb()
    assert opened(directory, made.key) == keys.account_id
    redis_client.flushdb()
    assert opened(directory, "sk_live_none") is None


def test_an_unknown_key_is_unavailable_while_nothing_can_tell(
    keys: Keys, mirror: Mirror, ring: KeyRing, nowhere: Database
) -> None:
    """The mirror has not seen every account, and Postgres is away: it may be anybody's key."""
    keys.make()
    directory = Directory(mirror, ring, nowhere)
    with pytest.raises(Unavailable):
        directory.account_of_key("sk_live_none")
    mirror.publish_all(keys.database)
    assert opened(directory, "sk_live_none") is None


def test_redis_away_is_unavailable(settings: Settings, ring: KeyRing, database: Database) -> None:
    """Without the client's own errors."""
    away = dataclasses.replace(settings, redis_url="unix:///nonexistent/redis.sock")
    with connect_redis(away) as client, pytest.raises(Unavailable):
        Directory(Mirror(client, ring), ring, database).account_of_key("sk_live_any")
