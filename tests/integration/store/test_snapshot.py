"""An account's configuration as the hot path gets it."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import msgspec
import pytest

from relay.errors import NotFound
from relay.sealing import KeyRing, UnsealError
from relay.store import accounts, endpoints, sessions, sources, tables, templates
from relay.store.database import Database
from relay.store.snapshot import AccountConfig

URL = "https://customer.example/hook?token=t0ken"


def _account_with_one_of_each(database: Database, ring: KeyRing) -> tuple[str, str]:
    """An account and its key."""
    with database.begin() as connection:
        account_id = accounts.create(connection, name="Acme", quota_bytes=4096).id
        key = accounts.create_key(connection, account_id=account_id).key
        sources.create(connection, ring, account_id=account_id, provider="elevenlabs", secrets=["new", "old"])
        endpoints.create(
            connection,
            ring,
            account_id=account_id,
            url=URL,
            filters=["elevenlabs.*", "retell.call_analyzed"],
            headers={"X-Team": "blue"},
            retention_hours=12,
        )
        templates.create(
            connection,
            ring,
            account_id=account_id,
            name="Interview",
            type="interview",
            config={"systemPrompt": "Be kind."},
            agent_id="agent_1",
            client_webhook_url="https://customer.example/template",
            webhook_secret="shared",
            content_retention_hours=0,
        )
    return account_id, key


def _read(database: Database, ring: KeyRing, account_id: str) -> AccountConfig:
    with database.begin() as connection:
        return accounts.config(connection, ring, account_id)


def test_holds_all_that_an_event_needs(database: Database, ring: KeyRing) -> None:
    """Secrets are open, and the template's endpoint is among the endpoints."""
    account_id, key = _account_with_one_of_each(database, ring)
    config = _read(database, ring, account_id)
    with database.begin() as connection:
        version = accounts.versions(connection)[account_id]

    assert (config.account_id, config.version, config.quota_bytes) == (account_id, version, 4096)
    assert config.key_hashes == (hashlib.sha256(key.encode()).hexdigest(),)
    assert [(source.provider, source.secrets) for source in config.sources] == [("elevenlabs", ("new", "old"))]
    [template] = config.templates
    assert (template.name, template.agent_id, template.provider) == ("Interview", "agent_1", "elevenlabs")
    assert (template.webhook_secret, template.content_retention_hours) == ("shared", 0)
    by_id = {endpoint.id: endpoint for endpoint in config.endpoints}
    bound = by_id.pop(template.endpoint_id or "")
    assert (bound.template_id, bound.url) == (template.id, "https://customer.example/template")
    assert bound.webhook_secret == "shared"
    [wide] = by_id.values()
    assert (wide.url, wide.headers, wide.retention_hours) == (URL, {"X-Team": "blue"}, 12)
    assert wide.filters == ("elevenlabs.*", "retell.call_analyzed")
    assert (wide.template_id, wide.source_id, wide.state, wide.signing) == (None, None, "active", "standard")
    assert wide.deadline_seconds == 15


def test_survives_json(database: Database, ring: KeyRing) -> None:
    """The mirror writes it as JSON, and reads the same."""
    config = _read(database, ring, _account_with_one_of_each(database, ring)[0])

    assert msgspec.json.decode(msgspec.json.encode(config), type=AccountConfig) == config


def test_prints_no_secret(database: Database, ring: KeyRing) -> None:
    """A config that is logged by mistake says what it is, and no more."""
    config = _read(database, ring, _account_with_one_of_each(database, ring)[0])

    assert repr((config, *config.sources, *config.endpoints, *config.templates)) == (
        "(<AccountConfig>, <SourceConfig>, <EndpointConfig>, <EndpointConfig>, <TemplateConfig>)"
    )


def test_leaves_out_what_takes_no_more_webhooks(database: Database, ring: KeyRing) -> None:
    """Disabled sources, revoked keys and templates deleted long ago are gone; endpoints stay, for what waits."""
    account_id, _ = _account_with_one_of_each(database, ring)
    before = _read(database, ring, account_id)
    with database.begin() as connection:
        sources.disable(connection, ring, account_id=account_id, source_id=before.sources[0].id)
        templates.delete(connection, account_id=account_id, template_id=before.templates[0].id)
        long_ago = datetime.now(UTC) - sessions.AWAITED
        connection.execute(tables.templates.update().values(deleted_at=long_ago))
        endpoints.set_state(connection, account_id=account_id, endpoint_id=before.endpoints[0].id, state="disabled")
        [key] = accounts.keys(connection, account_id=account_id)
        accounts.revoke_key(connection, account_id=account_id, key_id=key.id)
    after = _read(database, ring, account_id)

    assert (after.sources, after.templates, after.key_hashes) == ((), (), ())
    assert [endpoint.state for endpoint in after.endpoints] == ["disabled", "active"]


def test_a_deleted_template_stays_for_a_while_as_retired(database: Database, ring: KeyRing) -> None:
    """Its last calls may still be under way, and their events have to find it and its endpoint."""
    account_id, _ = _account_with_one_of_each(database, ring)
    [before] = _read(database, ring, account_id).templates
    with database.begin() as connection:
        templates.delete(connection, account_id=account_id, template_id=before.id)
    assert _read(database, ring, account_id).templates == (msgspec.structs.replace(before, retired=True),)


def test_an_empty_account_has_an_empty_config(database: Database, ring: KeyRing, account_id: str) -> None:
    """Nothing is not an error."""
    config = _read(database, ring, account_id)

    assert (config.version, config.sources, config.endpoints, config.templates) == (1, (), (), ())


def test_one_account_does_not_see_another(database: Database, ring: KeyRing, account_id: str) -> None:
    """Rows of other accounts are no part of it."""
    _account_with_one_of_each(database, ring)

    assert _read(database, ring, account_id).endpoints == ()


def test_needs_the_ring_that_sealed_it(database: Database, ring: KeyRing) -> None:
    """With other keys there is no configuration, rather than an empty one."""
    account_id, _ = _account_with_one_of_each(database, ring)
    with pytest.raises(UnsealError):
        _read(database, KeyRing("another passphrase that is long enough, too"), account_id)


def test_an_unknown_account_has_none(database: Database, ring: KeyRing) -> None:
    """It is not found, rather than empty."""
    with pytest.raises(NotFound):
        _read(database, ring, "acc_none")
