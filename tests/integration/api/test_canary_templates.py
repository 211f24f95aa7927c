"""CanaryLLM's templates: the documented request and answers, every limit, changes, and what is never shown."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any

import pytest

from relay.sealing import KeyRing
from relay.settings import ProviderAccess, Settings
from relay.store import audit, rate_cards, template_pages, templates
from relay.store.database import Database
from tests.fakes.elevenlabs import KEY, FakeElevenLabs
from tests.integration.api.conftest import Api

PATH = "/api/convagents/templates"
# The request of CanaryLLM's document, but for the URL, which has to resolve where there is no network.
DOCUMENTED: dict[str, Any] = {
    "name": "Customer Interview",
    "type": "interview",
    "systemPrompt": "You are a friendly interviewer conducting a customer feedback session.",
    "firstMessage": "Hello! Thank you for joining. I have a few questions for you.",
    "voiceId": "JBFqnCBsd6RMkjVDRZzb",
    "voiceSettings": {"stability": 0.3, "speed": 1.0, "similarityBoost": 0.8},
    "language": "en",
    "maxDurationSeconds": 600,
    "tag": "my_project",
    "clientWebhookUrl": "http://127.0.0.1:9/webhook/conversation",
    "webhookSecret": "your-secret-key",
    "tools": [
        {"name": "end_call"},
        {"name": "language_detection", "description": "Switch language when user speaks another language"},
    ],
    "questions": [
        {"question": "How did you hear about our product?", "isRequired": True},
        {"question": "What feature do you use the most?", "context": "Focus on daily usage"},
        {"question": "Any suggestions for improvement?", "isRequired": False},
    ],
}
SHORTEST = {"name": "T", "type": "conversation", "systemPrompt": "Be kind."}


@pytest.fixture(scope="module")
def api_settings(api_settings: Settings, eleven: FakeElevenLabs) -> Settings:
    """The API with our own key at ElevenLabs."""
    return replace(api_settings, elevenlabs=ProviderAccess(base_url=eleven.url, api_key=KEY))


@pytest.fixture(scope="module")
def api_ring(api_settings: Settings) -> KeyRing:
    """What opens the secrets that the application has sealed."""
    return KeyRing(api_settings.keys)


def make(api: Api, **fields: Any) -> dict[str, Any]:
    """A template of the account."""
    answer = api.post(PATH, SHORTEST | fields)
    assert answer.status_code == 201, answer.get_data(as_text=True)
    made: dict[str, Any] = answer.get_json()["data"]
    return made


def read(api: Api, template_id: int) -> dict[str, Any]:
    """A template as it is shown."""
    shown: dict[str, Any] = api.get(f"{PATH}/{template_id}").get_json()["data"]["template"]
    return shown


def issues(answer: Any) -> dict[str, str]:
    """The fields that an answer refuses, with what is wrong."""
    body = answer.get_json()
    assert (answer.status_code, body["success"], body["code"]) == (400, False, "VALIDATION_ERROR")
    return {issue["path"]: issue["code"] for issue in body["details"]["issues"]}


def test_the_documented_request_makes_a_template(api: Api, eleven: FakeElevenLabs) -> None:
    """As it is in CanaryLLM's document; the answer has all of it but the secret, and the agent is at the provider."""
    answer = api.post(PATH, DOCUMENTED)
    made = answer.get_json()["data"]
    assert (answer.status_code, answer.get_json()["success"]) == (201, True)
    assert {name: made[name] for name in DOCUMENTED if name != "webhookSecret"} == {
        name: value for name, value in DOCUMENTED.items() if name != "webhookSecret"
    }
    assert "webhookSecret" not in made
    assert isinstance(made["id"], int)
    assert made["createdAt"].endswith("Z")
    assert len(made["createdAt"]) == len("2026-02-11T12:00:00.000Z")
    assert (made["syncStatus"], made["syncCode"]) == ("synced", None)
    assert made["agentId"] in eleven.workspace.agents


def test_is_read_as_it_was_made(api: Api) -> None:
    """One under `template`, all as an array; no secret is in either."""
    made = make(api, **DOCUMENTED | {"webhookSecret": "hush-hush-hush"})
    shown = {name: value for name, value in made.items() if name != "signingSecret"}
    one = api.get(f"{PATH}/{made['id']}")
    assert one.get_json() == {"success": True, "data": {"template": shown}}
    every = api.get(PATH)
    assert every.get_json() == {"success": True, "data": [shown], "nextCursor": None}
    assert "hush" not in one.get_data(as_text=True) + every.get_data(as_text=True)
    assert made["signingSecret"] not in every.get_data(as_text=True)


def test_templates_are_listed_a_page_at_a_time(api: Api) -> None:
    """In the order they were made; each once, also when some are made and deleted meanwhile."""
    made = [make(api)["id"] for _ in range(5)]
    first = api.get(PATH, query_string={"limit": 2}).get_json()
    assert api.delete(f"{PATH}/{made[1]}").status_code == 200
    made.append(make(api)["id"])
    second = api.get(PATH, query_string={"limit": 2, "cursor": first["nextCursor"]}).get_json()
    third = api.get(PATH, query_string={"limit": 2, "cursor": second["nextCursor"]}).get_json()
    assert [[one["id"] for one in page["data"]] for page in (first, second, third)] == [made[:2], made[2:4], made[4:]]
    assert third["nextCursor"] is None
    assert api.get(PATH, query_string={"cursor": first["nextCursor"]}, key=api.other.key).get_json()["data"] == []


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 101}, {"limit": "x"}, {"cursor": "x"}, {"page": 2}])
def test_a_page_of_templates_that_makes_no_sense_is_refused(api: Api, query: dict[str, Any]) -> None:
    """By its field."""
    answer = api.get(PATH, query_string=query)
    assert answer.status_code == 400
    assert [issue["path"] for issue in answer.get_json()["details"]["issues"]] == list(query)


def test_large_templates_end_a_page_sooner(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """However large, there is one on each page at least, and nobody gets all of them at once."""
    made = [make(api, provider="agora", systemPrompt="p" * 10_000)["id"] for _ in range(3)]
    page = template_pages.page
    for most_bytes, on_first in ((1, 1), (10_000, 1), (15_000, 2), (100_000, 3)):
        monkeypatch.setattr(template_pages, "page", partial(page, most_bytes=most_bytes))
        first = api.get(PATH).get_json()
        assert [one["id"] for one in first["data"]] == made[:on_first]
        rest = api.get(PATH, query_string={"cursor": first["nextCursor"]} if first["nextCursor"] else {"limit": 100})
        assert (first["nextCursor"] is None) == (on_first == 3)
        assert on_first == 3 or rest.get_json()["data"][0]["id"] == made[on_first]


def test_a_secret_is_generated_and_shown_once(api: Api, api_database: Database) -> None:
    """Webhook calls without it get 401, so that it has to be told."""
    made = make(api, clientWebhookUrl="http://127.0.0.1:9/")
    assert made["webhookSecret"]
    assert made["signingSecret"].startswith("whsec_")
    assert made["webhookSecret"] not in json.dumps(read(api, made["id"]))
    context = api.client.post("/api/convagents/webhook/event", headers={"X-Webhook-Secret": made["webhookSecret"]},
                              json={"conversationId": "c1"})  # fmt: skip
    assert context.status_code == 200


def test_what_is_left_out_has_its_default(api: Api) -> None:
    """English, ten minutes, and the tool that ends a call."""
    made = make(api)
    assert (made["language"], made["maxDurationSeconds"], made["tools"]) == ("en", 600, [{"name": "end_call"}])
    assert (made["provider"], made["relayPublicKey"], made["questions"]) == ("elevenlabs", None, [])
    assert (made["clientWebhookUrl"], made["endpointId"], made["signing"], made["deadlineSeconds"]) == (None,) * 4


QUESTION = {"question": "q" * 2000, "context": "c" * 2000, "isRequired": True}
NAMES = ["end_call", "language_detection", "transfer_to_agent", "transfer_to_number", "skip_turn",
         "play_keypad_touch_tone", "voicemail_detection"]  # fmt: skip
PAIR = {"llmProvider": "openai"}
URL = {"clientWebhookUrl": "http://127.0.0.1:9/"}

LIMITS: list[tuple[str, dict[str, Any], Any, Any]] = [
    # The field, what goes with it, a value at its bound, one past it.
    ("name", {}, "n", ""),
    ("name", {}, "n" * 255, "n" * 256),
    ("description", {}, "d" * 2000, "d" * 2001),
    ("type", {}, "conversation", "chat"),
    ("systemPrompt", {}, "p", ""),
    ("systemPrompt", {}, "p" * 10_000, "p" * 10_001),
    ("firstMessage", {}, "f" * 1000, "f" * 1001),
    ("voiceId", {}, "v" * 100, "v" * 101),
    ("voiceModel", {}, "v" * 100, "v" * 101),
    ("voiceSettings.stability", {}, {"stability": 0}, {"stability": -0.01}),
    ("voiceSettings.stability", {}, {"stability": 1}, {"stability": 1.01}),
    ("voiceSettings.speed", {}, {"speed": 0.7}, {"speed": 0.69}),
    ("voiceSettings.speed", {}, {"speed": 1.2}, {"speed": 1.21}),
    ("voiceSettings.similarityBoost", {}, {"similarityBoost": 0}, {"similarityBoost": -1}),
    ("voiceSettings.similarityBoost", {}, {"similarityBoost": 1}, {"similarityBoost": 2}),
    ("voiceSettings.loudness", {}, {}, {"loudness": 1}),
    ("language", {}, "l" * 100, "l" * 101),
    ("languagePresets.de.firstMessage", {}, {"de": {"firstMessage": "f" * 1000}}, {"de": {"firstMessage": "f" * 1001}}),
    ("llmProvider", {"llmModel": "m"}, "lmstudio", "acme"),
    ("llmModel", PAIR, "m" * 100, "m" * 101),
    ("webhookSecret", {}, "s" * 255, "s" * 256),
    ("maxDurationSeconds", {}, 30, 29),
    ("maxDurationSeconds", {}, 3600, 3601),
    ("maxDurationSeconds", {}, 600, "600"),
    ("tag", {}, "t" * 100, "t" * 101),
    ("questions", {}, [QUESTION] * 50, [QUESTION] * 51),
    ("questions.0.question", {}, [{"question": "q"}], [{"question": ""}]),
    ("questions.0.question", {}, [QUESTION], [{"question": "q" * 2001}]),
    ("questions.0.context", {}, [QUESTION], [{"question": "q", "context": "c" * 2001}]),
    ("questions.0.isRequired", {}, [QUESTION], [{"question": "q", "isRequired": "yes"}]),
    ("tools", {}, [{"name": name} for name in NAMES], [{"name": "end_call"}] * 8),
    ("tools.0.name", {}, [{"name": "skip_turn"}], [{"name": "sing"}]),
    ("tools.0.description", {}, [{"name": "end_call", "description": "d" * 500}],
     [{"name": "end_call", "description": "d" * 501}]),
    ("contentRetention", {}, 0, -1),
    ("contentRetention", {}, 720, 721),
    ("deadlineSeconds", URL, 1, 0),
    ("deadlineSeconds", URL, 20, 21),
    ("signing", URL, "provider", "none"),
    ("provider", {}, "agora", "acme"),
    ("successCriteria.0.title", {}, [{"title": "t" * 100, "prompt": "p"}], [{"title": "t" * 101, "prompt": "p"}]),
    ("dataCollection.0.type", {}, [{"title": "t", "prompt": "p", "type": "boolean"}],
     [{"title": "t", "prompt": "p", "type": "date"}]),
    ("dataCollection.0.enum", {}, [{"title": "t", "prompt": "p", "enum": ["a"]}],
     [{"title": "t", "prompt": "p", "type": "boolean", "enum": ["a"]}]),
    ("dataCollection.0.enum", {}, [{"title": "t", "prompt": "p", "type": "string", "enum": ["1"]}],
     [{"title": "t", "prompt": "p", "enum": ["1"], "type": "integer"}]),
]  # fmt: skip


@pytest.mark.parametrize(("field", "other", "good", "bad"), LIMITS)
def test_takes_what_is_at_a_limit_and_refuses_what_is_past_it(
    api: Api, field: str, other: dict[str, Any], good: Any, bad: Any
) -> None:
    """The field is named; nothing is made, or changed."""
    name = field.partition(".")[0]
    other = {"provider": "agora", **other}  # whose agents are not made before there is a session
    made = make(api, **other | {name: good})
    assert name == "webhookSecret" or made[name] == good
    assert set(issues(api.post(PATH, SHORTEST | other | {name: bad}))) == {field}
    assert set(issues(api.put(f"{PATH}/{made['id']}", {name: bad}))) == {field}
    assert read(api, made["id"])[name] == good if name in made else True
    assert len(api.get(PATH).get_json()["data"]) == 1


def test_unknown_fields_are_refused_by_name(api: Api) -> None:
    """A typing error is not ignored, whether a template is made or changed."""
    assert issues(api.post(PATH, SHORTEST | {"sytemPrompt": "x", "id": 7})) == {
        "sytemPrompt": "extra_forbidden",
        "id": "extra_forbidden",
    }
    made = make(api)
    assert issues(api.put(f"{PATH}/{made['id']}", {"firstMesage": "x"})) == {"firstMesage": "extra_forbidden"}


@pytest.mark.parametrize("left", ["llmProvider", "llmModel"])
def test_a_model_and_its_maker_need_each_other(api: Api, left: str) -> None:
    """When a template is made, and when a change leaves one without the other."""
    pair = {"llmProvider": "anthropic", "llmModel": "claude-sonnet-4-5"}
    (missing,) = set(pair) - {left}
    assert issues(api.post(PATH, SHORTEST | {left: pair[left]})) == {missing: "missing"}
    made = make(api, **pair)
    assert issues(api.put(f"{PATH}/{made['id']}", {missing: None})) == {missing: "missing"}
    assert api.put(f"{PATH}/{made['id']}", dict.fromkeys(pair)).status_code == 200


def test_content_cannot_be_sealed_to_a_key_of_the_customers_yet(api: Api) -> None:
    """Null is what everybody has."""
    assert make(api, relayPublicKey=None)["relayPublicKey"] is None
    answer = api.post(PATH, SHORTEST | {"relayPublicKey": "MCowBQYDK2VuAyEA"})
    assert (answer.status_code, answer.get_json()["code"]) == (400, "NOT_AVAILABLE_YET")
    assert answer.get_json()["details"]["issues"][0]["path"] == "relayPublicKey"


@pytest.mark.parametrize("url", ["http://10.0.0.1/hook", "http://[::1]/hook", "ftp://example.com/", "no url"])
def test_a_url_that_is_not_public_is_refused_with_a_reason(api: Api, url: str) -> None:
    """And nothing is made; the URL is not quoted."""
    answer = api.post(PATH, SHORTEST | {"clientWebhookUrl": url})
    assert (answer.status_code, answer.get_json()["code"]) == (400, "TARGET_REFUSED")
    assert answer.get_json()["details"]["issues"][0]["path"] == "clientWebhookUrl"
    assert url not in answer.get_data(as_text=True)
    assert api.get(PATH).get_json()["data"] == []


# -- changes


def test_a_change_leaves_what_it_does_not_name(api: Api, eleven: FakeElevenLabs) -> None:
    """And reaches the agent."""
    made = make(api, **DOCUMENTED)
    changed = api.put(f"{PATH}/{made['id']}", {"firstMessage": "Good morning."})
    assert (changed.status_code, changed.get_json()["success"]) == (200, True)
    now = changed.get_json()["data"]
    same = set(made) - {"firstMessage", "updatedAt", "signingSecret"}
    assert {name: now[name] for name in same} == {name: made[name] for name in same}
    assert (now["firstMessage"], "webhookSecret" in now, "signingSecret" in now) == ("Good morning.", False, False)
    agent = eleven.workspace.agents[made["agentId"]]
    assert agent["conversation_config"]["agent"]["first_message"] == "Good morning."


def test_null_takes_a_value_away_or_back_to_its_default(api: Api) -> None:
    """For everything but name, type and systemPrompt."""
    made = make(api, **DOCUMENTED | {"description": "d", "contentRetention": 24, "deliveryHeaders": {"X-A": "1"}})
    kept = {"name", "type", "systemPrompt", "clientWebhookUrl", "webhookSecret"}
    names = {name for name in DOCUMENTED if name not in kept} | {"description", "contentRetention", "deliveryHeaders"}
    now = api.put(f"{PATH}/{made['id']}", dict.fromkeys(names)).get_json()["data"]
    assert {name: now[name] for name in names} == {
        "firstMessage": None, "voiceId": None, "voiceSettings": None, "language": "en", "maxDurationSeconds": 600,
        "tag": None, "tools": [{"name": "end_call"}], "questions": [], "description": None, "contentRetention": None,
        "deliveryHeaders": {},
    }  # fmt: skip
    for needed in ("name", "type", "systemPrompt"):
        assert set(issues(api.put(f"{PATH}/{made['id']}", {needed: None}))) == {needed}


def test_what_was_read_may_be_sent_back(api: Api) -> None:
    """Fields that cannot be changed are ignored while they are as they were, and refused by name otherwise."""
    made = make(api, **DOCUMENTED | {"deliveryHeaders": {"Authorization-Of-Ours": "Bearer b"}})
    shown = read(api, made["id"])
    again = api.put(f"{PATH}/{made['id']}", shown)
    assert again.status_code == 200, again.get_data(as_text=True)
    assert read(api, made["id"]) == shown | {"updatedAt": again.get_json()["data"]["updatedAt"]}
    refused = api.put(f"{PATH}/{made['id']}", {"id": made["id"] + 1, "createdAt": "2020-01-01T00:00:00.000Z",
                                               "provider": "retell", "syncStatus": "pending", "name": "N"})  # fmt: skip
    assert issues(refused) == dict.fromkeys(("id", "createdAt", "provider", "syncStatus"), "read_only")
    assert read(api, made["id"])["name"] == DOCUMENTED["name"]


def test_a_headers_value_is_never_shown_and_null_keeps_it(api: Api, api_database: Database, api_ring: KeyRing) -> None:
    """Such headers mostly hold a secret."""
    made = make(api, **URL, deliveryHeaders={"X-Token": "t0ken", "X-Old": "o"})
    assert made["deliveryHeaders"] == {"X-Token": None, "X-Old": None}
    path = f"{PATH}/{made['id']}"
    assert api.put(path, {"deliveryHeaders": {"X-Token": None, "X-New": "n"}}).status_code == 200
    with api_database.begin() as connection:
        row = templates.get(connection, api_ring, account_id=api.account.id, template_id=made["id"])
    assert row.delivery_headers == {"X-Token": "t0ken", "X-New": "n"}
    refused = api.put(path, {"deliveryHeaders": {"X-Unknown": None}})
    assert (refused.status_code, refused.get_json()["details"]["issues"][0]["path"]) == (400, "deliveryHeaders")


def test_a_secret_of_null_is_replaced_by_a_new_one(api: Api) -> None:
    """Which is shown this once, and opens the webhooks; the old one does for calls under way."""
    made = make(api, **URL)
    now = api.put(f"{PATH}/{made['id']}", {"webhookSecret": None}).get_json()["data"]
    assert now["webhookSecret"] != made["webhookSecret"]
    for secret, status in ((now["webhookSecret"], 200), (made["webhookSecret"], 200), ("never", 401)):
        sent = api.client.post("/api/convagents/webhook/event", headers={"X-Webhook-Secret": secret},
                               json={"conversationId": "c1"})  # fmt: skip
        assert sent.status_code == status


@pytest.mark.parametrize("field", [{"deliveryHeaders": {"X-A": "1"}}, {"signing": "provider"}, {"deadlineSeconds": 5}])
def test_what_belongs_to_an_endpoint_needs_a_url(api: Api, field: dict[str, Any]) -> None:
    """There is nowhere to keep it otherwise."""
    assert api.post(PATH, SHORTEST | {"provider": "agora"} | field).status_code == 400
    made = make(api, provider="agora", **URL, **field)
    path = f"{PATH}/{made['id']}"
    assert api.put(path, {"clientWebhookUrl": None}).get_json()["data"]["endpointId"] is None
    assert api.put(path, field).status_code == 400
    assert api.put(path, URL | field).get_json()["data"]["endpointId"] not in (None, made["endpointId"])


def test_changes_are_audited_in_the_callers_name(api: Api, api_database: Database) -> None:
    """Who, when, and a digest of what the API shows before and after."""
    made = make(api, provider="agora")
    api.put(f"{PATH}/{made['id']}", {"tag": "blue"})
    api.delete(f"{PATH}/{made['id']}")
    with api_database.begin() as connection:
        deleted, updated, created = audit.page(connection, account_id=api.account.id)
    assert [row.action for row in (created, updated, deleted)] == [
        "template.created", "template.updated", "template.deleted"
    ]  # fmt: skip
    assert {(row.actor, row.object_id) for row in (created, updated, deleted)} == {
        (api.account.key_id, str(made["id"]))
    }
    assert (created.before_sha256, deleted.after_sha256) == (None, None)
    assert created.after_sha256 == updated.before_sha256 != updated.after_sha256 == deleted.before_sha256


# -- agents


def test_an_outage_of_the_provider_leaves_the_template_pending(api: Api, eleven: FakeElevenLabs) -> None:
    """It is saved, and its agent is made later."""
    eleven.fail_next(503, times=3)
    made = make(api)
    assert (made["syncStatus"], made["syncCode"], made["agentId"]) == ("pending", "provider_unavailable", None)
    eleven.recover()
    now = api.put(f"{PATH}/{made['id']}", {"tag": "again"}).get_json()["data"]
    assert (now["syncStatus"], now["syncCode"]) == ("synced", None)
    assert now["agentId"] in eleven.workspace.agents


def test_what_the_provider_refuses_is_told(api: Api, eleven: FakeElevenLabs) -> None:
    """As failed, with a code; the template is kept."""
    eleven.fail_next(422, on="POST /v1/convai/agents")
    made = make(api)
    assert (made["syncStatus"], made["syncCode"]) == ("failed", "provider_failed")
    assert read(api, made["id"]) == {name: value for name, value in made.items() if name != "webhookSecret"}


def test_a_field_that_the_provider_refuses_is_named(api: Api, eleven: FakeElevenLabs) -> None:
    """For as long as it is refused, and by its path alone: the provider's own text may quote what was sent."""
    loc = ("body", "conversation_config", "tts", "voice_id")
    eleven.fail_next(422, on="POST /v1/convai/agents", loc=loc)
    made = make(api, voiceId="nobody")
    warning = "the provider refused conversation_config.tts.voice_id"
    assert (made["syncStatus"], made["warnings"]) == ("failed", [warning])
    assert read(api, made["id"])["warnings"] == [warning]

    eleven.fail_next(422, on="POST /v1/convai/agents", loc=loc)
    refused = api.post("/api/convagents/sessions", {"templateId": made["id"]})
    assert (refused.status_code, refused.get_json()["code"]) == (409, "AGENT_REFUSED")
    assert "(conversation_config.tts.voice_id)" in refused.get_json()["error"]

    eleven.fail_next(503, times=3)
    pending = api.put(f"{PATH}/{made['id']}", {"voiceId": "somebody"}).get_json()["data"]
    assert (pending["syncStatus"], pending["warnings"]) == ("pending", [])
    eleven.recover()
    now = api.put(f"{PATH}/{made['id']}", {"tag": "again"}).get_json()["data"]
    assert (now["syncStatus"], now["warnings"]) == ("synced", [])


def test_an_agent_may_be_brought_and_given_back(api: Api, eleven: FakeElevenLabs) -> None:
    """It is neither changed nor deleted; one that was made for the template goes."""
    made = make(api)
    path = f"{PATH}/{made['id']}"
    api.grant("elevenlabs", "agent_brought_1")
    brought = api.put(path, {"agentId": "agent_brought_1"}).get_json()["data"]
    assert (brought["agentId"], brought["syncStatus"]) == ("agent_brought_1", "synced")
    assert made["agentId"] not in eleven.workspace.agents
    ours = api.put(path, {"agentId": None}).get_json()["data"]
    assert ours["agentId"] in eleven.workspace.agents
    eleven.fail_next(422, on="PATCH /v1/convai/agents")
    again = api.put(path, {"agentId": None}).get_json()["data"]
    assert (again["agentId"], again["syncStatus"]) == (ours["agentId"], "failed")  # it is ours already: still its own
    assert not eleven.calls("DELETE /v1/convai/agents/agent_brought_1")


def test_an_agent_of_another_account_cannot_be_brought(api: Api) -> None:
    """In one workspace its id would open it."""
    theirs = api.post(PATH, SHORTEST, key=api.other.key).get_json()["data"]
    refused = api.post(PATH, SHORTEST | {"agentId": theirs["agentId"]})
    assert (refused.status_code, refused.get_json()["code"]) == (404, "AGENT_NOT_FOUND")
    mine = make(api)
    assert api.put(f"{PATH}/{mine['id']}", {"agentId": theirs["agentId"]}).status_code == 404
    assert read(api, mine["id"])["agentId"] == mine["agentId"]


def test_an_agent_belongs_to_one_template(api: Api) -> None:
    """Its events can go to one of them only."""
    api.grant("elevenlabs", "agent_brought_2")
    make(api, agentId="agent_brought_2")
    refused = api.post(PATH, SHORTEST | {"agentId": "agent_brought_2"})
    assert (refused.status_code, refused.get_json()["code"]) == (409, "AGENT_TAKEN")


def test_retell_needs_an_agent_and_agora_has_none(api: Api) -> None:
    """Nothing is asked of a provider for either."""
    assert api.post(PATH, SHORTEST | {"provider": "retell"}).status_code == 400
    assert api.post(PATH, SHORTEST | {"provider": "agora", "agentId": "a"}).status_code == 400
    retell = make(api, provider="retell", agentId="agent_of_retell")
    assert (retell["agentId"], retell["syncStatus"]) == ("agent_of_retell", "synced")
    assert api.put(f"{PATH}/{retell['id']}", {"agentId": None}).status_code == 400
    agora = make(api, provider="agora")
    assert (agora["agentId"], agora["syncStatus"]) == (None, "synced")
    assert api.delete(f"{PATH}/{agora['id']}").status_code == 200


def test_tells_what_the_agent_will_not_have(api: Api) -> None:
    """A tool that transfers needs somebody to transfer to."""
    made = make(api, tools=[{"name": "transfer_to_number"}])
    assert [warning.partition(" ")[0] for warning in made["warnings"]] == ["tools:"]
    assert make(api)["warnings"] == []


# -- who may


def test_the_key_is_taken_from_three_places(api: Api, capfd: pytest.CaptureFixture[str]) -> None:
    """`Authorization: Bearer`, `X-API-Key`, `?apiKey=`; the last is not logged, and every answer has an id."""
    key = api.account.key
    for options in (
        {"headers": {"Authorization": f"Bearer {key}"}},
        {"headers": {"X-API-Key": key}},
        {"query_string": {"apiKey": key}},
    ):
        answer = api.get(PATH, key="", **options)
        assert answer.status_code == 200
        assert answer.headers["x-request-id"].startswith("req_")
    nowhere = api.get(f"{PATH}/1/x", key="", query_string={"apiKey": key})
    assert (nowhere.status_code, bool(nowhere.headers["x-request-id"])) == (404, True)
    assert key not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("key", "status", "code"),
    [("", 401, "MISSING_API_KEY"), ("sk_live_nobody", 401, "INVALID_API_KEY"),
     ("reading", 403, "INSUFFICIENT_PERMISSIONS")],
)  # fmt: skip
def test_nobody_makes_a_template_without_the_right_key(api: Api, key: str, status: int, code: str) -> None:
    """In the words of CanaryLLM's client."""
    answer = api.post(PATH, SHORTEST, key=api.account.reading_key if key == "reading" else key)
    assert (answer.status_code, answer.get_json()["code"], answer.get_json()["success"]) == (status, code, False)
    assert answer.headers["x-request-id"]
    assert api.get(PATH).get_json()["data"] == []


def test_another_accounts_template_is_not_found(api: Api, eleven: FakeElevenLabs) -> None:
    """And nothing happens to it, or to its agent."""
    theirs = api.post(PATH, SHORTEST, key=api.other.key).get_json()["data"]
    path, before = f"{PATH}/{theirs['id']}", len(eleven.requests)
    for answer in (api.get(path), api.put(path, {"name": "Mine"}), api.delete(path)):
        assert (answer.status_code, answer.get_json()["code"]) == (404, "NOT_FOUND")
    shown = {name: value for name, value in theirs.items() if name != "webhookSecret"}
    assert api.get(path, key=api.other.key).get_json()["data"]["template"] == shown
    assert api.get(PATH).get_json()["data"] == []
    assert len(eleven.requests) == before


def test_a_rate_card_must_be_offered_to_the_account(api: Api, api_database: Database) -> None:
    """The cards of the account's own timeline are not for choosing: an old one may be cheaper."""
    with api_database.begin() as connection:
        in_force = rate_cards.add(connection, api.account.id, per_minute=Decimal("0.1")).id
        mine = rate_cards.add(connection, api.account.id, per_minute=Decimal("0.1"), offered=True).id
        theirs = rate_cards.add(connection, api.other.id, per_minute=Decimal("0.1"), offered=True).id
    assert make(api, provider="agora", rateCard=mine)["rateCard"] == mine
    for card in (in_force, theirs):
        refused = api.post(PATH, SHORTEST | {"rateCard": card})
        assert (refused.status_code, refused.get_json()["code"]) == (400, "RATE_CARD_UNKNOWN")


# -- deleting


def test_a_deleted_template_takes_its_agent_along(api: Api, eleven: FakeElevenLabs) -> None:
    """It is not found any more, and deleting it again is 404."""
    made = make(api)
    path = f"{PATH}/{made['id']}"
    gone = api.delete(path)
    assert (gone.status_code, gone.get_json()["success"], set(gone.get_json())) == (200, True, {"success", "message"})
    assert made["agentId"] not in eleven.workspace.agents
    assert [api.get(path).status_code, api.delete(path).status_code, api.put(path, {}).status_code] == [404] * 3
    assert api.get(PATH).get_json()["data"] == []


def test_a_hidden_template_is_none(api: Api, api_database: Database, api_ring: KeyRing) -> None:
    """It stands behind a conversation that was created without one, and is not the customer's to change."""
    with api_database.begin() as connection:
        hidden = templates.create(
            connection, api_ring, account_id=api.account.id, name="H", type="conversation", config={}, hidden=True
        ).template
    path = f"{PATH}/{hidden.id}"
    assert [api.get(path).status_code, api.put(path, {"name": "N"}).status_code, api.delete(path).status_code] == [
        404
    ] * 3
    assert api.get(PATH).get_json()["data"] == []
