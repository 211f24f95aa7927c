"""`/api/v1/provider-keys`: an account's own keys at providers, sealed and never shown."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from relay.sealing import KeyRing
from relay.store import provider_keys
from relay.store.tables import provider_keys as rows
from tests.integration.api.conftest import Api

PATH = "/api/v1/provider-keys/elevenlabs"
KEY = "xi-secret-of-the-account"


def opened(api: Api, provider: str = "elevenlabs") -> str | None:
    """What would be sent to the provider for the account."""
    with api.database.begin() as connection:
        ring = KeyRing(api.settings.keys)
        return provider_keys.opened(connection, ring, account_id=api.account.id, provider=provider)


def test_a_key_is_used_and_never_shown(api: Api) -> None:
    """Stored sealed, replaced by the next, gone when it is removed."""
    assert api.get(PATH).status_code == 404
    for key in ("an-older-one", KEY):
        answer = api.put(PATH, {"key": key})
        assert (answer.status_code, answer.get_json().keys()) == (200, {"provider", "createdAt"})
    assert opened(api) == KEY
    shown = api.get(PATH)
    assert shown.get_json()["provider"] == "elevenlabs"
    assert [one["provider"] for one in api.get("/api/v1/provider-keys").get_json()["data"]] == ["elevenlabs"]
    assert KEY not in shown.get_data(as_text=True)
    with api.database.begin() as connection:
        assert [raw for raw in connection.execute(select(rows.c.sealed_key)).scalars() if KEY.encode() in raw] == []

    assert api.delete(PATH).status_code == 204
    assert api.delete(PATH).status_code == 404
    assert opened(api) is None


def test_agoras_key_has_two_parts(api: Api) -> None:
    """Its customer id and secret, as Basic has them."""
    path = "/api/v1/provider-keys/agora"
    assert api.put(path, {"key": "without-a-colon"}).get_json()["field"] == "key"
    assert api.put(path, {"key": "id:secret"}).status_code == 200
    assert opened(api, "agora") == "id:secret"


@pytest.mark.parametrize("key", ["", "a b", "a\r\nX-Evil: 1", "schl\u00fcssel", "k" * 513, None, 7])
def test_keys_that_could_not_be_sent_are_refused(api: Api, key: Any) -> None:
    """They go into a header: visible ASCII, at most 512."""
    answer = api.put(PATH, {"key": key})
    assert (answer.status_code, answer.get_json()["field"]) == (400, "key")
    assert opened(api) is None


@pytest.mark.parametrize("provider", ["openai", "ELEVENLABS", "x%00", "%ED%A0%80"])
def test_other_providers_are_not_found(api: Api, provider: str) -> None:
    """Whatever stands in the path."""
    for method, body in (("GET", None), ("PUT", {"key": KEY}), ("DELETE", None)):
        assert api.call(method, f"/api/v1/provider-keys/{provider}", body).status_code == 404


def test_a_reading_key_stores_none(api: Api) -> None:
    """It may see that there is one."""
    api.put(PATH, {"key": KEY})
    reading = api.account.reading_key
    assert api.get(PATH, key=reading).status_code == 200
    assert api.put(PATH, {"key": "other"}, key=reading).status_code == 403
    assert api.delete(PATH, key=reading).status_code == 403
    assert opened(api) == KEY


def test_accounts_have_keys_of_their_own(api: Api) -> None:
    """Another account sees, changes and removes nothing of it."""
    api.put(PATH, {"key": KEY})
    assert api.get(PATH, key=api.other.key).status_code == 404
    assert api.delete(PATH, key=api.other.key).status_code == 404
    assert api.put(PATH, {"key": "theirs"}, key=api.other.key).status_code == 200
    assert opened(api) == KEY
