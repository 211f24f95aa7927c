"""`/api/v1/sources`: where providers send webhooks, made and changed over the API."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from sqlalchemy import text

from relay.providers import retell
from relay.sealing import KeyRing
from relay.store import sealed, workspace_webhooks
from tests.integration.api.conftest import Api

SECRET = "key_of-the-workspace"


def create(api: Api, **body: Any) -> dict[str, Any]:
    """A new source of Retell's."""
    answer = api.post("/api/v1/sources", {"provider": "retell", "secrets": [SECRET]} | body)
    assert answer.status_code == 201, answer.get_json()
    made: dict[str, Any] = answer.get_json()
    return made


def webhook(api: Api, source: dict[str, Any], *, secret: str = SECRET) -> int:
    """The status of a webhook that is signed with this secret."""
    body = json.dumps({"event": "call_started", "call": {"call_id": "c"}, "at": time.time()}).encode()
    headers = dict(retell.sign(body, secret=secret, now_ms=int(time.time() * 1000)))
    path = "/api/v1/webhooks/" + source["url"].partition("/api/v1/webhooks/")[2]
    return api.client.post(path, data=body, headers=headers).status_code


def test_a_new_source_takes_webhooks(api: Api) -> None:
    """At the URL that the answer has; its secrets are never shown."""
    made = create(api, name="Main")
    assert made["url"] == f"{api.settings.public_url}/api/v1/webhooks/retell/{made['id']}"
    assert (made["name"], made["enabled"], made["endpoint"]) == ("Main", True, None)
    assert webhook(api, made) == 200
    assert webhook(api, made, secret="another") == 401
    del made["endpoint"]
    assert api.get(f"/api/v1/sources/{made['id']}").get_json() == made
    listed = api.get("/api/v1/sources")
    assert listed.get_json() == {"data": [made], "nextCursor": None}
    assert SECRET not in listed.get_data(as_text=True)


def test_a_source_may_have_an_endpoint_of_its_own(api: Api) -> None:
    """Its secrets are shown with it, once."""
    made = create(api, relayUrl="http://127.0.0.1:9/")
    endpoint = made["endpoint"]
    assert (endpoint["sourceId"], endpoint["url"]) == (made["id"], "http://127.0.0.1:9/")
    assert endpoint["signingSecret"].startswith("whsec_")
    assert [one["id"] for one in api.get("/api/v1/endpoints").get_json()["data"]] == [endpoint["id"]]


def test_a_source_that_is_not_enabled_takes_nothing(api: Api) -> None:
    """Until it is again; a name is changed alone."""
    made = create(api, name="Main")
    path = f"/api/v1/sources/{made['id']}"
    off = api.patch(path, {"enabled": False}).get_json()
    assert (off["enabled"], off["name"], off["disabledAt"] is None) == (False, "Main", False)
    assert webhook(api, made) == 404
    assert api.patch(path, {"name": None}).get_json()["enabled"] is False
    on = api.patch(path, {"enabled": True, "name": "Again"}).get_json()
    assert (on["enabled"], on["name"], on["disabledAt"]) == (True, "Again", None)
    assert webhook(api, made) == 200


def test_several_secrets_hold_while_they_rotate(api: Api) -> None:
    """The old one beside the new one, then the new one alone."""
    made = create(api)
    path = f"/api/v1/sources/{made['id']}/rotate"
    assert api.post(path, {"secrets": ["new", SECRET]}).status_code == 200
    assert [webhook(api, made, secret=secret) for secret in ("new", SECRET)] == [200, 200]
    rotated = api.post(path, {"secrets": ["new"]})
    assert "new" not in rotated.get_data(as_text=True)
    assert [webhook(api, made, secret=secret) for secret in ("new", SECRET)] == [200, 401]


def test_a_deleted_source_is_gone(api: Api) -> None:
    """It takes no webhooks, is not listed, and cannot be enabled again."""
    made = create(api)
    path = f"/api/v1/sources/{made['id']}"
    assert api.delete(path).status_code == 204
    assert webhook(api, made) == 404
    for method, where, body in (
        ("GET", path, None),
        ("PATCH", path, {"enabled": True}),
        ("POST", f"{path}/rotate", {"secrets": ["s"]}),
        ("DELETE", path, None),
    ):
        assert api.call(method, where, body).status_code == 404
    assert api.get("/api/v1/sources").get_json()["data"] == []
    with api.database.begin() as connection:
        found = text("SELECT sealed_secrets FROM sources WHERE id = :id")
        raw = connection.execute(found, {"id": made["id"]}).scalar_one()
    ring = KeyRing(api.settings.keys)
    assert sealed.unseal(ring, raw, tuple[str, ...], purpose=sealed.SOURCE, row_id=made["id"]) == ()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"provider": "openai"}, "provider"),
        ({"secrets": []}, "secrets"),
        ({"secrets": ["s"] * 9}, "secrets"),
        ({"secrets": [""]}, "secrets.0"),
        ({"secrets": ["a", "b\x7f"]}, "secrets.1"),
        ({"secrets": ["x" * 256]}, "secrets.0"),
        ({"secrets": "s"}, "secrets"),
        ({"name": ""}, "name"),
        ({"relayUrl": "http://10.0.0.1/"}, "relayUrl"),
        ({"relayUrl": "ftp://example.com/"}, "relayUrl"),
        ({"shared": True}, "shared"),
    ],
)
def test_wrong_sources_are_refused(api: Api, body: dict[str, Any], field: str) -> None:
    """By the name of the field; nothing is made."""
    answer = api.post("/api/v1/sources", {"provider": "retell", "secrets": [SECRET]} | body)
    assert (answer.status_code, answer.get_json()["field"]) == (400, field)
    assert api.get("/api/v1/sources").get_json()["data"] == []


@pytest.mark.parametrize(("body", "field"), [({"enabled": None}, "enabled"), ({"name": "x" * 256}, "name"),
                                             ({"secrets": ["s"]}, "secrets"), ({"enabled": 1}, "enabled")])  # fmt: skip
def test_wrong_changes_are_refused(api: Api, body: dict[str, Any], field: str) -> None:
    """What may be changed is a name, and whether it is enabled."""
    answer = api.patch(f"/api/v1/sources/{create(api)['id']}", body)
    assert (answer.status_code, answer.get_json()["field"]) == (400, field)


def test_a_reading_key_only_looks(api: Api) -> None:
    """It changes nothing."""
    made = create(api)
    path, reading = f"/api/v1/sources/{made['id']}", api.account.reading_key
    assert api.get(path, key=reading).status_code == 200
    for method, where, body in (
        ("POST", "/api/v1/sources", {"provider": "retell", "secrets": ["s"]}),
        ("PATCH", path, {"enabled": False}),
        ("POST", f"{path}/rotate", {"secrets": ["s"]}),
        ("DELETE", path, None),
    ):
        assert api.call(method, where, body, key=reading).status_code == 403
    assert webhook(api, made) == 200


def test_sources_of_another_account_are_not_there(api: Api) -> None:
    """Neither seen nor changed, and they go on taking webhooks."""
    made = create(api)
    path = f"/api/v1/sources/{made['id']}"
    for method, where, body in (
        ("GET", path, None),
        ("PATCH", path, {"enabled": False}),
        ("POST", f"{path}/rotate", {"secrets": ["s"]}),
        ("DELETE", path, None),
    ):
        assert api.call(method, where, body, key=api.other.key).status_code == 404
    assert api.get("/api/v1/sources", key=api.other.key).get_json()["data"] == []
    assert webhook(api, made) == 200


def managed(api: Api) -> dict[str, Any]:
    """The source that we made for a webhook of the account's workspace."""
    ring = KeyRing(api.settings.keys)
    with api.database.begin() as connection:
        workspace_webhooks.reserve(connection, ring, account_id=api.account.id, provider="elevenlabs", name="Workspace")
    (listed,) = api.get("/api/v1/sources").get_json()["data"]
    found: dict[str, Any] = listed
    return found


@pytest.mark.parametrize(
    ("method", "action", "body"),
    [
        ("POST", "/rotate", {"secrets": ["x"]}),
        ("PATCH", "", {"enabled": False}),
        ("PATCH", "", {"enabled": True, "name": "Mine"}),
        ("DELETE", "", None),
    ],
)
def test_a_source_that_we_made_is_not_the_accounts_to_change(
    api: Api, method: str, action: str, body: dict[str, Any] | None
) -> None:
    """What its provider tells there is what calls are charged by: nothing of it changes, and no change is recorded."""
    before = managed(api)
    trail = api.get("/api/v1/audit").get_json()
    answer = api.call(method, f"/api/v1/sources/{before['id']}{action}", body)
    assert (answer.status_code, answer.get_json()["code"]) == (409, "source_managed")
    assert api.get(f"/api/v1/sources/{before['id']}").get_json() == before
    assert api.get("/api/v1/audit").get_json() == trail
    hidden = api.call(method, f"/api/v1/sources/{before['id']}{action}", body, key=api.other.key)
    assert hidden.status_code == 404


def test_a_source_that_we_made_is_shown_as_such_and_may_be_named(api: Api) -> None:
    """One that the account made is not."""
    made = managed(api)
    assert made["managed"] is True
    assert api.patch(f"/api/v1/sources/{made['id']}", {"name": "Theirs"}).get_json()["name"] == "Theirs"
    assert create(api)["managed"] is False
    refused = api.post("/api/v1/sources", {"provider": "retell", "secrets": [SECRET], "managed": True})
    assert (refused.status_code, refused.get_json()["field"]) == (400, "managed")
