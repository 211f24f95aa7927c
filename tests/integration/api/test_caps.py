"""How much one account may have: enough for any customer, and not so much that others would notice."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update

from relay.delivery.lookups import Lookups
from relay.provisioning import caps, changes, checks
from relay.settings import ProviderAccess, Settings
from relay.store import accounts, sessions
from relay.store.tables import templates
from tests.fakes.elevenlabs import KEY, FakeElevenLabs
from tests.integration.api.conftest import Api

TEMPLATES = "/api/convagents/templates"
TEMPLATE = {"name": "T", "type": "conversation", "systemPrompt": "Be kind.", "provider": "agora"}
ENDPOINT = {"url": "http://127.0.0.1:9/"}
SOURCE = {"provider": "retell", "secrets": ["s"]}


@pytest.fixture(scope="module")
def api_settings(api_settings: Settings, eleven: FakeElevenLabs) -> Settings:
    """With our own key at ElevenLabs."""
    return replace(api_settings, elevenlabs=ProviderAccess(base_url=eleven.url, api_key=KEY))


def told(answer: Any) -> tuple[int, str]:
    """A refusal's status and code."""
    return answer.status_code, answer.get_json()["code"]


def test_the_numbers() -> None:
    """As docs/api.md has them."""
    assert (caps.MAX_ENDPOINTS, caps.MAX_SOURCES, caps.MAX_TEMPLATES, caps.MAX_KEYS) == (100, 100, 1000, 50)
    assert (caps.MAX_AWAITED_TEMPLATES, caps.MAX_ENDPOINTS_OF_TEMPLATE) == (4000, 10)


def test_an_account_has_so_many_endpoints(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of sources count, disabled ones too, those of templates do not; a deleted one makes room."""
    monkeypatch.setattr(caps, "MAX_ENDPOINTS", 3)
    made = [api.post("/api/v1/endpoints", ENDPOINT).get_json()["id"] for _ in range(2)]
    assert api.post(f"/api/v1/endpoints/{made[0]}/disable").status_code == 200
    assert api.post("/api/v1/sources", SOURCE | {"relayUrl": ENDPOINT["url"]}).status_code == 201
    assert told(api.post("/api/v1/endpoints", ENDPOINT)) == (409, "too_many_endpoints")
    assert told(api.post("/api/v1/sources", SOURCE | {"relayUrl": ENDPOINT["url"]})) == (409, "too_many_endpoints")
    assert len(api.get("/api/v1/sources").get_json()["data"]) == 1
    assert api.post(TEMPLATES, TEMPLATE | {"clientWebhookUrl": ENDPOINT["url"]}).status_code == 201
    assert api.post("/api/v1/endpoints", ENDPOINT, key=api.other.key).status_code == 201
    assert api.delete(f"/api/v1/endpoints/{made[0]}").status_code == 204
    assert api.post("/api/v1/endpoints", ENDPOINT).status_code == 201


def test_a_template_gives_up_only_so_many_endpoints(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Taking its URL away and giving it another makes a new endpoint each time; changing the URL makes none."""
    monkeypatch.setattr(caps, "MAX_ENDPOINTS_OF_TEMPLATE", 2)
    path = f"{TEMPLATES}/{api.post(TEMPLATES, TEMPLATE).get_json()['data']['id']}"
    for _ in range(2):
        given = api.put(path, {"clientWebhookUrl": ENDPOINT["url"]}).get_json()["data"]
        assert api.put(path, {"clientWebhookUrl": ENDPOINT["url"] + "other"}).status_code == 200
        assert api.put(path, {"clientWebhookUrl": None}).status_code == 200
    assert told(api.put(path, {"clientWebhookUrl": ENDPOINT["url"]})) == (409, "TOO_MANY_ENDPOINTS")
    assert api.put(path, {"name": "Another"}).status_code == 200
    assert api.delete(f"/api/v1/endpoints/{given['endpointId']}").status_code == 204
    assert api.put(path, {"clientWebhookUrl": ENDPOINT["url"]}).status_code == 200


def test_an_account_has_so_many_sources(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deleted one makes room; the one that we made for ElevenLabs' webhook does not count."""
    monkeypatch.setattr(caps, "MAX_SOURCES", 1)
    assert api.post(TEMPLATES, TEMPLATE | {"provider": "elevenlabs"}).get_json()["data"]["syncStatus"] == "synced"
    made = api.post("/api/v1/sources", SOURCE)
    assert made.status_code == 201
    assert told(api.post("/api/v1/sources", SOURCE)) == (409, "too_many_sources")
    assert api.delete(f"/api/v1/sources/{made.get_json()['id']}").status_code == 204
    assert api.post("/api/v1/sources", SOURCE).status_code == 201


def test_an_account_has_so_many_templates(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deleted ones make room; but for a week they count towards a larger number."""
    monkeypatch.setattr(caps, "MAX_TEMPLATES", 2)
    monkeypatch.setattr(caps, "MAX_AWAITED_TEMPLATES", 4)
    made = [api.post(TEMPLATES, TEMPLATE).get_json()["data"]["id"] for _ in range(2)]
    assert told(api.post(TEMPLATES, TEMPLATE)) == (409, "TOO_MANY_TEMPLATES")
    assert api.put(f"{TEMPLATES}/{made[1]}", {"name": "Another"}).status_code == 200
    for _ in range(2):
        assert api.delete(f"{TEMPLATES}/{made.pop()}").status_code == 200
        made.append(api.post(TEMPLATES, TEMPLATE).get_json()["data"]["id"])
    gone = made.pop()
    assert api.delete(f"{TEMPLATES}/{gone}").status_code == 200
    assert told(api.post(TEMPLATES, TEMPLATE)) == (409, "TOO_MANY_TEMPLATES")
    with api.database.begin() as connection:
        long_ago = datetime.now(UTC) - timedelta(days=8)
        connection.execute(update(templates).where(templates.c.id == gone).values(deleted_at=long_ago))
    assert api.post(TEMPLATES, TEMPLATE).status_code == 201


def test_an_account_has_so_many_keys_in_force(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Revoked and expired ones do not count."""
    monkeypatch.setattr(caps, "MAX_KEYS", 3)
    body = {"permissions": "read"}
    made = api.post("/api/v1/keys", body)
    assert made.status_code == 201
    assert told(api.post("/api/v1/keys", body)) == (409, "too_many_keys")
    assert api.delete(f"/api/v1/keys/{made.get_json()['id']}").status_code == 204
    with api.database.begin() as connection:
        over = datetime.now(UTC) - timedelta(seconds=1)
        accounts.create_key(connection, account_id=api.account.id, expires_at=over)
    assert api.post("/api/v1/keys", body).status_code == 201
    assert told(api.post("/api/v1/keys", body)) == (409, "too_many_keys")


def test_a_template_has_so_much_in_all(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when it grows by changes; the field that has the most is named, and nothing is stored."""
    monkeypatch.setattr(checks, "MAX_CONFIG_BYTES", 8 * 1024)
    prompt, description = "p" * 6_000, "d" * 1_500
    refused = api.post(TEMPLATES, TEMPLATE | {"systemPrompt": prompt * 1, "firstMessage": "f" * 1000, "tag": "t" * 100,
                                              "description": description})  # fmt: skip
    assert told(refused) == (400, "TEMPLATE_TOO_LARGE")
    assert refused.get_json()["details"]["issues"][0]["path"] == "systemPrompt"
    made = api.post(TEMPLATES, TEMPLATE | {"systemPrompt": prompt}).get_json()["data"]["id"]
    assert api.put(f"{TEMPLATES}/{made}", {"description": description}).status_code == 200
    grown = api.put(f"{TEMPLATES}/{made}", {"firstMessage": "f" * 1000})
    assert told(grown) == (400, "TEMPLATE_TOO_LARGE")
    assert api.get(f"{TEMPLATES}/{made}").get_json()["data"]["template"]["firstMessage"] is None


def test_the_largest_template_that_canaryllm_takes_is_taken(api: Api) -> None:
    """Each of its fields at its limit (section 5 of its document), in ASCII."""
    largest = TEMPLATE | {
        "systemPrompt": "p" * 10_000,
        "description": "d" * 2000,
        "firstMessage": "f" * 1000,
        "questions": [{"question": "q" * 2000, "context": "c" * 2000, "isRequired": True}] * 50,
        "languagePresets": {f"l{number}": {"firstMessage": "f" * 1000} for number in range(30)},
    }
    assert api.post(TEMPLATES, largest).status_code == 201


def test_a_page_of_sessions_has_a_hundred_unless_more_are_asked_for(api: Api) -> None:
    """At most a thousand."""
    with api.database.begin() as connection:
        for _ in range(101):
            sessions.create(connection, account_id=api.account.id, provider="elevenlabs")
    usual = api.get("/api/convagents/sessions").get_json()
    assert (len(usual["data"]), usual["nextCursor"] is None) == (100, False)
    whole = api.get("/api/convagents/sessions", query_string={"limit": 1000}).get_json()
    assert (len(whole["data"]), whole["nextCursor"]) == (101, None)


def test_a_url_whose_name_servers_are_silent_is_told_soon(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 that names the field, for whatever has a URL; other names of the account wait for that, no one else's."""
    speak = threading.Event()

    def silent(host: str) -> tuple[str, ...]:
        if host != "quick.example":
            speak.wait(10)
        return ("127.0.0.1",)

    monkeypatch.setattr(changes, "LOOKUPS", Lookups(silent, seconds=0.3, each=4))
    try:
        hook = {"url": "http://hook.silent.example/"}
        made = api.post("/api/v1/endpoints", ENDPOINT).get_json()["id"]
        answers = [
            api.post("/api/v1/endpoints", hook),
            api.patch(f"/api/v1/endpoints/{made}", hook),
            api.post("/api/v1/sources", SOURCE | {"relayUrl": hook["url"]}),
        ]
        assert {told(answer) for answer in answers} == {(503, "name_unanswered")}
        assert [answer.get_json()["field"] for answer in answers] == ["url", "url", "relayUrl"]
        template = api.post(TEMPLATES, TEMPLATE | {"clientWebhookUrl": hook["url"]})
        assert told(template) == (503, "NAME_UNANSWERED")
        assert "silent" not in template.get_data(as_text=True)
        quick = {"url": "http://quick.example/"}
        assert told(api.post("/api/v1/endpoints", quick)) == (503, "names_busy")
        assert api.post("/api/v1/endpoints", quick, key=api.other.key).status_code == 201
    finally:
        speak.set()
