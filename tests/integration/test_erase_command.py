"""`switchhook erase` and `switchhook replay --refetch` on real servers: what they do and what they say."""

from __future__ import annotations

import json

import pytest
import redis
from sqlalchemy import select

from relay.outbox import keys
from relay.providers.retell import ACCOUNT_LABEL
from relay.settings import Settings
from relay.store import audit
from relay.store.database import Database
from relay.store.tables import sessions
from tests.customers import Customers
from tests.fakes.retell import KEY, FakeRetell
from tests.integration.test_replay_command import Past, answers


@pytest.fixture
def past(settings: Settings, database: Database, redis_client: redis.Redis, switchhook_env: dict[str, str]) -> Past:
    """An account without a past; what happens to it belongs to session 7."""
    return Past(settings, database, redis_client, switchhook_env)


def trail(database: Database, past: Past) -> list[tuple[str, str, str]]:
    """Who did what to what, newest first; its endpoints were made before."""
    with database.begin() as connection:
        rows = audit.page(connection, account_id=past.customer.id)
    return [(row.actor, row.action, row.object_id) for row in rows if not row.action.startswith(("endpoint.", "acc"))]


def test_what_is_kept_of_a_session_is_shredded(past: Past, database: Database, redis_client: redis.Redis) -> None:
    """It says how much that was; the audit trail has who did it."""
    one, two = past.endpoint(), past.endpoint()
    event_id = past.event(1, (one, "pending"), (two, "dead"))
    result = past.run("7", "--account", past.customer.id, "--json", command="erase")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout) == {"sessionId": 7, "shredded": 1, "ended": 1, "inFlight": 0}
    assert not redis_client.exists(keys.sealed(event_id))
    assert trail(database, past)[0] == ("cli", "session.content_erased", "7")
    past.record()
    again = past.run("7", "--account", past.customer.id, command="erase")
    assert [line.split() for line in again.stdout.splitlines()[1:]] == [
        ["sessionId", "7"], ["shredded", "0"], ["ended", "0"], ["inFlight", "0"],
    ]  # fmt: skip
    assert past.run(event_id, "--endpoint", two.id).exit_code == 1


def test_the_session_of_another_account_is_none(
    past: Past, settings: Settings, database: Database, redis_client: redis.Redis
) -> None:
    """One line says so, and nothing is shredded."""
    event_id = past.event(1, (past.endpoint(), "dead"))
    other = Customers(settings, database, redis_client).create()
    for words in (["7", "--account", other.id], ["8", "--account", past.customer.id]):
        result = past.run(*words, command="erase")
        assert (result.exit_code, result.stdout) == (1, "")
        assert "this account has no session by this id" in result.stderr
    assert redis_client.exists(keys.sealed(event_id))
    with database.begin() as connection:
        assert connection.execute(select(sessions.c.content_erased_at)).scalars().all() == [None]


def test_a_replay_may_fetch_content_again(past: Past, database: Database) -> None:
    """Only if it was asked for, and then it says so; a dry run cannot tell."""
    endpoint = past.endpoint()
    event_id = past.event(1, (endpoint, "delivered"), kind="call_analyzed")
    with FakeRetell() as fake:
        fake.calls["c"] = {"call_id": "c", "metadata": {ACCOUNT_LABEL: past.customer.id}, "transcript": "Hello."}
        there = {"SWITCHHOOK_RETELL_BASE_URL": fake.url, "SWITCHHOOK_RETELL_API_KEY": KEY}
        refused = past.run(event_id, **there)
        assert (refused.exit_code, fake.requests) == (1, [])
        assert "--refetch fetches it again" in refused.stdout
        assert past.run(event_id, "--refetch", "--dry-run", **there).exit_code == 2
        result = past.run(event_id, "--refetch", "--json", **there)
    assert (result.exit_code, answers(result)) == (0, [(event_id, "refetched")])
    assert past.waiting() == [(event_id, endpoint.id)]
    assert trail(database, past)[0] == ("cli", "delivery.replayed", f"{event_id}/{endpoint.id}")
