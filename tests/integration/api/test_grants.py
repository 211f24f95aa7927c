"""The operator's key opens what is everybody's: an account uses what was made for it, and what it is granted."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from werkzeug.test import TestResponse

from relay.settings import Settings
from tests.fakes.elevenlabs import KEY
from tests.integration.api.belongings import AGORA, APPID, Fakes, fake_providers
from tests.integration.api.conftest import Api, Customer
from tests.integration.api.requests import OPERATIONS, body_of, headers_of

TEMPLATES = "/api/convagents/templates"
SESSIONS = "/api/convagents/sessions"
SHORTEST = {"name": "T", "type": "conversation", "systemPrompt": "-"}
_numbers = itertools.count(1)
WEB_CALL = "/v3/create-web-call"
SIGNED_URL = "/api/agents/signed-url"


@pytest.fixture(scope="module")
def fakes() -> Iterator[Fakes]:
    """The providers."""
    with fake_providers() as fakes:
        fakes.elevenlabs.add_workspace("their-key")
        yield fakes


@pytest.fixture(scope="module")
def api_settings(api_settings: Settings, fakes: Fakes) -> Settings:
    """With the operator's keys at them."""
    return fakes.reached_by(api_settings)


def path(account: Customer, name: str = "") -> str:
    """The path of an account's grants, or of one."""
    return f"/api/v1/accounts/{account.id}/grants{name}"


def bring(api: Api, agent_id: str, *, provider: str = "elevenlabs", **more: Any) -> TestResponse:
    """Ask for a template with an agent that exists already."""
    return api.post(TEMPLATES, SHORTEST | {"provider": provider, "agentId": agent_id} | more)


def own_key(api: Api, provider: str, key: str) -> None:
    """Store a key of the account's own."""
    assert api.put(f"/api/v1/provider-keys/{provider}", {"key": key}).status_code == 200


def revoke(api: Api, provider: str, object_id: str) -> None:
    """Take a grant back."""
    assert api.delete(path(api.account, f"/{provider}/{object_id}"), key=api.operator_key).status_code == 204


def join(api: Api) -> TestResponse:
    """Have an agent join the project APPID, as Agora's clients do."""
    return _as_agoras_client(api, f"POST {AGORA}/join", f"{AGORA}/join", name=f"agent_{next(_numbers)}")


def steer(api: Api, agent_id: str, way: str) -> TestResponse:
    """Tell an agent in it something."""
    return _as_agoras_client(api, f"POST {AGORA}/agents/<agent_id>/{way}", f"{AGORA}/agents/{agent_id}/{way}")


def _as_agoras_client(api: Api, key: str, url: str, **more: str) -> TestResponse:
    body = body_of(OPERATIONS[key])
    headers = headers_of(OPERATIONS[key], api.account.key, api.account.key_id)
    wish = body if body is None else body | more
    return api.call("POST", url.replace("<appid>", APPID), wish, key="", headers=headers)


def test_grants_are_given_listed_and_taken_back(api: Api) -> None:
    """Giving one twice changes nothing; the account's audit trail tells of each once."""
    for object_id in ("agent_1", "agent_1", "agent_2"):
        given = api.put(path(api.account, f"/elevenlabs/{object_id}"), key=api.operator_key)
        assert (given.status_code, given.get_json()["objectId"]) == (200, object_id)
    revoke(api, "elevenlabs", "agent_2")

    listed = api.get(path(api.account), key=api.operator_key).get_json()["data"]
    assert [(one["provider"], one["objectId"]) for one in listed] == [("elevenlabs", "agent_1")]
    changes = api.get("/api/v1/audit").get_json()["data"]
    told = [(one["actor"], one["action"], one["objectId"]) for one in changes]
    assert told == [
        ("operator", "grant.removed", "elevenlabs/agent_2"),
        ("operator", "grant.added", "elevenlabs/agent_2"),
        ("operator", "grant.added", "elevenlabs/agent_1"),
    ]
    again = api.delete(path(api.account, "/elevenlabs/agent_2"), key=api.operator_key)
    assert again.status_code == 404


@pytest.mark.parametrize("name", ["/canaryllm/agent_1", "/retell/a%00b", f"/retell/{'a' * 257}"])
def test_what_cannot_be_granted_is_not_found(api: Api, name: str) -> None:
    """Other providers, and ids that nothing has."""
    assert api.put(path(api.account, name), key=api.operator_key).status_code == 404
    assert api.delete(path(api.account, name), key=api.operator_key).status_code == 404


def test_grants_are_of_accounts_that_exist(api: Api) -> None:
    """Nobody else can be given any."""
    nobody = replace(api.account, id="acc_" + "a" * 26)
    assert api.put(path(nobody, "/retell/agent_1"), key=api.operator_key).status_code == 404
    assert api.get(path(nobody), key=api.operator_key).status_code == 404


def test_an_agent_is_granted_to_one_account_and_a_project_to_many(api: Api) -> None:
    """What somebody says to an agent goes to one account; a project of Agora is the operator's own."""
    api.grant("retell", f"agent_of_{api.account.id}")
    api.grant("agora", APPID)
    api.grant("agora", APPID, to=api.other)

    taken = api.put(path(api.other, f"/retell/agent_of_{api.account.id}"), key=api.operator_key)
    assert (taken.status_code, taken.get_json()["code"]) == (409, "grant_taken")
    made = api.post(TEMPLATES, SHORTEST).get_json()["data"]["agentId"]
    taken = api.put(path(api.other, f"/elevenlabs/{made}"), key=api.operator_key)
    assert (taken.status_code, taken.get_json()["code"]) == (409, "grant_taken")


@pytest.mark.parametrize("provider", ["elevenlabs", "retell"])
def test_bringing_an_agent_needs_a_grant(api: Api, fakes: Fakes, provider: str) -> None:
    """In a new template and in a change of one; the refusal says what to do."""
    agent_id = f"agent_{provider}_{api.account.id}"
    refused = bring(api, agent_id, provider=provider)
    assert (refused.status_code, refused.get_json()["code"]) == (403, "AGENT_NOT_GRANTED")
    assert "grant" in refused.get_json()["error"]
    assert api.get(TEMPLATES).get_json()["data"] == []

    api.grant(provider, agent_id)
    made = bring(api, agent_id, provider=provider)
    assert made.status_code == 201
    one = f"{TEMPLATES}/{made.get_json()['data']['id']}"
    other = f"other_{agent_id}"
    assert api.put(one, {"agentId": other}).status_code == 403
    api.grant(provider, other)
    assert api.put(one, {"agentId": other}).status_code == 200


def test_an_account_with_a_key_of_its_own_needs_no_grant(api: Api) -> None:
    """It opens its own workspace, and nothing else."""
    own_key(api, "retell", "key_of_theirs")
    assert bring(api, f"agent_of_{api.account.id}", provider="retell").status_code == 201


def _a_web_call(api: Api, agent_id: str, template_id: int) -> list[TestResponse]:
    retell = {"agent_id": agent_id}
    return [api.post(WEB_CALL, retell), api.post(SESSIONS, {"templateId": template_id})]


def _a_signed_url(api: Api, agent_id: str, template_id: int) -> list[TestResponse]:
    url = "/v1/convai/conversation/get-signed-url"
    asked = {"query_string": {"agent_id": agent_id}, "headers": {"xi-api-key": api.account.key}}
    signed = [api.post(SIGNED_URL, {"agentId": agent_id}), api.get(url, key="", **asked)]
    return [*signed, api.post(SESSIONS, {"templateId": template_id})]


@pytest.mark.parametrize(
    ("provider", "ways"), [("retell", _a_web_call), ("elevenlabs", _a_signed_url)], ids=["retell", "elevenlabs"]
)
def test_a_session_is_started_only_while_the_agent_is_granted(
    api: Api, fakes: Fakes, provider: str, ways: Callable[[Api, str, int], list[TestResponse]]
) -> None:
    """Whatever was allowed when the template was made: no session is begun, and the provider is not asked."""
    agent_id = fakes.elevenlabs.add_agent() if provider == "elevenlabs" else f"agent_{api.account.id}"
    api.grant(provider, agent_id)
    template_id = bring(api, agent_id, provider=provider).get_json()["data"]["id"]
    assert {answer.status_code for answer in ways(api, agent_id, template_id)} <= {200, 201}
    begun = len(api.get(SESSIONS).get_json()["data"])

    revoke(api, provider, agent_id)
    asked = fakes.asked()

    for answer in ways(api, agent_id, template_id):
        assert (answer.status_code, "not_granted" in answer.get_data(as_text=True).lower()) == (403, True)
    assert (fakes.asked(), len(api.get(SESSIONS).get_json()["data"])) == (asked, begun)


def test_a_key_that_was_taken_back_leaves_no_way_in(api: Api, fakes: Fakes) -> None:
    """An agent was brought while the account had a key of its own: with ours it is judged anew."""
    own_key(api, "retell", "key_of_theirs")
    agent_id = f"agent_{api.account.id}"
    bring(api, agent_id, provider="retell")
    api.delete("/api/v1/provider-keys/retell")

    refused = api.post(WEB_CALL, {"agent_id": agent_id})

    assert (refused.status_code, refused.get_json()["code"]) == (403, "agent_not_granted")


def _transfer_to(agent_id: str) -> dict[str, Any]:
    tool = {"name": "transfer_to_agent", "params": {"transfers": [{"agent_id": agent_id, "condition": "sales"}]}}
    return {"tools": [tool]}


def test_a_template_transfers_to_agents_of_its_account_only(api: Api, fakes: Fakes) -> None:
    """Another account's is not there, one that was made by hand needs a grant, and its own are its own."""
    theirs = api.post(TEMPLATES, SHORTEST, key=api.other.key).get_json()["data"]["agentId"]
    by_hand = fakes.elevenlabs.add_agent()
    mine = api.post(TEMPLATES, SHORTEST).get_json()["data"]
    own = mine["agentId"]

    for agent_id, status, code in ((theirs, 404, "AGENT_NOT_FOUND"), (by_hand, 403, "AGENT_NOT_GRANTED")):
        for refused in (
            api.post(TEMPLATES, SHORTEST | _transfer_to(agent_id)),
            api.put(f"{TEMPLATES}/{mine['id']}", _transfer_to(agent_id)),
        ):
            assert (refused.status_code, refused.get_json()["code"]) == (status, code)
    api.grant("elevenlabs", by_hand)
    for agent_id in (own, by_hand):
        made = api.post(TEMPLATES, SHORTEST | _transfer_to(agent_id)).get_json()["data"]
        assert made["syncStatus"] == "synced"


def test_a_call_is_begun_only_while_all_that_it_may_lead_to_is_granted(api: Api, fakes: Fakes) -> None:
    """The agent is its own, and would transfer to one that is not its own any more."""
    by_hand = fakes.elevenlabs.add_agent()
    api.grant("elevenlabs", by_hand)
    made = api.post(TEMPLATES, SHORTEST | _transfer_to(by_hand)).get_json()["data"]
    revoke(api, "elevenlabs", by_hand)

    for answer in _a_signed_url(api, made["agentId"], made["id"]):
        assert answer.status_code == 403


@pytest.mark.parametrize("tag", ["switchhook:acc_1:7", "Switchhook", " switchhook:"])
def test_a_tag_does_not_look_like_ours(api: Api, tag: str) -> None:
    """Agents are found again by tags of ours."""
    refused = api.post(TEMPLATES, SHORTEST | {"tag": tag})
    assert (refused.status_code, refused.get_json()["details"]["issues"][0]["path"]) == (400, "tag")
    assert api.post(TEMPLATES, SHORTEST | {"tag": "my switchhook"}).status_code == 201


def test_an_agent_joins_only_projects_that_are_granted(api: Api, fakes: Fakes) -> None:
    """By Agora's paths and by a template; the refusal says what to do, and Agora is not asked."""
    asked = fakes.asked()
    refused = join(api)
    assert refused.status_code == 403
    assert "grant" in refused.get_json()["detail"]
    template_id = api.post(TEMPLATES, SHORTEST | {"provider": "agora"}).get_json()["data"]["id"]
    wish = {"templateId": template_id, "agora": {"appid": APPID, **body_of(OPERATIONS[f"POST {AGORA}/join"])}}
    refused = api.post(SESSIONS, wish)
    assert (refused.status_code, refused.get_json()["code"]) == (403, "PROJECT_NOT_GRANTED")
    assert (fakes.asked(), api.get(SESSIONS).get_json()["data"]) == (asked, [])

    api.grant("agora", APPID)
    assert join(api).status_code == 200


@pytest.mark.parametrize("way", ["update", "speak", "interrupt"])
def test_an_agent_is_steered_only_while_its_project_is_granted(api: Api, way: str) -> None:
    """But it can always be told to leave: what has begun must be able to end."""
    api.grant("agora", APPID)
    agent_id = join(api).get_json()["agent_id"]
    revoke(api, "agora", APPID)

    assert steer(api, agent_id, way).status_code == 403
    assert steer(api, agent_id, "leave").status_code == 200


def test_an_account_with_a_key_of_its_own_joins_any_project(api: Api) -> None:
    """Agora says which are its own."""
    own_key(api, "agora", "customer:secret")
    assert join(api).status_code == 200


def test_an_agent_follows_its_accounts_key(api: Api, fakes: Fakes) -> None:
    """A session is begun in the workspace of the key in force; what was made with ours is deleted with ours."""
    made = api.post(TEMPLATES, SHORTEST).get_json()["data"]
    own_key(api, "elevenlabs", "their-key")

    started = api.post(SESSIONS, {"templateId": made["id"]})

    assert started.status_code == 201
    assert made["agentId"] not in fakes.elevenlabs.workspaces[KEY].agents
    assert api.delete("/api/v1/provider-keys/elevenlabs").status_code == 204
    assert api.post(SESSIONS, {"templateId": made["id"]}).status_code == 201
