"""`/api/v1/accounts`: the operator makes accounts, and nobody else sees them."""

from __future__ import annotations

from typing import Any

import pytest

from relay.directory import Mirror
from relay.sealing import KeyRing
from tests.integration.api.conftest import Api

NAME_LIMIT = 255


def create(api: Api, **body: Any) -> dict[str, Any]:
    """A new account."""
    answer = api.post("/api/v1/accounts", {"name": "Acme"} | body, key=api.operator_key)
    assert answer.status_code == 201
    made: dict[str, Any] = answer.get_json()
    return made


def test_makes_an_account_whose_key_works(api: Api) -> None:
    """The key is shown once: it opens the account, and no other answer has it."""
    made = create(api, name="Acme", quotaBytes=4096)
    assert made.keys() == {"id", "name", "currency", "quotaBytes", "createdAt", "keyId", "apiKey"}
    keys = api.get("/api/v1/keys", key=made["apiKey"]).get_json()["data"]
    assert [(key["id"], key["permissions"]) for key in keys] == [(made["keyId"], "write")]
    assert made["apiKey"].startswith(keys[0]["prefix"])

    shown = api.get(f"/api/v1/accounts/{made['id']}", key=api.operator_key).get_json()
    assert shown == {name: value for name, value in made.items() if name not in ("keyId", "apiKey")}
    assert (shown["name"], shown["quotaBytes"], shown["currency"]) == ("Acme", 4096, None)


def test_changes_what_is_given(api: Api) -> None:
    """Name or quota, and the other stays; a quota of null is the setting's. The ingress is told."""
    made = create(api, quotaBytes=4096)
    path = f"/api/v1/accounts/{made['id']}"
    assert api.patch(path, {"name": "Renamed"}, key=api.operator_key).get_json()["quotaBytes"] == 4096
    changed = api.patch(path, {"quotaBytes": 8192}, key=api.operator_key).get_json()
    assert (changed["name"], changed["quotaBytes"]) == ("Renamed", 8192)
    config = Mirror(api.redis, KeyRing(api.settings.keys)).get(made["id"])
    assert config is not None
    assert config.quota_bytes == 8192
    assert api.patch(path, {"quotaBytes": None}, key=api.operator_key).get_json()["quotaBytes"] is None


def test_lists_all_accounts_in_pages(api: Api) -> None:
    """Each once, the oldest first, whatever the size of a page."""
    made = [create(api)["id"] for _ in range(3)]
    listed: list[str] = []
    cursor = None
    for _ in range(100):
        query = {"limit": "2"} | ({} if cursor is None else {"cursor": cursor})
        page = api.get("/api/v1/accounts", query_string=query, key=api.operator_key).get_json()
        assert len(page["data"]) <= 2
        listed += [account["id"] for account in page["data"]]
        cursor = page["nextCursor"]
        if cursor is None:
            break
    assert len(listed) == len(set(listed))
    assert listed[-3:] == made
    assert {api.account.id, api.other.id} < set(listed)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "  "}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "x" * (NAME_LIMIT + 1)}, "name"),
        ({"name": None}, "name"),
        ({"name": "x", "quotaBytes": 1023}, "quotaBytes"),
        ({"name": "x", "quotaBytes": 1024**5 + 1}, "quotaBytes"),
        ({"name": "x", "currency": "USD"}, "currency"),
    ],
)
def test_wrong_accounts_are_refused(api: Api, body: dict[str, Any], field: str) -> None:
    """By the name of the field."""
    answer = api.post("/api/v1/accounts", body, key=api.operator_key)
    assert (answer.status_code, answer.get_json()["field"]) == (400, field)
    if body:
        path = f"/api/v1/accounts/{api.account.id}"
        assert api.patch(path, body, key=api.operator_key).get_json().get("field") == field


def test_limits_are_taken(api: Api) -> None:
    """The longest name, the smallest quota."""
    assert len(create(api, name="x" * NAME_LIMIT, quotaBytes=1024)["name"]) == NAME_LIMIT


@pytest.mark.parametrize("query", [{"limit": "0"}, {"limit": "101"}, {"limit": "x"}, {"cursor": "x"}, {"page": "1"},
                                   {"cursor": "WyIyMDI2LTAxLTAxVDAwOjAwOjAwWiIsIlx1MDAwMCJd"},
                                   {"cursor": "WyIyMDI2LTAxLTAxVDAwOjAwOjAwIiwiYWNjX2EiXQ"}])  # fmt: skip
def test_wrong_pages_are_refused(api: Api, query: dict[str, str]) -> None:
    """Sizes, cursors that are none (with NUL, without a time zone), unknown parameters."""
    answer = api.get("/api/v1/accounts", query_string=query, key=api.operator_key)
    assert (answer.status_code, answer.get_json()["field"]) == (400, next(iter(query)))


def test_an_unknown_account_is_not_found(api: Api) -> None:
    """Neither shown nor changed."""
    path = "/api/v1/accounts/acc_" + "a" * 26
    assert api.get(path, key=api.operator_key).status_code == 404
    assert api.patch(path, {"name": "x"}, key=api.operator_key).status_code == 404
