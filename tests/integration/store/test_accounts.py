"""Accounts, their keys, and the order of configuration versions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, text

from relay.errors import NotFound, Unavailable
from relay.sealing import KeyRing
from relay.store import accounts, endpoints, sources, templates
from relay.store.database import Database

_Arguments = Callable[[], dict[str, Any]]


def test_an_account_begins_without_currency_and_at_its_first_version(database: Database) -> None:
    """The first rate card decides the currency."""
    with database.begin() as connection:
        made = accounts.create(connection, name="Acme")

        assert (made.name, made.currency, made.quota_bytes, made.config_version) == ("Acme", None, None, 1)
        assert accounts.get(connection, made.id) == made
        assert accounts.every(connection) == [made]


def test_a_key_opens_its_account_until_it_is_revoked(database: Database, account_id: str) -> None:
    """Neither a revoked nor a made-up key opens anything."""
    with database.begin() as connection:
        made = accounts.create_key(connection, account_id=account_id)
        assert accounts.account_of_key(connection, made.key) == account_id
        assert accounts.account_of_key(connection, made.key[:-1]) is None

        accounts.revoke_key(connection, account_id=account_id, key_id=made.id)

        assert accounts.account_of_key(connection, made.key) is None
        assert [key.revoked_at is None for key in accounts.keys(connection, account_id=account_id)] == [False]


def test_a_key_is_shown_once(database: Database, account_id: str) -> None:
    """What is kept and what is printed recognises a key and does not open anything."""
    with database.begin() as connection:
        made = accounts.create_key(connection, account_id=account_id)
        row = connection.execute(text("SELECT api_keys::text FROM api_keys")).scalar_one()

    assert made.key.startswith(made.prefix)
    assert len(made.key) == len("sk_live_") + 43
    assert made.key not in row + repr(made)


def test_an_account_cannot_revoke_the_key_of_another(database: Database, account_id: str) -> None:
    """Another account's id does not open the way to a key."""
    with database.begin() as connection:
        other = accounts.create(connection, name="Other").id
        made = accounts.create_key(connection, account_id=account_id)

    with pytest.raises(NotFound), database.begin() as connection:
        accounts.revoke_key(connection, account_id=other, key_id=made.id)


def test_every_change_that_the_hot_path_sees_raises_the_version(
    database: Database, ring: KeyRing, account_id: str
) -> None:
    """Whatever is made, changed or taken away, the mirror is told by a higher version."""
    with database.begin() as connection:
        key_id = accounts.create_key(connection, account_id=account_id).id
        source_id = sources.create(connection, ring, account_id=account_id, provider="retell", secrets=["a"]).id
        endpoint_id = endpoints.create(connection, ring, account_id=account_id, url="https://example.com/").id
        made = templates.create(connection, ring, account_id=account_id, name="T", type="conversation", config={})
    source: _Arguments = partial(dict, account_id=account_id, source_id=source_id)
    endpoint: _Arguments = partial(dict, account_id=account_id, endpoint_id=endpoint_id)
    template: _Arguments = partial(dict, account_id=account_id, template_id=made.template.id)
    changes: list[Callable[[Connection], object]] = [
        lambda c: accounts.create_key(c, account_id=account_id),
        lambda c: accounts.revoke_key(c, account_id=account_id, key_id=key_id),
        lambda c: sources.create(c, ring, account_id=account_id, provider="agora", secrets=["a"]),
        lambda c: sources.set_secrets(c, ring, **source(), secrets=["b"]),
        lambda c: sources.disable(c, ring, **source()),
        lambda c: sources.enable(c, ring, **source()),
        lambda c: endpoints.create(c, ring, account_id=account_id, url="https://example.com/"),
        lambda c: endpoints.update(c, ring, **endpoint(), signing="provider"),
        lambda c: endpoints.rotate(c, ring, **endpoint()),
        lambda c: endpoints.set_state(c, **endpoint(), state="gone"),
        lambda c: templates.create(c, ring, account_id=account_id, name="U", type="interview", config={}),
        lambda c: templates.update(c, ring, **template(), name="V"),
        lambda c: templates.delete(c, **template()),
    ]
    seen = []
    for change in changes:
        with database.begin() as connection:
            before = accounts.versions(connection)[account_id]
            change(connection)
            seen.append(accounts.versions(connection)[account_id] > before)

    assert seen == [True] * len(changes)


def test_a_change_waits_for_the_one_before_it(database: Database, account_id: str) -> None:
    """A version is taken under the account's lock: a later one cannot be committed first."""
    with database.begin() as first:
        earlier = accounts.changed(first, account_id)
        with pytest.raises(Unavailable):
            _change_without_patience(database, account_id)

    with database.begin() as third:
        assert accounts.changed(third, account_id) == earlier + 1


def _change_without_patience(database: Database, account_id: str) -> None:
    with database.begin() as connection:
        connection.execute(text("SET LOCAL lock_timeout = '50ms'"))
        accounts.changed(connection, account_id)


def test_a_change_that_fails_leaves_the_version(database: Database, ring: KeyRing, account_id: str) -> None:
    """The version is raised in the transaction of the change, and falls with it."""
    with database.begin() as connection:
        before = accounts.versions(connection)
    with pytest.raises(NotFound), database.begin() as connection:
        sources.disable(connection, ring, account_id=account_id, source_id="src_none")

    with database.begin() as connection:
        assert accounts.versions(connection) == before


@pytest.mark.parametrize("unknown", [accounts.get, accounts.changed])
def test_an_unknown_account_is_not_found(database: Database, unknown: Callable[[Connection, str], object]) -> None:
    """Reading and changing alike."""
    with pytest.raises(NotFound), database.begin() as connection:
        unknown(connection, "acc_none")
