"""What the directory asks of Postgres because Redis may have lost it, or never had it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
import redis

from relay.calls import DERIVED_SESSION_BASE
from relay.connections import postgres_engine
from relay.directory import Directory, Mirror
from relay.errors import Unavailable
from relay.sealing import KeyRing
from relay.settings import Settings
from relay.store import agora_agents, sessions
from relay.store.database import Database
from tests.customers import Customer, Customers


@pytest.fixture
def settings(switchhook_env: dict[str, str]) -> Settings:
    return Settings.from_environ(switchhook_env | {"SWITCHHOOK_KEYS": "k" * 40})


@pytest.fixture
def customers(settings: Settings, database: Database, redis_client: redis.Redis) -> Customers:
    return Customers(settings, database, redis_client)


@pytest.fixture
def directory(settings: Settings, database: Database, redis_client: redis.Redis) -> Directory:
    """As a new process has it."""
    return _directory(settings, database, redis_client)


@pytest.fixture
def cut_off(settings: Settings, redis_client: redis.Redis) -> Iterator[Directory]:
    """One whose Postgres is away."""
    away = dataclasses.replace(settings, database_url="postgresql+psycopg://nobody@/none?host=/nonexistent")
    database = Database(postgres_engine(away))
    yield _directory(settings, database, redis_client)
    database.close()


def _directory(settings: Settings, database: Database, client: redis.Redis) -> Directory:
    ring = KeyRing(settings.keys)
    return Directory(Mirror(client, ring), ring, database)


def opened(customer: Customer) -> tuple[int, int]:
    """A template, and a session of it."""
    template_id = customer.template(None).template.id
    return template_id, customer.session(template_id)


def test_a_session_that_redis_has_lost_is_found_again(
    customers: Customers, directory: Directory, cut_off: Directory, redis_client: redis.Redis
) -> None:
    """Its call would be charged beside it otherwise; it is asked for once, and known without Postgres from then on."""
    customer = customers.create()
    template_id, session_id = opened(customer)
    redis_client.flushdb()
    with pytest.raises(Unavailable):
        cut_off.template_of_lost_session(customer.id, session_id)
    assert directory.template_of_lost_session(customer.id, session_id) == template_id
    assert cut_off.template_of_session(customer.id, session_id) == template_id
    assert 6 * 86_400 < redis_client.ttl(f"sw:config:session:{customer.id}:{session_id}") <= 7 * 86_400


def test_a_session_without_a_template_is_found_again_too(
    customers: Customers, directory: Directory, database: Database
) -> None:
    """An agent that joined by Agora's own route has none."""
    customer = customers.create()
    with database.begin() as connection:
        session = sessions.create(connection, account_id=customer.id, provider="agora")
    assert directory.template_of_lost_session(customer.id, session.id) == 0


def test_another_accounts_session_is_not_found(customers: Customers, directory: Directory) -> None:
    """Nor does it become known by being asked for."""
    customer, other = customers.create(), customers.create()
    _, session_id = opened(customer)
    assert directory.template_of_lost_session(other.id, session_id) is None
    assert directory.template_of_session(other.id, session_id) is None


@pytest.mark.parametrize("session_id", [DERIVED_SESSION_BASE, 0, -1])
def test_a_number_that_the_api_never_gave_is_not_asked_for(cut_off: Directory, session_id: int) -> None:
    """Sessions that were first seen in a webhook need no Postgres."""
    assert cut_off.template_of_lost_session("acc_1", session_id) is None


def test_an_agent_of_agora_is_its_accounts(
    customers: Customers, directory: Directory, cut_off: Directory, database: Database
) -> None:
    """By what Agora answered when it joined; what cannot be known is unavailable."""
    customer = customers.create()
    with database.begin() as connection:
        session = sessions.create(connection, account_id=customer.id, provider="agora")
        agora_agents.claim(
            connection, account_id=customer.id, appid="app", name="n", channel="c", session_id=session.id
        )
        agora_agents.joined(connection, account_id=customer.id, session_id=session.id, agent_id="agent_1")
    assert directory.owner_of_agent("agent_1") == (customer.id, session.id)
    assert directory.owner_of_agent("agent_2") is None
    with pytest.raises(Unavailable):
        cut_off.owner_of_agent("agent_1")
