"""The field that makes a 2xx answer a failure: stored, changed, carried to the hot path, and absent before it was."""

from __future__ import annotations

import json
from functools import partial

import msgspec
import pytest
from alembic import command
from sqlalchemy import text

from relay.connections import postgres_engine
from relay.sealing import KeyRing
from relay.settings import Settings
from relay.store import accounts, endpoints
from relay.store.database import Database, StatementRefused
from relay.store.migrating import _alembic, migrate
from relay.store.snapshot import AccountConfig

URL = "https://customer.example/hook"


def test_is_stored_changed_and_removed(database: Database, ring: KeyRing, account_id: str) -> None:
    """And left alone by a change of something else."""
    with database.begin() as connection:
        without = endpoints.create(connection, ring, account_id=account_id, url=URL)
        made = endpoints.create(connection, ring, account_id=account_id, url=URL, failure_when="$.error")
        update = partial(endpoints.update, connection, ring, account_id=account_id, endpoint_id=made.id)
        assert (without.failure_when, made.failure_when) == (None, "$.error")
        assert update(filters=["retell.*"]).failure_when == "$.error"
        assert update(failure_when="$.data.error").failure_when == "$.data.error"
        assert update(headers={"X-Key": "k"}).failure_when == "$.data.error"
        assert update(failure_when=None).failure_when is None


def test_reaches_the_configuration_of_the_hot_path(database: Database, ring: KeyRing, account_id: str) -> None:
    """Through the statement, and through the JSON that the mirror keeps."""
    with database.begin() as connection:
        made = endpoints.create(connection, ring, account_id=account_id, url=URL, failure_when="$.error")
        config = accounts.config(connection, ring, account_id)
    assert [(endpoint.id, endpoint.failure_when) for endpoint in config.endpoints] == [(made.id, "$.error")]
    assert msgspec.json.decode(msgspec.json.encode(config), type=AccountConfig) == config


def test_what_an_older_version_has_mirrored_can_be_read(database: Database, ring: KeyRing, account_id: str) -> None:
    """Its endpoints have no such field, and an older version passes over the field of a newer one."""
    with database.begin() as connection:
        endpoints.create(connection, ring, account_id=account_id, url=URL)
        config = accounts.config(connection, ring, account_id)
    older = json.loads(msgspec.json.encode(config))
    assert older["endpoints"][0].pop("failure_when", "absent") is None
    older["endpoints"][0]["field_of_a_newer_version"] = 1
    assert msgspec.json.decode(json.dumps(older), type=AccountConfig) == config


def test_the_database_refuses_what_is_too_long_for_a_path(database: Database, ring: KeyRing, account_id: str) -> None:
    """No transcript fits."""
    with pytest.raises(StatementRefused) as refused, database.begin() as connection:
        endpoints.create(connection, ring, account_id=account_id, url=URL, failure_when="$." + "x" * 127)
    assert refused.value.sqlstate == "23514"


def test_endpoints_from_before_have_no_such_field(empty_database_url: str, ring: KeyRing) -> None:
    """The migration leaves them as they are."""
    settings = Settings(database_url=empty_database_url, redis_url="redis://unused.invalid", keys="")
    old = Database(postgres_engine(settings))
    with old.begin() as connection:
        config = _alembic()
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(text("INSERT INTO accounts (id, name) VALUES ('acc_1', 'Acme')"))
        connection.execute(
            text("INSERT INTO endpoints (id, account_id, sealed_config) VALUES ('ep_1', 'acc_1', 'sealed')")
        )

    migrate(settings)

    with old.begin() as connection:
        rows = connection.execute(text("SELECT id, sealed_config, failure_when FROM endpoints")).all()
    old.close()
    assert [tuple(row) for row in rows] == [("ep_1", b"sealed", None)]
