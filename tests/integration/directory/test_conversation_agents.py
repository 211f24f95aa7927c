"""Agents of conversations as the ingress finds them: by a small key of their own, and by Postgres where it is gone."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import redis
from sqlalchemy import text

from relay.connections import postgres_engine
from relay.connections import redis_client as connect_redis
from relay.directory import AccountView, Directory, Mirror
from relay.errors import Unavailable
from relay.sealing import KeyRing
from relay.settings import Settings
from relay.store import accounts, conversations, sessions, templates
from relay.store.conversations import ConversationTemplate
from relay.store.database import Database
from relay.store.sessions import AWAITED
from tests.customers import Customer, Customers

PROVIDER = "elevenlabs"


@pytest.fixture
def ring(settings: Settings) -> KeyRing:
    return KeyRing(settings.keys)


@pytest.fixture
def mirror(redis_client: redis.Redis, ring: KeyRing) -> Mirror:
    return Mirror(redis_client, ring)


@pytest.fixture
def nowhere(settings: Settings) -> Iterator[Database]:
    """A Postgres that is away."""
    away = dataclasses.replace(settings, database_url="postgresql+psycopg://nobody@/none?host=/nonexistent")
    database = Database(postgres_engine(away))
    yield database
    database.close()


@dataclass(frozen=True, slots=True)
class Conversations:
    """Makes the templates behind conversations, whose agents are there; nothing is mirrored."""

    customer: Customer
    database: Database
    ring: KeyRing

    def make(self, agent_id: str) -> ConversationTemplate:
        with self.database.begin() as connection:
            session_id = sessions.next_id(connection)
            made = templates.create(
                connection,
                self.ring,
                account_id=self.customer.id,
                name=f"Conversation {session_id}",
                type="conversation",
                config={},
                agent_id=agent_id,
                hidden=True,
                session_id=session_id,
            ).template
        return ConversationTemplate(id=made.id, name=made.name, agent_id=agent_id, session_id=session_id)

    def view(self) -> AccountView:
        """The account's configuration, with a source that webhooks of agents made here come to."""
        inlet = self.customer.source(PROVIDER)
        with self.database.begin() as connection:
            connection.execute(text("UPDATE sources SET managed = true WHERE id = :id"), {"id": inlet.id})
            config = accounts.config(connection, self.ring, self.customer.id)
        return AccountView(config)


@pytest.fixture
def customer(settings: Settings, database: Database, redis_client: redis.Redis) -> Customer:
    return Customers(settings, database, redis_client).create()


@pytest.fixture
def made(customer: Customer, database: Database, ring: KeyRing) -> Conversations:
    return Conversations(customer, database, ring)


def test_an_agent_is_found_by_its_key_without_postgres(
    made: Conversations, mirror: Mirror, ring: KeyRing, nowhere: Database
) -> None:
    """Within its account alone; what has no key is no conversation's once every one of them is known to have one."""
    one, view = made.make("agent/1 ü"), made.view()
    mirror.conversations.remember(view.account_id, one, lifetime=AWAITED)
    directory = Directory(mirror, ring, nowhere)
    assert directory.conversation_of_agent(view, PROVIDER, "agent/1 ü") == one
    with pytest.raises(Unavailable):  # it may be one whose key was lost
        directory.conversation_of_agent(view, PROVIDER, "agent_2")
    mirror.conversations.publish_all(made.database)
    assert directory.conversation_of_agent(view, PROVIDER, "agent_2") is None
    assert directory.conversation_of_agent(view, "retell", "agent/1 ü") is None


def test_accounts_that_claim_one_agent_do_not_lose_each_others(mirror: Mirror, database: Database) -> None:
    """Whoever remembers an agent changes nothing of what another account remembers."""
    mine, theirs = (ConversationTemplate(id=n, name="C", agent_id="agent_1", session_id=n) for n in (1, 2))
    mirror.conversations.remember("acc_1", mine, lifetime=AWAITED)
    mirror.conversations.remember("acc_2", theirs, lifetime=AWAITED)
    assert mirror.conversations.of_agent(PROVIDER, "agent_1") == {"acc_1": mine, "acc_2": theirs}


def test_nothing_is_asked_for_an_account_without_agents_of_ours(
    made: Conversations, ring: KeyRing, nowhere: Database, settings: Settings
) -> None:
    """Accounts that only have their webhooks relayed pay nothing for this, neither in Redis nor in Postgres."""
    made.customer.source(PROVIDER)
    with made.database.begin() as connection:
        view = AccountView(accounts.config(connection, ring, made.customer.id))
    away = dataclasses.replace(settings, redis_url="unix:///nonexistent/redis.sock")
    with connect_redis(away) as client:
        directory = Directory(Mirror(client, ring), ring, nowhere)
        assert directory.conversation_of_agent(view, PROVIDER, "agent_1") is None


def test_an_agent_is_found_in_postgres_after_redis_was_emptied(
    made: Conversations, mirror: Mirror, ring: KeyRing, nowhere: Database, redis_client: redis.Redis
) -> None:
    """And has its key again, so that the next look needs no Postgres."""
    one, view = made.make("agent_1"), made.view()
    redis_client.flushdb()
    assert Directory(mirror, ring, made.database).conversation_of_agent(view, PROVIDER, "agent_1") == one
    assert Directory(mirror, ring, made.database).conversation_of_agent(view, PROVIDER, "agent_2") is None
    assert Directory(mirror, ring, nowhere).conversation_of_agent(view, PROVIDER, "agent_1") == one
    [key] = redis_client.keys("sw:config:conversation:*")
    assert AWAITED.total_seconds() - 60 < redis_client.ttl(key) <= AWAITED.total_seconds()


def test_upkeep_gives_every_awaited_conversation_its_key_again(
    made: Conversations, mirror: Mirror, database: Database, redis_client: redis.Redis
) -> None:
    """Once: while Redis keeps what it has, nothing is read; those that ended long ago stay away."""
    live, ended, over = (made.make(f"agent_{number}") for number in range(3))
    with database.begin() as connection:
        for one, age in ((ended, "6 days"), (over, "8 days")):
            gone = "UPDATE templates SET deleted_at = now() - CAST(:age AS interval) WHERE id = :id"
            connection.execute(text(gone), {"age": age, "id": one.id})
    assert mirror.conversations.publish_all(database) == 2
    assert mirror.conversations.publish_all(database) == 0
    found = [mirror.conversations.of_agent(PROVIDER, f"agent_{number}") for number in range(3)]
    assert found == [{made.customer.id: live}, {made.customer.id: ended}, {}]
    redis_client.flushdb()
    assert mirror.conversations.publish_all(database) == 2


def test_a_conversation_leaves_the_accounts_configuration_alone(made: Conversations, database: Database) -> None:
    """Making and retiring one neither grows it nor raises its version."""
    with database.begin() as connection:
        before = accounts.config(connection, made.ring, made.customer.id)
    one = made.make("agent_1")
    with database.begin() as connection:
        assert conversations.retire(connection, account_id=made.customer.id, template_id=one.id)
        assert not conversations.retire(connection, account_id=made.customer.id, template_id=one.id)
        assert accounts.config(connection, made.ring, made.customer.id) == before


def test_elevenlabs_proof_finds_the_conversation_of_an_agent(
    made: Conversations, customer: Customer, mirror: Mirror, ring: KeyRing, database: Database
) -> None:
    """Beside the templates that claim it: a proof by ElevenLabs names an agent and no account."""
    one = made.make("agent_1")
    mirror.conversations.remember(customer.id, one, lifetime=AWAITED)
    [(view, found)] = Directory(mirror, ring, database).templates_of_agent(PROVIDER, "agent_1")
    assert (view.account_id, found) == (customer.id, one)
