"""Setting accounts up: what is stored is shown, what is wrong is refused by name."""

from __future__ import annotations

import pytest
import redis

from relay.connections import redis_client as connect_redis
from relay.demo.embedded import Scratch, start_redis
from relay.directory import Mirror
from relay.errors import BadRequest, Conflict, NotFound, Unavailable
from relay.outbox import Outbox
from relay.provisioning import Provisioning
from relay.sealing import KeyRing
from relay.settings import Settings
from relay.store import accounts, endpoints
from relay.store.database import Database


def test_what_was_made_is_shown_even_while_redis_is_away(
    settings: Settings, database: Database, scratch: Scratch
) -> None:
    """A key is shown once: an account must not be stored with its key lost because the mirror failed."""
    gone = start_redis(scratch, name="redis-gone")
    client = connect_redis(Settings(database_url=settings.database_url, redis_url=gone.url, keys=settings.keys))
    gone.kill()
    ring = KeyRing(settings.keys)
    made = Provisioning(settings, database, ring, Mirror(client, ring), Outbox(client)).create_account(name="Acme")
    with database.begin() as connection:
        assert accounts.account_of_key(connection, made.key.key) == made.account.id
    gone.stop()


def test_agent_belongs_to_one_template(provisioning: Provisioning) -> None:
    """A second template for the same agent is refused, and says why; another account may have that agent."""
    mine = provisioning.create_account(name="Acme").account.id
    theirs = provisioning.create_account(name="Other").account.id

    def template(account_id: str) -> None:
        provisioning.create_template(
            account_id=account_id, name="T", type="conversation", config={}, client_webhook_url=None, agent_id="agent_1"
        )

    template(mine)
    template(theirs)
    with pytest.raises(Conflict) as refused:
        template(mine)
    assert (refused.value.code, refused.value.field) == ("agent_taken", "agentId")


@pytest.mark.parametrize("secret", ["whsec_QQ==", "QUJD" * 8, "whsec_" + "QUJD" * 30, "whsec_$$$"])
def test_signing_secret_that_is_no_standard_webhooks_secret_is_refused(provisioning: Provisioning, secret: str) -> None:
    """Too short, without its prefix, too long, not base64."""
    account_id = provisioning.create_account(name="Acme").account.id
    with pytest.raises(BadRequest) as refused:
        provisioning.create_endpoint(account_id=account_id, url="http://127.0.0.1/", signing_secret=secret)
    assert refused.value.field == "signingSecret"


def test_enabling_an_endpoint_forgets_its_gate(provisioning: Provisioning, redis_client: redis.Redis) -> None:
    """An endpoint that answered 410 is tried again once somebody has enabled it."""
    account_id = provisioning.create_account(name="Acme").account.id
    endpoint = provisioning.create_endpoint(account_id=account_id, url="http://127.0.0.1/")
    redis_client.hset(f"sw:gate:{endpoint.id}", "state", "gone")
    provisioning.set_endpoint_state(account_id=account_id, endpoint_id=endpoint.id, enabled=True)
    assert not redis_client.exists(f"sw:gate:{endpoint.id}")


def test_a_gate_is_never_left_closed_for_an_endpoint_that_is_enabled(
    provisioning: Provisioning, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever dies right after the commit leaves nothing behind that would end every delivery as dead."""
    account_id = provisioning.create_account(name="Acme").account.id
    endpoint = provisioning.create_endpoint(account_id=account_id, url="http://127.0.0.1/")
    provisioning.close_gone_endpoint(account_id=account_id, endpoint_id=endpoint.id)
    redis_client.hset(f"sw:gate:{endpoint.id}", "state", "gone")

    def die(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(provisioning, "_publish", die)
    with pytest.raises(KeyboardInterrupt):
        provisioning.set_endpoint_state(account_id=account_id, endpoint_id=endpoint.id, enabled=True)
    assert state(provisioning, account_id, endpoint.id) == "active"
    assert not redis_client.exists(f"sw:gate:{endpoint.id}")


def test_another_accounts_gate_cannot_be_opened(provisioning: Provisioning, redis_client: redis.Redis) -> None:
    """Its endpoint is not found, and nothing happens to it."""
    mine, theirs = (provisioning.create_account(name=name).account.id for name in ("Mine", "Theirs"))
    endpoint = provisioning.create_endpoint(account_id=theirs, url="http://127.0.0.1/")
    redis_client.hset(f"sw:gate:{endpoint.id}", "state", "gone")
    with pytest.raises(NotFound):
        provisioning.set_endpoint_state(account_id=mine, endpoint_id=endpoint.id, enabled=True)
    assert redis_client.exists(f"sw:gate:{endpoint.id}")


def test_without_redis_an_endpoint_is_not_enabled(provisioning: Provisioning, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its gate could not be opened: nothing changes, and it can be tried again."""
    account_id = provisioning.create_account(name="Acme").account.id
    endpoint = provisioning.create_endpoint(account_id=account_id, url="http://127.0.0.1/")
    provisioning.close_gone_endpoint(account_id=account_id, endpoint_id=endpoint.id)

    def away(*_: object) -> None:
        raise Unavailable

    monkeypatch.setattr(Outbox, "reopen", away)
    with pytest.raises(Unavailable):
        provisioning.set_endpoint_state(account_id=account_id, endpoint_id=endpoint.id, enabled=True)
    assert state(provisioning, account_id, endpoint.id) == "gone"


def state(provisioning: Provisioning, account_id: str, endpoint_id: str) -> str:
    """What Postgres says of an endpoint."""
    with provisioning._locked(account_id) as connection:
        return endpoints.get(connection, provisioning._ring, account_id=account_id, endpoint_id=endpoint_id).state
