"""Signed URLs for agents, by CanaryLLM's path and by ElevenLabs' own; and who calls, as CanaryLLM's client asks it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from elevenlabs.client import ElevenLabs
from elevenlabs.core import ApiError

from relay.settings import ProviderAccess, Settings
from tests.fakes.elevenlabs import KEY, FakeElevenLabs
from tests.integration.api.conftest import Api

CANARY = "/api/agents/signed-url"
ELEVENLABS = ("/v1/convai/conversation/get-signed-url", "/v1/convai/conversation/get_signed_url")
SHORTEST = {"name": "T", "type": "conversation", "systemPrompt": "Be kind."}


@pytest.fixture(scope="module")
def api_settings(api_settings: Settings, eleven: FakeElevenLabs) -> Settings:
    """The API with our own key at ElevenLabs."""
    return replace(api_settings, elevenlabs=ProviderAccess(base_url=eleven.url, api_key=KEY))


def a_template(api: Api, *, key: str | None = None, **fields: Any) -> dict[str, Any]:
    """A template of the account, or of the one whose key it is."""
    if "agentId" in fields:
        api.grant(fields.get("provider", "elevenlabs"), fields["agentId"])
    made: dict[str, Any] = api.post("/api/convagents/templates", SHORTEST | fields, key=key).get_json()["data"]
    return made


def test_signs_for_an_agent_of_the_account(api: Api) -> None:
    """For 15 minutes; a session is echoed as it was given."""
    template = a_template(api)
    data = api.post(CANARY, {"agentId": template["agentId"]}).get_json()["data"]
    assert template["agentId"] in data["signedUrl"]
    assert (data["expiresIn"], set(data)) == (900, {"signedUrl", "expiresIn"})
    started = api.post("/api/convagents/sessions", {"templateId": template["id"]}).get_json()["data"]["session"]
    for session_id in (started["id"], str(started["id"])):
        data = api.post(CANARY, {"agentId": template["agentId"], "sessionId": session_id}).get_json()["data"]
        assert data["sessionId"] == session_id


def test_an_agent_or_session_of_nobody_or_another_account_is_not_found(api: Api, eleven: FakeElevenLabs) -> None:
    """And the provider is not asked, though its key would open both."""
    theirs = a_template(api, key=api.other.key)
    mine = a_template(api)
    of_retell = a_template(api, provider="retell", agentId="agent_of_retell")
    gone = a_template(api, agentId="agent_gone")
    assert api.delete(f"/api/convagents/templates/{gone['id']}").status_code == 200
    session = api.post("/api/convagents/sessions", {"templateId": theirs["id"]}, key=api.other.key)
    session_id = session.get_json()["data"]["session"]["id"]
    before = len(eleven.requests)
    for agent_id in (theirs["agentId"], of_retell["agentId"], gone["agentId"], "agent_of_nobody"):
        assert api.post(CANARY, {"agentId": agent_id}).status_code == 404
        for path in ELEVENLABS:
            answer = api.get(path, key="", query_string={"agent_id": agent_id}, headers={"xi-api-key": api.account.key})
            assert answer.status_code == 404
            assert answer.get_json()["detail"]["status"] == "not_found"
    assert api.post(CANARY, {"agentId": mine["agentId"], "sessionId": session_id}).status_code == 404
    assert len(eleven.requests) == before


@pytest.mark.parametrize("path", ELEVENLABS)
def test_signs_by_elevenlabs_own_path(api: Api, path: str) -> None:
    """With the account's key where ElevenLabs' would be."""
    agent_id = a_template(api)["agentId"]
    answer = api.get(path, key="", query_string={"agent_id": agent_id}, headers={"xi-api-key": api.account.key})
    assert (answer.status_code, set(answer.get_json())) == (200, {"signed_url"})
    assert agent_id in answer.get_json()["signed_url"]


@pytest.mark.parametrize("path", ELEVENLABS)
@pytest.mark.parametrize(
    ("key", "query", "status", "code"),
    [
        ("", {"agent_id": "a"}, 401, "api_key_missing"),
        ("sk_live_nobody", {"agent_id": "a"}, 401, "api_key_invalid"),
        ("reading", {"agent_id": "a"}, 403, "insufficient_permissions"),
        ("own", {}, 400, "validation_error"),
        ("own", {"agent_id": "a", "include_conversation_id": "true"}, 400, "validation_error"),
    ],
)
def test_refuses_in_elevenlabs_words(
    api: Api, *, path: str, key: str, query: dict[str, str], status: int, code: str
) -> None:
    """Under `detail`, as its clients expect it."""
    keys = {"own": api.account.key, "reading": api.account.reading_key}
    answer = api.get(path, key="", query_string=query, headers={"xi-api-key": keys.get(key, key)})
    assert (answer.status_code, answer.get_json()["detail"]["status"]) == (status, code)
    assert answer.headers["x-request-id"]


def test_an_outage_is_told_and_leaves_nothing(api: Api, eleven: FakeElevenLabs) -> None:
    """503 to come back, whoever asks."""
    agent_id = a_template(api)["agentId"]
    eleven.fail_next(503, times=3)
    answer = api.post(CANARY, {"agentId": agent_id})
    eleven.recover()
    assert (answer.status_code, answer.get_json()["code"]) == (503, "PROVIDER_UNAVAILABLE")
    assert answer.headers["Retry-After"]


def test_the_official_client_works_with_another_base_url(api: Api, served: str) -> None:
    """And an account's key in the place of ElevenLabs'."""
    agent_id = a_template(api)["agentId"]
    client = ElevenLabs(base_url=served, api_key=api.account.key)
    signed = client.conversational_ai.conversations.get_signed_url(agent_id=agent_id)
    assert agent_id in signed.signed_url
    theirs = a_template(api, key=api.other.key)["agentId"]
    with pytest.raises(ApiError) as refused:
        client.conversational_ai.conversations.get_signed_url(agent_id=theirs)
    assert refused.value.status_code == 404


def test_tells_about_the_key(api: Api) -> None:
    """What it may do and how often, never the key itself."""
    answer = api.get("/api/keys/info")
    data = answer.get_json()["data"]
    assert api.account.key.startswith(data["keyPrefix"])
    assert api.account.key not in answer.get_data(as_text=True)
    assert data["permissions"] == {"read": True, "write": True, "admin": False}
    assert data["rateLimits"] == {"perMinute": 600, "perDay": 864_000}
    assert data["createdAt"].endswith("Z")
    reading = api.get("/api/keys/info", key=api.account.reading_key).get_json()["data"]
    assert reading["permissions"] == {"read": True, "write": False, "admin": False}


def test_tells_about_the_account(api: Api) -> None:
    """Its name, and the currency once it has a rate card."""
    data = api.get("/api/portal/info").get_json()["data"]
    assert (data["id"], data["name"], data["currency"]) == (api.account.id, "Ours", None)
    assert api.get("/api/portal/info", key="").status_code == 401
