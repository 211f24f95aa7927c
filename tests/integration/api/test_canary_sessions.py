"""CanaryLLM's sessions: started at each provider, listed, ended by webhooks, and never left behind by an outage."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any, NoReturn

import pytest
from werkzeug.test import TestResponse

from relay.errors import Unavailable
from relay.outbox import Outbox
from relay.outbox.outcomes import OutcomeReader
from relay.settings import ProviderAccess, Settings
from relay.store import charges, deliveries, rate_cards, sessions
from tests.answering import Answering
from tests.answering import answer as replying
from tests.fakes.agora import FakeAgora
from tests.fakes.elevenlabs import KEY, FakeElevenLabs
from tests.integration.api.conftest import Api
from workers.charge import ChargeLane
from workers.record import RecordLane

TEMPLATES = "/api/convagents/templates"
PATH = "/api/convagents/sessions"
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
SHORTEST = {"name": "T", "type": "conversation", "systemPrompt": "Be kind."}
WEB_CALL = {
    "call_id": "call_of_retell",
    "access_token": "token_of_retell",
    "transport": "gateway",
    "ice_servers": [{"urls": "stun:stun.example:3478"}],
    "expires_at": 1_800_000_000_000,
}
CHANNEL: dict[str, Any] = {
    "appid": "0123456789abcdef0123456789abcdef",
    "name": "unique_name",
    "properties": {
        "channel": "c",
        "token": "t",
        "agent_rtc_uid": "1",
        "remote_rtc_uids": ["*"],
        "llm": {"url": "https://llm.example/v1"},
        "tts": {"vendor": "microsoft", "params": {"key": "k", "region": "eastus", "voice_name": "v"}},
    },
}


@pytest.fixture(scope="module")
def retell() -> Iterator[Answering]:
    """Retell, which begins a web call whatever it is asked."""
    server = Answering(replying(json.dumps(WEB_CALL).encode(), status="201 Created", content_type="application/json"))
    yield server
    server.close()


@pytest.fixture(scope="module")
def agora() -> Iterator[FakeAgora]:
    """Agora, as its documents describe it."""
    with FakeAgora() as fake:
        yield fake


@pytest.fixture(scope="module")
def api_settings(api_settings: Settings, eleven: FakeElevenLabs, retell: Answering, agora: FakeAgora) -> Settings:
    """The API with keys of ours at every provider."""
    return replace(
        api_settings,
        elevenlabs=ProviderAccess(base_url=eleven.url, api_key=KEY),
        retell=ProviderAccess(base_url=retell.url.removesuffix("/ask"), api_key="key_of_retell"),
        agora=ProviderAccess(base_url=agora.url, api_key="customer:secret"),
    )


def a_template(api: Api, **fields: Any) -> dict[str, Any]:
    """A template of the account, to which is granted what it needs at its provider."""
    if "agentId" in fields:
        api.grant(fields["provider"], fields["agentId"])
    if fields.get("provider") == "agora":
        api.grant("agora", CHANNEL["appid"])
    answer = api.post(TEMPLATES, SHORTEST | fields)
    assert answer.status_code == 201, answer.get_data(as_text=True)
    made: dict[str, Any] = answer.get_json()["data"]
    return made


def start(api: Api, template_id: int, **fields: Any) -> dict[str, Any]:
    """A session of a template."""
    answer = api.post(PATH, {"templateId": template_id, **fields})
    assert answer.status_code == 201, answer.get_data(as_text=True)
    started: dict[str, Any] = answer.get_json()["data"]
    return started


def complete(api: Api, template: dict[str, Any], session_id: int, *, seconds: int | None = 91) -> TestResponse:
    """The end of a session, as a template's secret proves it, written down and charged."""
    body = {"sessionId": session_id, "conversationId": f"conv_{session_id}", "durationSeconds": seconds}
    headers = {"X-Webhook-Secret": template["webhookSecret"]}
    answer = api.client.post("/api/convagents/webhook/complete", json=body, headers=headers)
    record = RecordLane(OutcomeReader(api.redis, consumer="tests"), api.database, on_gone=lambda *_: None)
    for lane in (record, ChargeLane(Outbox(api.redis), api.database)):
        while lane.step():
            pass
    return answer


def test_starts_as_the_document_says(api: Api, eleven: FakeElevenLabs) -> None:
    """Pending, with a signed URL for 15 minutes, and the variable that names the session in webhooks."""
    template = a_template(api)
    answer = api.post(PATH, {"templateId": template["id"]})
    assert (answer.status_code, answer.get_json()["success"]) == (201, True)
    data = answer.get_json()["data"]
    session = data["session"]
    assert session == {
        "id": session["id"], "templateId": template["id"], "status": "pending", "createdAt": session["createdAt"]
    }  # fmt: skip
    assert MOMENT.fullmatch(session["createdAt"])
    assert data["signedUrl"].startswith("wss://")
    assert template["agentId"] in data["signedUrl"]
    assert {name: data[name] for name in ("expiresIn", "dynamicVariables", "textOnly")} == {
        "expiresIn": 900, "dynamicVariables": {"canary_session_id": str(session["id"])}, "textOnly": False
    }  # fmt: skip
    assert set(data) == {"session", "signedUrl", "expiresIn", "dynamicVariables", "textOnly"}


def test_metadata_is_kept_as_it_was_given(api: Api) -> None:
    """Whatever it holds; text only is kept as well."""
    given = {"é": [1, 2.5, None, True, {"deep": "x"}], "large": 2**63 - 1, "small": 1e-7, "empty": {}}
    data = start(api, a_template(api)["id"], metadata=given, textOnly=True)
    assert (data["session"]["metadata"], data["textOnly"]) == (given, True)
    one = api.get(f"{PATH}/{data['session']['id']}").get_json()["data"]["session"]
    assert (one["metadata"], one["textOnly"], one["status"]) == (given, True, "pending")


@pytest.mark.parametrize(
    "metadata",
    [{"k": "v" * 2041}, {"k": "é" * 1021}, [1], "text", {"k": 2**63}, {"k": -1e300}, {"k": "a\x00b"}, {"k\x00": 1}],
)
def test_metadata_that_cannot_be_kept_is_refused(api: Api, metadata: Any) -> None:
    """More than 2 KB as JSON, no object, numbers beyond 64 bits, NUL; and nothing is started."""
    answer = api.post(PATH, {"templateId": a_template(api, provider="agora")["id"], "metadata": metadata})
    assert (answer.status_code, answer.get_json()["code"]) == (400, "VALIDATION_ERROR")
    assert answer.get_json()["details"]["issues"][0]["path"].startswith("metadata")
    assert api.get(PATH).get_json()["data"] == []


@pytest.mark.parametrize("number", ["1e400", "NaN", "-Infinity"])
def test_metadata_holds_only_numbers_of_json(api: Api, number: str) -> None:
    """What is written otherwise could not be read again."""
    body = f'{{"templateId": 1, "metadata": {{"k": {number}}}}}'
    headers = {"Authorization": f"Bearer {api.account.key}", "Content-Type": "application/json"}
    assert api.client.post(PATH, data=body, headers=headers).status_code == 400


def test_metadata_of_2048_bytes_is_kept(api: Api) -> None:
    """The limit itself is within it."""
    given = {"k": "v" * (2048 - len('{"k":""}'))}
    assert start(api, a_template(api)["id"], metadata=given)["session"]["metadata"] == given


def test_no_session_without_a_template_of_the_account(api: Api) -> None:
    """Another account's is not there."""
    theirs = api.post(TEMPLATES, SHORTEST | {"provider": "agora"}, key=api.other.key).get_json()["data"]["id"]
    mine = a_template(api, provider="agora")["id"]
    assert api.delete(f"{TEMPLATES}/{mine}").status_code == 200
    for template_id in (theirs, mine, 9_999_999_999_999_999):
        answer = api.post(PATH, {"templateId": template_id})
        assert (answer.status_code, answer.get_json()["code"]) == (404, "NOT_FOUND")
    for wrong in (0, "1", 1.5, None):
        assert api.post(PATH, {"templateId": wrong}).status_code == 400
    for key in (api.account.key, api.other.key):
        assert api.get(PATH, key=key).get_json()["data"] == []


# -- what the provider makes of it


def test_an_agent_that_is_not_there_yet_gets_one_more_try(api: Api, eleven: FakeElevenLabs) -> None:
    """Else the answer says when to come back, and there is no session."""
    eleven.fail_next(503, times=9)
    template = a_template(api)
    refused = api.post(PATH, {"templateId": template["id"]})
    assert (refused.status_code, refused.get_json()["code"]) == (503, "AGENT_NOT_READY")
    assert int(refused.headers["Retry-After"]) > 0
    assert api.get(PATH).get_json()["data"] == []
    eleven.recover()
    assert start(api, template["id"])["signedUrl"]


def test_an_agent_that_the_provider_refused_is_not_waited_for(api: Api, eleven: FakeElevenLabs) -> None:
    """Waiting would not help: the template has to change."""
    eleven.fail_next(422, times=2, on="POST /v1/convai/agents")
    refused = api.post(PATH, {"templateId": a_template(api)["id"]})
    eleven.recover()
    assert (refused.status_code, refused.get_json()["code"]) == (409, "AGENT_REFUSED")


@pytest.mark.parametrize(("status", "code"), [(503, "provider_unavailable"), (401, "provider_key_refused")])
def test_an_outage_leaves_no_pending_session(api: Api, eleven: FakeElevenLabs, status: int, code: str) -> None:
    """What the provider did not take has failed, with a code, and costs nothing."""
    template = a_template(api)
    eleven.fail_next(status, times=3, on="GET /v1/convai/conversation/")
    answer = api.post(PATH, {"templateId": template["id"]})
    eleven.recover()
    assert answer.status_code in (502, 503)
    assert answer.get_json()["code"] == code.upper()
    (session,) = api.get(PATH).get_json()["data"]
    assert (session["status"], session["failureCode"], session["cost"]) == ("failed", code, None)
    assert MOMENT.fullmatch(session["completedAt"])


def test_starts_a_web_call_at_retell(api: Api, retell: Answering) -> None:
    """The browser gets a token; the call is known by its id, and names the session in its webhooks."""
    template = a_template(api, provider="retell", agentId="agent_of_retell")
    data = start(api, template["id"])
    assert (data["signedUrl"], data["callId"], data["accessToken"]) == (None, "call_of_retell", "token_of_retell")
    assert (data["transport"], data["iceServers"]) == ("gateway", WEB_CALL["ice_servers"])
    asked = json.loads(retell.asked[-1].body)
    named = {"canary_session_id": str(data["session"]["id"])}
    assert (asked["agent_id"], asked["retell_llm_dynamic_variables"]) == ("agent_of_retell", named)
    assert asked["metadata"] == named | {"switchhook_account": api.account.id}
    one = api.get(f"{PATH}/{data['session']['id']}").get_json()["data"]["session"]
    assert (one["provider"], one["conversationId"]) == ("retell", "call_of_retell")
    assert "token_of_retell" not in json.dumps(one)


def test_has_an_agent_join_at_agora(api: Api, agora: FakeAgora) -> None:
    """In the project that the request names; the session is known by the agent's id."""
    template = a_template(api, provider="agora")
    data = start(api, template["id"], agora=CHANNEL, metadata={"k": "v"})
    agent = agora.agents[data["agent"]["agentId"]]
    assert (agent.name, agent.appid, data["signedUrl"]) == ("unique_name", CHANNEL["appid"], None)
    assert agent.labels["switchhook_session"] == str(data["session"]["id"])
    one = api.get(f"{PATH}/{data['session']['id']}").get_json()["data"]["session"]
    assert (one["templateId"], one["conversationId"], one["metadata"]) == (template["id"], agent.agent_id, {"k": "v"})


def test_an_agent_that_joined_is_answered_though_postgres_went_away(
    api: Api, agora: FakeAgora, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is there and will be charged by its label: whoever steers it has to know its id."""
    template = a_template(api, provider="agora")

    def away(*_: Any, **__: Any) -> NoReturn:
        raise Unavailable

    with monkeypatch.context() as patch:
        patch.setattr(sessions, "begun", away)
        patch.setattr(sessions, "get", away)
        data = start(api, template["id"], agora={**CHANNEL, "name": "answered"})
    assert data["agent"]["agentId"] in agora.agents
    [listed] = api.get(PATH).get_json()["data"]
    assert (data["session"]["id"], data["session"]["status"]) == (listed["id"], "pending")


def test_an_agent_of_agora_is_told_what_its_template_says(api: Api, agora: FakeAgora) -> None:
    """Prompt and greeting, unless the session brings its own."""
    template = a_template(api, provider="agora", firstMessage="Hello!")
    own = {**CHANNEL["properties"], "llm": {"url": "https://llm.example/v1", "greeting_message": "Good day."}}
    told = []
    for number, properties in enumerate((CHANNEL["properties"], own)):
        channel = {**CHANNEL, "name": f"told_{number}", "properties": properties}
        llm = agora.agents[start(api, template["id"], agora=channel)["agent"]["agentId"]].properties["llm"]
        told.append((llm["url"], llm["system_messages"], llm["greeting_message"]))
    prompt = [{"role": "system", "content": "Be kind."}]
    assert told == [
        ("https://llm.example/v1", prompt, "Hello!"),
        ("https://llm.example/v1", prompt, "Good day."),
    ]


@pytest.mark.parametrize("absent", ["llm", "tts"])
def test_a_channel_without_what_agora_requires_is_refused(api: Api, agora: FakeAgora, absent: str) -> None:
    """Before Agora is asked, and by name; a preset brings it along."""
    template = a_template(api, provider="agora")
    properties = {name: value for name, value in CHANNEL["properties"].items() if name != absent}
    asked = len(agora.requests)
    answer = api.post(PATH, {"templateId": template["id"], "agora": {**CHANNEL, "properties": properties}})
    assert answer.status_code == 400
    (issue,) = answer.get_json()["details"]["issues"]
    assert (issue["path"], f"properties.{absent}" in issue["message"]) == ("agora", True)
    assert (len(agora.requests), api.get(PATH).get_json()["data"]) == (asked, [])
    prepared = {**CHANNEL, "name": f"prepared_{absent}", "preset": "a_preset", "properties": properties}
    assert start(api, template["id"], agora=prepared)["agent"]["status"] == "RUNNING"


def test_only_a_template_of_agora_is_started_with_a_channel(api: Api) -> None:
    """And it cannot be started without."""
    for template, more in ((a_template(api), {"agora": CHANNEL}), (a_template(api, provider="agora"), {})):
        answer = api.post(PATH, {"templateId": template["id"], **more})
        assert (answer.status_code, answer.get_json()["details"]["issues"][0]["path"]) == (400, "agora")


# -- reading


def test_lists_the_newest_first_a_page_at_a_time(api: Api) -> None:
    """As an array under `data`, all of it unless fewer are asked for, and of one template if it is named."""
    one, other = a_template(api)["id"], a_template(api)["id"]
    made = [start(api, template_id)["session"]["id"] for template_id in (one, other, one)]
    every = api.get(PATH).get_json()
    assert ([session["id"] for session in every["data"]], every["nextCursor"]) == (made[::-1], None)
    of_one = api.get(PATH, query_string={"templateId": one}).get_json()["data"]
    assert [session["id"] for session in of_one] == [made[2], made[0]]
    first = api.get(PATH, query_string={"limit": 2}).get_json()
    rest = api.get(PATH, query_string={"limit": 2, "cursor": first["nextCursor"]}).get_json()
    assert [session["id"] for session in first["data"] + rest["data"]] == made[::-1]
    assert rest["nextCursor"] is None


@pytest.mark.parametrize(
    "query", [{"limit": 0}, {"limit": 1001}, {"cursor": "x"}, {"cursor": "WzEsMl0"}, {"templateId": "a"}, {"page": 2}]
)
def test_refuses_a_query_that_makes_no_sense(api: Api, query: dict[str, Any]) -> None:
    """By name."""
    answer = api.get(PATH, query_string=query)
    assert (answer.status_code, answer.get_json()["details"]["issues"][0]["path"]) == (400, next(iter(query)))


def test_another_accounts_session_is_not_found(api: Api) -> None:
    """Neither it nor its audio, and it is in no list."""
    session_id = start(api, a_template(api)["id"])["session"]["id"]
    for path in (f"{PATH}/{session_id}", f"{PATH}/{session_id}/audio"):
        answer = api.get(path, key=api.other.key)
        assert (answer.status_code, answer.get_json()["code"]) == (404, "NOT_FOUND")
    assert api.get(PATH, key=api.other.key).get_json()["data"] == []


def test_there_is_no_audio(api: Api) -> None:
    """404 with the reason: nothing is kept."""
    session_id = start(api, a_template(api)["id"])["session"]["id"]
    answer = api.get(f"{PATH}/{session_id}/audio")
    assert (answer.status_code, answer.get_json()["code"]) == (404, "AUDIO_NOT_KEPT")
    assert "kept" in answer.get_json()["error"]


# -- ending


def test_is_charged_when_it_completes(api: Api) -> None:
    """With its duration, the seconds that are billed, and a cost that is a number here."""
    with api.database.begin() as connection:
        rate_cards.add(connection, api.account.id, per_minute=Decimal("0.10"))
    template = a_template(api)
    session_id = start(api, template["id"])["session"]["id"]
    assert complete(api, template, session_id).status_code == 200
    one = api.get(f"{PATH}/{session_id}").get_json()["data"]["session"]
    assert (one["status"], one["duration"], one["billedSeconds"]) == ("completed", 91.0, 91)
    assert (one["cost"], one["currency"]) == (0.151667, "USD")
    assert MOMENT.fullmatch(one["completedAt"])


def test_a_templates_own_rate_card_comes_before_the_accounts(api: Api) -> None:
    """Whenever either begins; what was charged keeps the price that it was charged at."""
    with api.database.begin() as connection:
        rate_cards.add(connection, api.account.id, per_minute=Decimal("0.10"))
        own = rate_cards.add(connection, api.account.id, per_minute=Decimal(6), initial_seconds=60, offered=True)
    template = a_template(api, rateCard=own.id)
    session_id = start(api, template["id"])["session"]["id"]
    complete(api, template, session_id)
    assert api.get(f"{PATH}/{session_id}").get_json()["data"]["session"]["cost"] == 9.1
    assert api.put(f"{TEMPLATES}/{template['id']}", {"rateCard": None}).status_code == 200
    complete(api, template, session_id)
    with api.database.begin() as connection:
        (row,) = charges.page(connection, account_id=api.account.id)
    assert (row.rate_card_id, row.unit_price, row.amount) == (own.id, Decimal(6), Decimal("9.1"))


def test_the_sessions_of_a_deleted_template_end_as_the_others_do(api: Api) -> None:
    """What they tell goes to the endpoint that it had, and they are charged at its price; nothing else comes in."""
    with api.database.begin() as connection:
        card = rate_cards.add(connection, api.account.id, per_minute=Decimal(6), offered=True)
    template = a_template(api, rateCard=card.id, clientWebhookUrl="http://127.0.0.1:9/")
    session_id = start(api, template["id"])["session"]["id"]
    assert api.delete(f"{TEMPLATES}/{template['id']}").status_code == 200
    assert complete(api, template, session_id, seconds=60).status_code == 200
    with api.database.begin() as connection:
        ended = sessions.get(connection, account_id=api.account.id, session_id=session_id)
        (sent,) = deliveries.page(connection, account_id=api.account.id)
    assert (ended.status, ended.template_id, ended.cost) == ("completed", template["id"], Decimal(6))
    assert sent.endpoint_id == template["endpointId"]
    assert complete(api, template, 999_999).status_code == 401
