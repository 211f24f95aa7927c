"""`/api/v1/audit`: every change, by whom, in the transaction that made it, for good."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from relay.store.database import StatementRefused
from tests.integration.api.conftest import Api

URL = "http://127.0.0.1:9/hook"


def changes(api: Api, **query: Any) -> list[dict[str, Any]]:
    """The audit of the account, newest first."""
    answer = api.get("/api/v1/audit", query_string=query)
    assert answer.status_code == 200, answer.get_json()
    found: list[dict[str, Any]] = answer.get_json()["data"]
    return found


def digest(shown: dict[str, Any]) -> str:
    """SHA-256 of an object as an answer has it: as JSON with its keys in order and no blanks."""
    canonical = json.dumps(shown, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def test_tells_what_was_before_and_after(api: Api) -> None:
    """By digests of what the API shows, so that an answer that somebody kept can be found again."""
    made = api.post("/api/v1/endpoints", {"url": URL}).get_json()
    path = f"/api/v1/endpoints/{made['id']}"
    first = api.get(path).get_json()
    second = api.patch(path, {"deadlineSeconds": 5}).get_json()
    api.delete(path)
    deleted, updated, created = changes(api, objectId=made["id"])
    assert [one["action"] for one in (deleted, updated, created)] == [
        "endpoint.deleted",
        "endpoint.updated",
        "endpoint.created",
    ]
    assert (created["before"], created["after"]) == (None, digest(first))
    assert (updated["before"], updated["after"]) == (digest(first), digest(second))
    assert (deleted["before"], deleted["after"]) == (digest(second), None)
    assert {one["actor"] for one in (deleted, updated, created)} == {api.account.key_id}
    assert abs(datetime.now(UTC) - datetime.fromisoformat(updated["at"])) < timedelta(minutes=1)


def test_that_a_key_was_used_is_no_change_of_it(api: Api) -> None:
    """Its digests are without `lastUsedAt`, so that an answer finds them before and after the first use."""
    made = api.post("/api/v1/keys", {"permissions": "read", "name": "dashboard"}).get_json()
    api.get("/api/v1/endpoints", key=made["key"])
    (listed,) = [one for one in api.get("/api/v1/keys").get_json()["data"] if one["id"] == made["id"]]
    api.delete(f"/api/v1/keys/{made['id']}")
    (revoked,) = [one for one in api.get("/api/v1/keys").get_json()["data"] if one["id"] == made["id"]]
    assert listed.pop("lastUsedAt") is not None
    revoked.pop("lastUsedAt")
    last, first = changes(api, objectId=made["id"])
    assert (first["after"], last["before"], last["after"]) == (digest(listed), digest(listed), digest(revoked))


def test_a_secret_shows_in_the_action_alone(api: Api) -> None:
    """That it changed is known; no digest is of it."""
    source = api.post("/api/v1/sources", {"provider": "retell", "secrets": ["one"]}).get_json()["id"]
    before = changes(api, objectId=source)[0]["after"]
    api.post(f"/api/v1/sources/{source}/rotate", {"secrets": ["two"]})
    (rotated,) = changes(api, action="source.rotated")
    assert (rotated["before"], rotated["after"]) == (before, before)


def test_every_change_of_our_resources_is_there(api: Api) -> None:
    """Whoever made it: a key, or the operator."""
    operator = {"key": api.operator_key}
    account = f"/api/v1/accounts/{api.account.id}"
    api.patch(account, {"name": "Renamed"}, **operator)
    api.post(f"{account}/rate-cards", {"perMinute": "1"}, **operator)
    key = api.post("/api/v1/keys", {"permissions": "read"}).get_json()["id"]
    api.delete(f"/api/v1/keys/{key}")
    api.delete(f"/api/v1/keys/{key}")
    api.put("/api/v1/provider-keys/retell", {"key": "k"})
    api.delete("/api/v1/provider-keys/retell")
    made = api.post("/api/v1/sources", {"provider": "retell", "secrets": ["s"], "relayUrl": URL}).get_json()
    source, endpoint = f"/api/v1/sources/{made['id']}", f"/api/v1/endpoints/{made['endpoint']['id']}"
    api.patch(source, {"enabled": False})
    api.post(f"{source}/rotate", {"secrets": ["t"]})
    api.delete(source)
    for word in ("disable", "enable", "rotate"):
        api.post(f"{endpoint}/{word}", {} if word == "rotate" else None)
    api.patch(endpoint, {"events": ["retell.*"]})
    api.delete(endpoint)
    found = [(one["actor"], one["action"]) for one in reversed(changes(api))]
    assert found[:2] == [("operator", "account.updated"), ("operator", "rate_card.created")]
    assert [action for _, action in found[2:]] == [
        "key.created",
        "key.revoked",
        "provider_key.stored",
        "provider_key.removed",
        "source.created",
        "endpoint.created",
        "source.updated",
        "source.rotated",
        "source.deleted",
        "endpoint.disabled",
        "endpoint.enabled",
        "endpoint.rotated",
        "endpoint.updated",
        "endpoint.deleted",
    ]
    assert {actor for actor, _ in found[2:]} == {api.account.key_id}


def test_what_was_refused_is_not_there(api: Api) -> None:
    """Nor what was only looked at."""
    api.post("/api/v1/endpoints", {"url": "http://10.0.0.1/"})
    api.delete(f"/api/v1/keys/{api.account.key_id}")
    api.get("/api/v1/endpoints")
    assert changes(api) == []


def test_filters_and_pages(api: Api) -> None:
    """By action, object and moment, newest first, each once."""
    started = datetime.now(UTC)
    made = [api.post("/api/v1/endpoints", {"url": URL}).get_json()["id"] for _ in range(3)]
    api.post(f"/api/v1/endpoints/{made[0]}/disable")
    assert [one["objectId"] for one in changes(api, action="endpoint.created")] == made[::-1]
    assert len(changes(api, since=(started - timedelta(seconds=5)).isoformat().replace("+00:00", "Z"))) == 4
    assert changes(api, since="2999-01-01T00:00:00Z") == []
    first = api.get("/api/v1/audit", query_string={"limit": "3"}).get_json()
    second = api.get("/api/v1/audit", query_string={"limit": "3", "cursor": first["nextCursor"]}).get_json()
    assert [one["action"] for one in (*first["data"], *second["data"])] == ["endpoint.disabled"] + [
        "endpoint.created"
    ] * 3
    assert second["nextCursor"] is None


@pytest.mark.parametrize(
    "query",
    [
        {"since": "yesterday"},
        {"since": "2026-01-01T00:00:00"},
        {"action": ""},
        {"action": "x" * 65},
        {"objectId": "a\x00b"},
        {"cursor": "WzBd"},
        {"cursor": "OTk5OTk5OTk5OTk5OTk5OTk5OTk"},
        {"cursor": "\u00e4"},
        {"limit": "101"},
        {"actor": "cli"},
    ],
)
def test_wrong_questions_are_refused(api: Api, query: dict[str, str]) -> None:
    """By the name of the parameter."""
    answer = api.get("/api/v1/audit", query_string=query)
    assert (answer.status_code, answer.get_json()["field"]) == (400, next(iter(query)))


def test_accounts_see_their_own(api: Api) -> None:
    """A reading key too; another account sees nothing of it, even by the object's id."""
    made = api.post("/api/v1/endpoints", {"url": URL}).get_json()["id"]
    assert len(api.get("/api/v1/audit", key=api.account.reading_key).get_json()["data"]) == 1
    theirs = api.get("/api/v1/audit", query_string={"objectId": made}, key=api.other.key)
    assert theirs.get_json()["data"] == []


@pytest.mark.parametrize(
    "statement",
    ["UPDATE audit SET actor = 'nobody'", "DELETE FROM audit", "TRUNCATE audit", "DELETE FROM audit WHERE false"],
)
def test_the_database_takes_nothing_back(api: Api, statement: str) -> None:
    """It refuses to change or delete what is there, whoever asks."""
    api.post("/api/v1/endpoints", {"url": URL})
    with pytest.raises(StatementRefused), api.database.begin() as connection:
        connection.execute(text(statement))
    assert len(changes(api)) == 1


def test_a_change_that_fails_leaves_no_row(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one whose audit row cannot be written is not made."""
    made = api.post("/api/v1/endpoints", {"url": URL}).get_json()["id"]

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr("relay.store.audit.record", refuse)
    assert api.patch(f"/api/v1/endpoints/{made}", {"deadlineSeconds": 5}).status_code == 500
    monkeypatch.undo()
    assert api.get(f"/api/v1/endpoints/{made}").get_json()["deadlineSeconds"] == 15
    assert [one["action"] for one in changes(api)] == ["endpoint.created"]
