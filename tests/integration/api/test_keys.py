"""`/api/v1/keys`: shown once, revoked for good, worthless when their time is over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text

from relay.directory import Mirror
from relay.sealing import KeyRing
from relay.store import accounts
from tests.integration.api.conftest import Api
from workers import expiry


def create(api: Api, **body: Any) -> dict[str, Any]:
    """A new key."""
    answer = api.post("/api/v1/keys", {"permissions": "write"} | body)
    assert answer.status_code == 201
    made: dict[str, Any] = answer.get_json()
    return made


def listed(api: Api, **options: Any) -> list[dict[str, Any]]:
    """The keys of the account."""
    data: list[dict[str, Any]] = api.get("/api/v1/keys", **options).get_json()["data"]
    return data


def webhook(api: Api, key: str) -> int:
    """The status of a webhook of Canonical's route: the hot path, which knows keys by the mirror."""
    body = {"event": "call_analyzed", "call": {"call_id": "c", "duration_ms": 1000}}
    return api.client.post("/api/v1/webhooks/retell", json=body, headers={"X-Canonical-Api-Key": key}).status_code


def test_a_new_key_works_at_once(api: Api) -> None:
    """Here and at the ingress, and is shown this once."""
    made = create(api, name="CI", expiresAt="2999-01-01T00:00:00+01:00")
    assert made["key"].startswith(made["prefix"])
    assert made["expiresAt"] == "2998-12-31T23:00:00.000Z"
    assert (made["name"], made["permissions"], made["revokedAt"]) == ("CI", "write", None)
    assert webhook(api, made["key"]) == 200
    shown = next(key for key in listed(api, key=made["key"]) if key["id"] == made["id"])
    assert "key" not in shown
    assert shown["lastUsedAt"] is not None
    assert made["key"] not in api.get("/api/v1/keys").get_data(as_text=True)


def test_a_reading_key_reads(api: Api) -> None:
    """And makes and revokes none."""
    made = create(api, permissions="read")
    assert {key["id"] for key in listed(api, key=made["key"])} == {key["id"] for key in listed(api)}
    for method, path, body in (
        ("POST", "/api/v1/keys", {"permissions": "read"}),
        ("DELETE", f"/api/v1/keys/{api.account.key_id}", None),
    ):
        assert api.call(method, path, body, key=made["key"]).status_code == 403


def test_a_revoked_key_opens_nothing(api: Api) -> None:
    """From now on, here and at the ingress; it stays in the list, and a second time changes nothing."""
    made = create(api)
    assert api.delete(f"/api/v1/keys/{made['id']}").status_code == 204
    assert api.get("/api/v1/keys", key=made["key"]).get_json()["code"] == "api_key_revoked"
    assert webhook(api, made["key"]) == 401
    first = next(key for key in listed(api) if key["id"] == made["id"])["revokedAt"]
    assert first is not None
    assert api.delete(f"/api/v1/keys/{made['id']}").status_code == 204
    assert next(key for key in listed(api) if key["id"] == made["id"])["revokedAt"] == first


def test_the_last_writing_key_stays(api: Api) -> None:
    """Neither reading keys nor those that are revoked or expired could make another."""
    gone = create(api)
    api.delete(f"/api/v1/keys/{gone['id']}")
    expired = create(api, expiresAt="2999-01-01T00:00:00Z")
    _expire(api, expired["id"])
    answer = api.delete(f"/api/v1/keys/{api.account.key_id}")
    assert (answer.status_code, answer.get_json()["code"]) == (409, "last_writing_key")
    assert api.get("/api/v1/keys").status_code == 200

    other = create(api)
    assert api.delete(f"/api/v1/keys/{api.account.key_id}", key=other["key"]).status_code == 204
    assert api.get("/api/v1/keys").status_code == 401


def test_an_expired_key_stops_working_everywhere(api: Api, api_app: Flask) -> None:
    """Here at its moment; at the ingress once upkeep has been round, which also says so in the audit."""
    made = create(api, expiresAt="2999-01-01T00:00:00Z")
    assert webhook(api, made["key"]) == 200
    _expire(api, made["id"])
    assert api.get("/api/v1/keys", key=made["key"]).get_json()["code"] == "api_key_expired"

    ring = KeyRing(api.settings.keys)
    assert expiry.end_what_is_over(Mirror(api.redis, ring), api.database, ring) >= 1
    assert webhook(api, made["key"]) == 401
    assert api.get("/api/v1/keys", key=made["key"]).get_json()["code"] == "api_key_expired"
    shown = next(key for key in listed(api) if key["id"] == made["id"])
    assert shown["revokedAt"] == shown["expiresAt"]
    (change,) = api.get("/api/v1/audit", query_string={"action": "key.expired"}).get_json()["data"]
    assert (change["actor"], change["objectId"]) == ("upkeep", made["id"])
    assert expiry.end_what_is_over(Mirror(api.redis, ring), api.database, ring) == 0


def test_an_expired_key_is_not_mirrored_again(api: Api) -> None:
    """Whoever mirrors the account first, before upkeep: the key is gone from the ingress."""
    made = create(api, expiresAt="2999-01-01T00:00:00Z")
    _expire(api, made["id"])
    Mirror(api.redis, KeyRing(api.settings.keys)).publish(api.database, api.account.id)
    with api.database.begin() as connection:
        version = accounts.changed(connection, api.account.id)
    config = Mirror(api.redis, KeyRing(api.settings.keys)).publish(api.database, api.account.id)
    assert config.version == version
    assert accounts.key_hash(made["key"]).hex() not in config.key_hashes
    assert webhook(api, made["key"]) == 401


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "permissions"),
        ({"permissions": "admin"}, "permissions"),
        ({"permissions": "read", "name": ""}, "name"),
        ({"permissions": "read", "name": "x" * 256}, "name"),
        ({"permissions": "read", "expiresAt": "2999-01-01T00:00:00"}, "expiresAt"),
        ({"permissions": "read", "expiresAt": "2001-01-01T00:00:00Z"}, "expiresAt"),
        ({"permissions": "read", "expiresAt": "9999-12-31T23:59:59-12:00"}, "expiresAt"),
        ({"permissions": "read", "expiresAt": "soon"}, "expiresAt"),
        ({"permissions": "read", "expiresAt": 1}, "expiresAt"),
        ({"permissions": "read", "key": "sk_live_mine"}, "key"),
    ],
)
def test_wrong_keys_are_refused(api: Api, body: dict[str, Any], field: str) -> None:
    """By the name of the field; moments have an offset and are to come."""
    answer = api.post("/api/v1/keys", body)
    assert (answer.status_code, answer.get_json()["field"]) == (400, field)


def test_keys_of_another_account_are_not_there(api: Api) -> None:
    """Neither listed nor revoked."""
    assert api.delete(f"/api/v1/keys/{api.other.key_id}").status_code == 404
    assert api.get("/api/v1/keys", key=api.other.key).status_code == 200
    assert api.other.key_id not in {key["id"] for key in listed(api)}


def test_pages_of_keys(api: Api) -> None:
    """The oldest first, each once."""
    made = [create(api)["id"] for _ in range(3)]
    first = api.get("/api/v1/keys", query_string={"limit": "4"}).get_json()
    second = api.get("/api/v1/keys", query_string={"limit": "4", "cursor": first["nextCursor"]}).get_json()
    assert [key["id"] for key in (*first["data"], *second["data"])][2:] == made
    assert (len(first["data"]), second["nextCursor"]) == (4, None)


def _expire(api: Api, key_id: str) -> None:
    """Move the key's end into the past."""
    over = datetime.now(UTC) - timedelta(seconds=1)
    with api.database.begin() as connection:
        connection.execute(text("UPDATE api_keys SET expires_at = :over WHERE id = :id"), {"over": over, "id": key_id})
