"""Agora's own routes: what its document says of `join`, its siblings, and that nobody reaches another's agents."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from werkzeug.test import TestResponse

from relay.errors import Unavailable
from relay.sealing import KeyRing
from relay.settings import ProviderAccess, Settings
from relay.store import provider_keys, sessions
from relay.store.sessions import Session
from relay.web import close, create_app
from tests.customers import Customers
from tests.fakes.agora import FakeAgora
from tests.integration.api.conftest import Api, Customer
from tests.payloads import agora_headers, agora_notification

BASE = "/api/conversational-ai-agent/v2/projects"
APPID = "0123456789abcdef0123456789abcdef"
ANOTHER_APPID = "f" * 32
OURS = "Basic " + base64.b64encode(b"customer:secret").decode()


@pytest.fixture(scope="module")
def agora_server() -> Iterator[FakeAgora]:
    """Agora, for this module."""
    with FakeAgora() as fake:
        yield fake


@pytest.fixture
def agora(agora_server: FakeAgora) -> FakeAgora:
    """Agora without any agents."""
    agora_server.agents.clear()
    agora_server.requests.clear()
    return agora_server


@pytest.fixture(scope="module")
def api_settings(api_settings: Settings, agora_server: FakeAgora) -> Settings:
    """With Agora's address, and credentials of ours."""
    return replace(api_settings, agora=ProviderAccess(base_url=agora_server.url, api_key="customer:secret"))


@pytest.fixture
def api(api: Api) -> Api:
    """The API, where both accounts may use two projects with our key."""
    for appid in (APPID, ANOTHER_APPID):
        for customer in (api.account, api.other):
            api.grant("agora", appid, to=customer)
    return api


def wish(name: str = "unique_name", **properties: Any) -> dict[str, Any]:
    """The request of Agora's document, with changed properties; None removes one."""
    asked: dict[str, Any] = {
        "channel": "channel_name",
        "token": "token",
        "agent_rtc_uid": "friday",
        "remote_rtc_uids": ["*"],
        "enable_string_uid": True,
        "idle_timeout": 120,
        "advanced_features": {"enable_aivad": True},
        "llm": {
            "url": "https://api.openai.com/v1/chat/completions",
            "api_key": "sk-xxx",
            "system_messages": [{"role": "system", "content": "You are a helpful chatbot."}],
            "max_history": 10,
            "greeting_message": "Hello, how can I assist you today?",
            "failure_message": "Please hold on a second.",
            "params": {"model": "gpt-4o-mini"},
        },
        "tts": {
            "vendor": "microsoft",
            "params": {"key": "xxxx", "region": "eastus", "voice_name": "en-US-AndrewMultilingualNeural"},
        },
        "asr": {"language": "en-US"},
        "vad": {"silence_duration_ms": 480},
    }
    asked = {key: value for key, value in (asked | properties).items() if value is not None}
    return {"name": name, "properties": asked}


def basic(customer: Customer, *, key: str | None = None, key_id: str | None = None) -> dict[str, str]:
    """The header of an account's key."""
    shown = f"{key_id or customer.key_id}:{key or customer.key}"
    return {"Authorization": "Basic " + base64.b64encode(shown.encode()).decode()}


def call(
    api: Api, method: str, path: str, body: Any = None, *, by: Customer | None = None, **options: Any
) -> TestResponse:
    """A request to Agora's routes of a project."""
    headers = options.pop("headers", None) or basic(by or api.account)
    return api.client.open(f"{BASE}/{path}", method=method, json=body, headers=headers, **options)


def join(api: Api, name: str = "unique_name", *, by: Customer | None = None, appid: str = APPID, **more: Any) -> str:
    """Join, and return the agent's id."""
    answer = call(api, "POST", f"{appid}/join", wish(name, **more), by=by)
    assert answer.status_code == 200, answer.text
    return str(answer.get_json()["agent_id"])


def session_of(api: Api, session_id: int | str) -> Session:
    """A session of the account."""
    with api.database.begin() as connection:
        return sessions.get(connection, account_id=api.account.id, session_id=int(session_id))


def all_sessions(api: Api) -> list[Session]:
    """Every session of the account."""
    with api.database.begin() as connection:
        return sessions.page(connection, account_id=api.account.id)


def test_joins_as_the_document_says(api: Api, agora: FakeAgora) -> None:
    """The documented request reaches Agora as it is, with our credentials, and is answered in Agora's words."""
    answer = call(api, "POST", f"{APPID}/join", wish())

    seen = agora.requests[-1]
    agent = agora.agents[answer.get_json()["agent_id"]]
    session = session_of(api, answer.headers["Switchhook-Session"])
    labels = {"switchhook_account": api.account.id, "switchhook_session": str(session.id)}
    assert answer.status_code == 200
    assert answer.get_json() == {"agent_id": agent.agent_id, "create_ts": agent.start_ts, "status": "RUNNING"}
    assert (seen.method, seen.path, seen.authorization) == ("POST", f"{BASE}/{APPID}/join", OURS)
    assert seen.body == wish(labels=labels)
    assert (session.provider, session.status) == ("agora", "pending")
    assert (session.conversation_id, session.agent_id) == (agent.agent_id, agent.agent_id)


MICROSOFT = {"key": "k", "region": "r", "voice_name": "v"}
ELEVENLABS = {"key": "k", "model_id": "eleven_flash_v2_5", "voice_id": "v"}
FULL_LLM = {
    "url": "https://llm.example/v1", "api_key": "", "system_messages": [], "params": {"max_tokens": 9},
    "max_history": 0, "input_modalities": ["text", "image"], "output_modalities": ["text", "audio"],
    "greeting_message": "", "failure_message": "", "style": "gemini",
}  # fmt: skip


@pytest.mark.parametrize(
    "properties",
    [
        {"enable_string_uid": None, "agent_rtc_uid": "0", "remote_rtc_uids": ["*"]},
        {"enable_string_uid": False, "agent_rtc_uid": "1001", "remote_rtc_uids": ["1", "4294967295"]},
        {"idle_timeout": 0},
        {"idle_timeout": None, "advanced_features": None, "asr": None, "vad": None},
        {"asr": {"language": "ja-JP"}},
        {"llm": {"url": "https://llm.example/v1"}},
        {"llm": FULL_LLM},
        {
            "tts": {
                "vendor": "microsoft",
                "params": {
                    "key": "k", "region": "r", "voice_name": "v", "rate": 0.5, "volume": 70.5, "sample_rate": 16000
                },
            }
        },
        {
            "tts": {
                "vendor": "elevenlabs",
                "params": {
                    "key": "k", "model_id": "eleven_flash_v2_5", "voice_id": "v", "sample_rate": 24000,
                    "stability": 0.5, "similarity_boost": 0.25, "style": 0.75, "user_speaker_boost": True,
                },
            }
        },
        {
            "vad": {
                "interrupt_duration_ms": 160.5, "prefix_padding_ms": 300, "silence_duration_ms": 640, "threshold": 0.5
            }
        },
        # Bounds are within: Microsoft's rate and volume by the document, the others by what vendors have.
        *(
            {"tts": {"vendor": "microsoft", "params": MICROSOFT | {name: value}}}
            for name, value in (
                ("rate", 0.5), ("rate", 2), ("volume", 0), ("volume", 100), ("sample_rate", 8_000),
                ("sample_rate", 48_000),
            )
        ),
        *(
            {"tts": {"vendor": "elevenlabs", "params": ELEVENLABS | {name: value}}}
            for name, value in (("stability", 0), ("stability", 1), ("sample_rate", 8_000), ("sample_rate", 48_000))
        ),
        {"vad": {"silence_duration_ms": 0}},
        *(
            {"llm": {"url": "https://llm.example/v1", "output_modalities": modalities}}
            for modalities in (["audio"], ["text"], ["text", "audio"])
        ),
        # What Agora has added since its document of `join` was written.
        {"turn_detection": {"mode": "default"}, "parameters": {"data_channel": "rtm"}},
        {"tts": {"vendor": "cartesia", "params": {"api_key": "k", "voice": {"mode": "id"}}}},
        {"asr": {"vendor": "deepgram", "language": "fil-PH", "params": {"key": "k"}}},
        {"llm": {"vendor": "bedrock", "model": "m", "style": "bedrock"}},
        {"mllm": {"vendor": "openai", "params": {}}, "llm": None, "tts": None},
    ],
)  # fmt: skip
def test_passes_on_what_is_documented_and_what_came_later(
    api: Api, agora: FakeAgora, properties: dict[str, Any]
) -> None:
    """Unchanged, and nothing added but our labels: defaults are Agora's to set."""
    agent = agora.agents[join(api, **properties)]

    asked = wish(**properties)["properties"]
    assert {name: value for name, value in agent.properties.items() if name != "labels"} == asked


def test_what_a_preset_brings_along_may_be_left_out(api: Api, agora: FakeAgora) -> None:
    """`preset` and `pipeline_id` go beside the properties."""
    body = wish(llm=None, tts=None) | {"preset": "openai_gpt_5_mini,openai_tts_1", "pipeline_id": "p"}
    assert call(api, "POST", f"{APPID}/join", body).status_code == 200
    seen = agora.requests[-1].body
    assert (seen["preset"], seen["pipeline_id"]) == ("openai_gpt_5_mini,openai_tts_1", "p")


def spoken_by(vendor: str, **params: Any) -> dict[str, Any]:
    """A request with this speech."""
    return wish(tts={"vendor": vendor, "params": params})


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "name"),
        ({"name": "n"}, "properties"),
        (wish(name=""), "name"),
        (wish(name="n" * 257), "name"),
        (wish(name="a\x00b"), "name"),
        (wish(channel=None), "properties.channel"),
        (wish(channel="c" * 65), "properties.channel"),
        (wish(token=None), "properties.token"),
        (wish(agent_rtc_uid=None), "properties.agent_rtc_uid"),
        (wish(agent_rtc_uid=7), "properties.agent_rtc_uid"),
        (wish(remote_rtc_uids=[]), "properties.remote_rtc_uids"),
        (wish(remote_rtc_uids="*"), "properties.remote_rtc_uids"),
        (wish(enable_string_uid="yes"), "properties.enable_string_uid"),
        (wish(enable_string_uid=False), "agent_rtc_uid"),
        (wish(enable_string_uid=None, agent_rtc_uid="4294967296"), "agent_rtc_uid"),
        (wish(enable_string_uid=None, agent_rtc_uid="*"), "agent_rtc_uid"),
        (wish(enable_string_uid=None, agent_rtc_uid="1", remote_rtc_uids=["ann"]), "remote_rtc_uids"),
        (wish(idle_timeout=-1), "properties.idle_timeout"),
        (wish(idle_timeout=259_201), "properties.idle_timeout"),
        (wish(idle_timeout="30"), "properties.idle_timeout"),
        (wish(advanced_features={"enable_aivad": 1}), "properties.advanced_features.enable_aivad"),
        (wish(asr={"language": "English"}), "properties.asr.language"),
        (wish(llm=None), "properties.llm.url"),
        (wish(llm={"api_key": "k"}), "properties.llm.url"),
        (wish(llm={"url": "ftp://llm.example"}), "properties.llm.url"),
        (wish(llm={"url": "https://l", "max_history": -1}), "properties.llm.max_history"),
        (wish(llm={"url": "https://l", "system_messages": ["hello"]}), "properties.llm.system_messages.0"),
        (wish(llm={"url": "https://l", "input_modalities": ["audio"]}), "properties.llm.input_modalities.0"),
        (wish(llm={"url": "https://l", "output_modalities": []}), "properties.llm.output_modalities"),
        (wish(llm={"url": "https://l", "output_modalities": ["image"]}), "properties.llm.output_modalities.0"),
        (wish(llm={"url": "https://l", "output_modalities": ["text", "audio", "text"]}),
         "properties.llm.output_modalities"),
        (wish(llm={"url": "https://l", "style": "rude"}), "properties.llm.style"),
        (wish(tts=None), "properties.tts"),
        (wish(tts={"vendor": "microsoft"}), "properties.tts.params"),
        (spoken_by("microsoft", region="r", voice_name="v"), "properties.tts.params.key"),
        (spoken_by("elevenlabs", key="k"), "properties.tts.params.model_id"),
        (spoken_by("microsoft", **MICROSOFT, rate=0.49), "properties.tts.params.rate"),
        (spoken_by("microsoft", **MICROSOFT, rate=2.01), "properties.tts.params.rate"),
        (spoken_by("microsoft", **MICROSOFT, volume=-0.1), "properties.tts.params.volume"),
        (spoken_by("microsoft", **MICROSOFT, volume=100.1), "properties.tts.params.volume"),
        (spoken_by("microsoft", **MICROSOFT, sample_rate=7_999), "properties.tts.params.sample_rate"),
        (spoken_by("microsoft", **MICROSOFT, sample_rate=48_001), "properties.tts.params.sample_rate"),
        (spoken_by("elevenlabs", **ELEVENLABS, sample_rate=7_999), "properties.tts.params.sample_rate"),
        (spoken_by("elevenlabs", **ELEVENLABS, sample_rate=48_001), "properties.tts.params.sample_rate"),
        (spoken_by("elevenlabs", **ELEVENLABS, stability=-0.01), "properties.tts.params.stability"),
        (spoken_by("elevenlabs", **ELEVENLABS, stability=1.01), "properties.tts.params.stability"),
        (wish(tts={"params": {}}), "properties.tts.vendor"),
        (wish(vad={"threshold": 0}), "properties.vad.threshold"),
        (wish(vad={"threshold": 1}), "properties.vad.threshold"),
        (wish(vad={"silence_duration_ms": 1.5}), "properties.vad.silence_duration_ms"),
        (wish(vad={"silence_duration_ms": -1}), "properties.vad.silence_duration_ms"),
        (wish(labels={"n": 1}), "properties.labels.n"),
        ([], ""),
    ],
)  # fmt: skip
def test_refuses_what_the_document_rules_out(api: Api, agora: FakeAgora, body: Any, named: str) -> None:
    """In Agora's form, naming the field; Agora is not asked, and there is no session."""
    before = len(agora.requests)

    answer = call(api, "POST", f"{APPID}/join", body)

    assert answer.status_code == 400
    assert answer.get_json().keys() == {"detail", "reason"}
    assert answer.get_json()["reason"] == "InvalidRequestBody"
    assert named in answer.get_json()["detail"]
    assert len(agora.requests) == before
    assert all_sessions(api) == []


def test_our_labels_cannot_be_forged(api: Api, agora: FakeAgora) -> None:
    """The caller's own labels stay; what looks like ours goes, at the beginning and later."""
    forged = {"switchhook_account": api.other.id, "switchhook_template": "3", "Switchhook_Session": "1", "mine": "yes"}
    agent_id = join(api, labels=forged)
    session = all_sessions(api)[0]
    expected = {"mine": "yes", "switchhook_account": api.account.id, "switchhook_session": str(session.id)}
    assert agora.agents[agent_id].labels == expected

    answer = call(api, "POST", f"{APPID}/agents/{agent_id}/update", {"properties": {"labels": forged}})

    assert (answer.status_code, "properties.labels" in answer.get_json()["detail"]) == (400, True)
    assert agora.agents[agent_id].labels == expected


def test_a_name_is_taken_while_its_agent_is_live(api: Api, agora: FakeAgora) -> None:
    """Within the account and the project; Agora is not even asked. When the agent leaves, the name is free."""
    agent_id = join(api, "ann")
    before = len(agora.requests)

    answer = call(api, "POST", f"{APPID}/join", wish("ann"))

    assert (answer.status_code, answer.get_json()["reason"]) == (409, "TaskConflict")
    assert len(agora.requests) == before
    assert len(all_sessions(api)) == 1
    join(api, "ann", appid=ANOTHER_APPID)
    join(api, "bob")
    assert call(api, "POST", f"{APPID}/agents/{agent_id}/leave").status_code == 200
    assert join(api, "ann") != agent_id


def test_a_name_is_free_when_its_session_has_ended(api: Api, agora: FakeAgora) -> None:
    """Agora told so, and nobody asked the agent to leave."""
    agent_id = join(api, "cid")
    agora.agents[agent_id].stop_ts = 1
    with api.database.begin() as connection:
        session_id = all_sessions(api)[0].id
        sessions.fail(connection, account_id=api.account.id, session_id=session_id, code="test")

    assert join(api, "cid") != agent_id


def test_a_name_is_free_when_agora_says_that_its_agent_is_over(api: Api, agora: FakeAgora) -> None:
    """Also if its notification never came."""
    agent_id = join(api, "dan")
    agora.agents[agent_id].stop_ts = 1
    assert call(api, "POST", f"{APPID}/join", wish("dan")).status_code == 409

    assert call(api, "GET", f"{APPID}/agents/{agent_id}").get_json()["status"] == "STOPPED"

    assert join(api, "dan") != agent_id


def test_a_name_that_agora_refuses_is_409(api: Api, agora: FakeAgora) -> None:
    """Another account on the same credentials has it; whose it is stays unsaid, and the session has failed."""
    join(api, "eve", by=api.other)

    answer = call(api, "POST", f"{APPID}/join", wish("eve"))

    assert (answer.status_code, answer.get_json()["reason"]) == (409, "TaskConflict")
    assert api.other.id not in answer.text
    assert [session.status for session in all_sessions(api)] == ["failed"]


@pytest.mark.parametrize(
    ("theirs", "ours", "code"),
    [
        (400, (400, "InvalidRequestBody"), "provider_failed"),
        (401, (502, "ServiceUnavailable"), "provider_key_refused"),
        (403, (502, "ServiceUnavailable"), "provider_key_refused"),
        (404, (404, "TaskNotFound"), "provider_not_found"),
        (409, (409, "TaskConflict"), "provider_failed"),
        (422, (400, "InvalidRequestBody"), "provider_failed"),
        (500, (503, "ServiceUnavailable"), "provider_unavailable"),
    ],
)
def test_an_agent_that_agora_does_not_take_is_a_failed_session(
    api: Api, agora: FakeAgora, theirs: int, ours: tuple[int, str], code: str
) -> None:
    """Its error in our words, without theirs; nothing is charged, and the name can be used again."""
    agora.fail_next(theirs)

    answer = call(api, "POST", f"{APPID}/join", wish())

    assert (answer.status_code, answer.get_json()["reason"]) == ours
    assert "may quote" not in answer.text
    [session] = all_sessions(api)
    assert (session.status, session.failure_code, session.cost) == ("failed", code, None)
    join(api)


def test_without_credentials_nothing_is_begun(api: Api, api_settings: Settings, agora: FakeAgora) -> None:
    """The operator set none, and the account has stored none."""
    settings = replace(api_settings, agora=ProviderAccess(base_url=agora.url))
    app = create_app(settings)
    answer = call(replace(api, client=app.test_client()), "POST", f"{APPID}/join", wish())
    close(app)
    assert (answer.status_code, answer.get_json()["reason"]) == (409, "ServiceNotEnabled")
    assert all_sessions(api) == []


def test_an_accounts_own_credentials_come_before_ours(api: Api, agora: FakeAgora) -> None:
    """For all that is done with its agents."""
    ring = KeyRing(api.settings.keys)
    with api.database.begin() as connection:
        provider_keys.put(connection, ring, account_id=api.account.id, provider="agora", key="own:credentials")
    agent_id = join(api)
    call(api, "POST", f"{APPID}/agents/{agent_id}/leave")
    own = "Basic " + base64.b64encode(b"own:credentials").decode()
    assert [seen.authorization for seen in agora.requests[-2:]] == [own, own]


def test_a_repeated_request_joins_once(api: Api, agora: FakeAgora) -> None:
    """With `Idempotency-Key`."""
    headers = basic(api.account) | {"Idempotency-Key": "once"}
    first, again = (call(api, "POST", f"{APPID}/join", wish(), headers=headers) for _ in range(2))
    assert first.get_json() == again.get_json()
    assert len(all_sessions(api)) == 1


def test_steers_an_agent(api: Api, agora: FakeAgora) -> None:
    """Each sibling reaches Agora as it came, and is answered with Agora's members."""
    agent_id = join(api)
    agent = f"{APPID}/agents/{agent_id}"
    words = {
        "text": "Sorry, the conversation content is not compliant.",
        "priority": "INTERRUPT",
        "interruptable": False,
    }

    spoken = call(api, "POST", f"{agent}/speak", words)
    assert (spoken.status_code, agora.requests[-1].body) == (200, words)
    assert spoken.get_json().keys() == {"agent_id", "channel", "start_ts"}
    assert call(api, "POST", f"{agent}/speak", {"text": "é" * 257}).status_code == 400
    assert call(api, "POST", f"{agent}/speak", {"text": "a", "priority": "LOUD"}).status_code == 400

    interrupted = call(api, "POST", f"{agent}/interrupt", {})
    assert interrupted.get_json().items() >= {"agent_id": agent_id, "channel": "channel_name"}.items()

    change = {
        "token": "new",
        "llm": {"system_messages": [{"role": "system", "content": "x"}], "params": {"model": "m"}},
    }
    updated = call(api, "POST", f"{agent}/update", {"properties": change})
    assert (updated.get_json()["agent_id"], agora.requests[-1].body) == (agent_id, {"properties": change})

    state = call(api, "GET", agent)
    assert state.get_json() == {
        "agent_id": agent_id, "name": "unique_name", "status": "RUNNING", "message": "agent exits with reason: OK",
        "start_ts": agora.agents[agent_id].start_ts, "stop_ts": None,
    }  # fmt: skip

    left = call(api, "POST", f"{agent}/leave")
    assert (left.status_code, left.data) == (200, b"")
    again = call(api, "POST", f"{agent}/leave")
    assert (again.status_code, again.get_json()["reason"]) == (404, "TaskNotFound")


SIBLINGS = [
    ("POST", "/leave", None),
    ("POST", "/update", {"properties": {"token": "t"}}),
    ("POST", "/interrupt", {}),
    ("POST", "/speak", {"text": "hello"}),
    ("GET", "", None),
]


@pytest.mark.parametrize(("method", "verb", "body"), SIBLINGS)
def test_an_agent_of_another_account_is_not_found(
    api: Api, agora: FakeAgora, method: str, verb: str, body: Any
) -> None:
    """Nor one of another project, nor one that only a webhook named; Agora is not asked."""
    theirs, mine = join(api, "theirs", by=api.other), join(api, "mine")
    with api.database.begin() as connection:
        forged = sessions.create(connection, account_id=api.account.id, provider="agora")
        sessions.begun(connection, account_id=api.account.id, session_id=forged.id, conversation_id=theirs)
    before = len(agora.requests)

    for path in (
        f"{APPID}/agents/{theirs}",
        f"{'f' * 32}/agents/{mine}",
        f"{APPID}/agents/x%00y",
        f"a%2e%2e/agents/{mine}",
    ):
        answer = call(api, method, path + verb, body)
        assert (answer.status_code, answer.get_json()["reason"]) == (404, "TaskNotFound")

    assert len(agora.requests) == before
    assert agora.agents[theirs].stop_ts is None


def test_lists_the_accounts_own_agents(api: Api, agora: FakeAgora) -> None:
    """Those that run unless others are asked for, newest first, in pages."""
    first, second, third = (join(api, name, channel=f"c-{name}") for name in ("one", "two", "three"))
    join(api, "four", by=api.other)
    join(api, "five", appid=ANOTHER_APPID)
    call(api, "POST", f"{APPID}/agents/{first}/leave")

    def listed(**query: Any) -> Any:
        answer = call(api, "GET", f"{APPID}/agents", query_string=query)
        assert answer.status_code == 200, answer.text
        return answer.get_json()

    whole = listed()
    assert [row["agent_id"] for row in whole["data"]["list"]] == [third, second]
    assert whole["data"]["list"][0].items() >= {"status": "RUNNING"}.items()
    assert (whole["data"]["count"], whole["meta"], whole["status"]) == (2, {"cursor": "", "total": 2}, "ok")
    assert [row["status"] for row in listed(state="3")["data"]["list"]] == ["STOPPING"]
    assert [row["agent_id"] for row in listed(channel="c-two")["data"]["list"]] == [second]
    assert listed(to_time=1)["data"]["list"] == []
    page = listed(limit=1)
    assert [row["agent_id"] for row in page["data"]["list"]] == [third]
    assert (page["meta"]["total"], bool(page["meta"]["cursor"])) == (2, True)
    assert [row["agent_id"] for row in listed(limit=1, cursor=page["meta"]["cursor"])["data"]["list"]] == [second]


@pytest.mark.parametrize(
    "query", [{"state": "7"}, {"state": "2,"}, {"limit": 0}, {"cursor": "%"}, {"from_time": "soon"}, {"other": "x"}]
)
def test_refuses_a_list_that_cannot_be(api: Api, query: dict[str, Any]) -> None:
    """In Agora's form."""
    answer = call(api, "GET", f"{APPID}/agents", query_string=query)
    assert (answer.status_code, answer.get_json()["reason"]) == (400, "InvalidRequestBody")


def test_a_forged_cursor_lists_no_more(api: Api) -> None:
    """Whatever number it holds."""
    for number in (10**30, -1):
        cursor = base64.urlsafe_b64encode(str(number).encode()).decode().rstrip("=")
        assert call(api, "GET", f"{APPID}/agents", query_string={"cursor": cursor}).status_code in (200, 400)


def test_what_was_said_is_not_kept(api: Api, agora: FakeAgora) -> None:
    """History and turns were delivered; `think` is not built yet. Agora is not asked."""
    agent = f"{APPID}/agents/{join(api)}"
    before = len(agora.requests)
    for method, verb, status, reason in (
        ("GET", "history", 404, "TaskNotFound"),
        ("GET", "turns", 404, "TaskNotFound"),
        ("POST", "think", 501, "NotImplemented"),
    ):
        answer = call(api, method, f"{agent}/{verb}")
        assert (answer.status_code, answer.get_json()["reason"]) == (status, reason)
    assert len(agora.requests) == before


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": ""}, 401),
        ({"Authorization": "Basic"}, 401),
        ({"Authorization": "Basic é"}, 401),
        ({"Authorization": "Basic " + base64.b64encode(b"nocolon").decode()}, 401),
    ],
)
def test_who_shows_no_key_is_refused(api: Api, headers: dict[str, str], status: int) -> None:
    """In Agora's form, whatever the header holds."""
    answer = call(api, "POST", f"{APPID}/join", wish(), headers=headers)
    assert (answer.status_code, answer.get_json().keys()) == (status, {"detail", "reason"})


def test_a_key_opens_only_by_its_own_id(api: Api) -> None:
    """Another key's id, another account's, or none is 401; a key that may only read is 403."""
    wrong = [
        basic(api.account, key_id=api.other.key_id),
        basic(api.account, key_id=api.account.id),
        basic(api.account, key=api.other.key),
        basic(api.account, key="sk_live_" + "x" * 43),
        {"Authorization": f"Bearer {api.account.key}"},
    ]
    for headers in wrong:
        assert call(api, "POST", f"{APPID}/join", wish(), headers=headers).status_code == 401
    reading = basic(api.account, key=api.account.reading_key, key_id=api.account.reading_key_id)
    assert call(api, "POST", f"{APPID}/join", wish(), headers=reading).status_code == 403
    assert call(api, "GET", f"{APPID}/agents", headers=reading).status_code == 200


def test_an_agent_that_joined_is_answered_though_postgres_went_away(
    api: Api, agora: FakeAgora, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is there and will be charged by its label: the answer is Agora's, and the session waits."""

    def away(*_: Any, **__: Any) -> None:
        raise Unavailable

    with monkeypatch.context() as patch:
        patch.setattr(sessions, "begun", away)
        answer = call(api, "POST", f"{APPID}/join", wish())
    assert (answer.status_code, answer.get_json()["agent_id"] in agora.agents) == (200, True)
    [session] = all_sessions(api)
    assert (session.status, session.conversation_id) == ("pending", None)


@pytest.mark.filterwarnings("ignore")  # the package was made for two versions of pydantic at once
def test_the_official_package_works_here(api: Api, agora: FakeAgora, served: str) -> None:
    """With another base URL, and an account's key for its credentials."""
    from agora_agent.client import Agora as OfficialAgora
    from agora_agent.core.api_error import ApiError

    client = OfficialAgora(
        base_url=f"{served}/api/conversational-ai-agent",
        authorization=basic(api.account)["Authorization"],
        username=api.account.key_id,
        password=api.account.key,
    )
    started = client.agents.start(APPID, **wish("official"))
    assert (started.status, started.agent_id in agora.agents) == ("RUNNING", True)
    assert client.agents.speak(APPID, started.agent_id, text="Hello").channel == "channel_name"
    assert client.agents.get(APPID, started.agent_id).status == "RUNNING"
    assert [one.agent_id for one in client.agents.list(APPID)] == [started.agent_id]
    with pytest.raises(ApiError) as refused:
        client.agents.start(APPID, **wish("official"))
    assert (refused.value.status_code, refused.value.body["reason"]) == (409, "TaskConflict")
    client.agents.stop(APPID, started.agent_id)
    assert agora.agents[started.agent_id].stop_ts is not None


def test_every_notification_is_answered_with_json(api: Api, api_settings: Settings) -> None:
    """Agora takes an answer without JSON for a failure: taken, repeated, ignored and refused ones."""
    source = Customers(api_settings, api.database, api.redis).known(api.account.id).source("agora")
    path = source.url.partition("/api/")[2]
    left = {"agent_id": "agent_x", "start_ts": 1, "stop_ts": 2, "channel": "c"}
    console = {"channelName": "test_webhook", "uid": 12121212}

    def told(body: bytes, secret: str = source.secret) -> tuple[int, Any]:
        answer = api.client.post(f"/api/{path}", data=body, headers=agora_headers(body, secret))
        assert answer.mimetype in {"application/json", "application/problem+json"}
        return answer.status_code, answer.get_json()

    body = agora_notification(102, left)
    (status, first), (_, again) = told(body), told(agora_notification(102, left))
    assert (status, first["received"], first["repeat"]) == (200, True, False)
    assert again == first | {"repeat": True}
    assert told(agora_notification(101, console, notice_id="test"))[0] == 200
    assert told(agora_notification(102, left, product_id=1)) == (200, {"error": "productId is not 17"})
    assert told(agora_notification(102, left, notify_ms=1))[1]["code"] == "event_too_old"
    assert told(body, "another secret")[0] == 401
