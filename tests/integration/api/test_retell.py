"""Retell's own routes for its own clients: web calls that are sessions of the account, and what became of them."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NoReturn

import pytest
from retell import BadRequestError, NotFoundError, Retell
from retell.types import WebCallResponse
from werkzeug.test import TestResponse

from relay.errors import Unavailable
from relay.outbox import Outbox
from relay.outbox.outcomes import OutcomeReader
from relay.providers.retell import sign
from relay.settings import ProviderAccess, Settings
from relay.store import sessions, tables
from relay.store.sessions import Session
from tests.fakes.retell import FakeRetell
from tests.integration.api.conftest import Api
from workers.charge import ChargeLane
from workers.record import RecordLane

CREATE = ("/v3/create-web-call", "/v2/create-web-call")
BEGAN, ENDED = 1_800_000_000_000, 1_800_000_091_500
SAID = "what was said"
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def retell() -> Iterator[FakeRetell]:
    """Retell."""
    with FakeRetell() as fake:
        yield fake


@pytest.fixture(scope="module")
def api_settings(api_settings: Settings, retell: FakeRetell) -> Settings:
    """The API with our own key at Retell."""
    return replace(api_settings, retell=ProviderAccess(base_url=retell.url, api_key=retell.key))


def an_agent(api: Api, *, key: str | None = None, **fields: Any) -> str:
    """An agent at Retell, of a template of the account or of the one whose key it is."""
    agent_id = f"agent_{next(_numbers)}"
    wish = {"name": "T", "type": "conversation", "systemPrompt": "-", "provider": "retell", "agentId": agent_id}
    api.grant("retell", agent_id, to=api.other if key == api.other.key else api.account)
    assert api.post("/api/convagents/templates", wish | fields, key=key).status_code == 201
    return agent_id


def begin(api: Api, path: str = CREATE[0], **body: Any) -> TestResponse:
    """A web call, with an agent of its own unless one is named."""
    if "agent_id" not in body:
        body["agent_id"] = an_agent(api)
    return api.post(path, body)


def session_of(api: Api, answer: TestResponse) -> Session:
    """The session that an answer names."""
    with api.database.begin() as connection:
        return sessions.get(connection, account_id=api.account.id, session_id=int(answer.headers["Switchhook-Session"]))


def a_source(api: Api) -> str:
    """A source of Retell's, in an account whose calls cost something."""
    card = {"perMinute": "0.10"}
    made = api.post(f"/api/v1/accounts/{api.account.id}/rate-cards", card, key=api.operator_key)
    assert made.status_code == 201, made.text
    return str(api.post("/api/v1/sources", {"provider": "retell", "secrets": ["s"]}).get_json()["id"])


def tell(api: Api, source_id: str, event: str, call: dict[str, Any]) -> None:
    """A webhook of Retell's, recorded and charged."""
    body = json.dumps({"event": event, "call": call | {"transcript": SAID}}).encode()
    headers = dict(sign(body, secret="s", now_ms=int(time.time() * 1000)))
    answer = api.client.post(f"/api/v1/webhooks/retell/{source_id}", data=body, headers=headers)
    assert answer.status_code == 200, answer.text
    record = RecordLane(OutcomeReader(api.redis, consumer="tests"), api.database, on_gone=lambda *_: None)
    for lane in (record, ChargeLane(Outbox(api.redis), api.database)):
        while lane.step():
            pass


# -- beginning


def test_begins_a_web_call_for_the_newer_web_client(api: Api, retell: FakeRetell) -> None:
    """What it connects with, as Retell gave it; it is a pending session with the call's metadata."""
    answer = begin(api, metadata={"customer": 7})

    shown, session = answer.get_json(), session_of(api, answer)
    assert answer.status_code == 201
    assert shown == {
        "call_id": session.conversation_id,
        "access_token": shown["access_token"],
        "transport": "gateway",
        "ice_servers": [
            {"urls": "stun:stun.example:3478"},
            {"urls": ["turn:turn.example:3478"], "username": "u", "credential": "a-secret"},
        ],
        "expires_at": 1_800_000_000_000,
    }
    assert shown["access_token"].startswith("token_")
    assert (session.provider, session.status, session.metadata) == ("retell", "pending", {"customer": 7})
    assert session.template_id is not None
    assert retell.requests[-1].path == "/v3/create-web-call"


@pytest.mark.parametrize("path", CREATE)
def test_a_call_that_was_made_is_answered_though_postgres_went_away(
    api: Api, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """It costs, and its webhooks name its session: whoever asked for it has to be able to join it."""
    agent_id = an_agent(api)

    def away(*_: Any, **__: Any) -> NoReturn:
        raise Unavailable

    with monkeypatch.context() as patch:
        patch.setattr(sessions, "begun", away)
        answer = begin(api, path, agent_id=agent_id)
    assert (answer.status_code, session_of(api, answer).status) == (201, "pending")
    assert answer.get_json()["access_token"].startswith("token_")


def test_begins_a_web_call_for_the_older_web_client(api: Api, retell: FakeRetell) -> None:
    """Which joins a room: its token comes from Retell's older path, and so does its call object."""
    answer = begin(api, "/v2/create-web-call", metadata={"customer": 7})

    shown, session = answer.get_json(), session_of(api, answer)
    assert answer.status_code == 201
    assert shown == {
        "call_type": "web_call",
        "call_id": session.conversation_id,
        "agent_id": session.agent_id,
        "agent_version": 0,
        "call_status": "registered",
        "access_token": shown["access_token"],
        "metadata": {"customer": 7},
    }
    assert retell.requests[-1].path == "/v2/create-web-call"


@pytest.mark.parametrize("path", CREATE)
def test_passes_on_what_the_call_is_to_have(api: Api, retell: FakeRetell, path: str) -> None:
    """Metadata and variables with ours among them, which no caller sets; the rest as it is."""
    forged = {"canary_session_id": "1", "switchhook_account": api.other.id}
    rest = {"agent_version": "latest_published", "current_node_id": "node", "current_state": "state"}
    agent_id = an_agent(api)

    answer = begin(
        api, path, agent_id=agent_id, metadata=forged | {"k": [1]}, retell_llm_dynamic_variables={"name": "Ada"}, **rest
    )

    named = {"canary_session_id": answer.headers["Switchhook-Session"]}
    assert retell.requests[-1].body == {
        "agent_id": agent_id,
        "metadata": {"k": [1], "switchhook_account": api.account.id} | named,
        "retell_llm_dynamic_variables": {"name": "Ada"} | named,
        **rest,
    }


@pytest.mark.parametrize("path", CREATE)
def test_begins_with_agents_of_the_accounts_own_templates_alone(api: Api, retell: FakeRetell, path: str) -> None:
    """Another account's, a deleted template's, another provider's and nobody's: 404, and Retell is not asked."""
    theirs = an_agent(api, key=api.other.key)
    gone = an_agent(api)
    (template,) = api.get("/api/convagents/templates").get_json()["data"]
    assert api.delete(f"/api/convagents/templates/{template['id']}").status_code == 200
    elsewhere = an_agent(api, provider="elevenlabs")
    before = len(retell.requests)
    for agent_id in (theirs, gone, elsewhere, "agent_of_nobody"):
        answer = begin(api, path, agent_id=agent_id)
        assert (answer.status_code, answer.get_json()["code"]) == (404, "not_found")
    assert len(retell.requests) == before
    assert api.get("/api/convagents/sessions").get_json()["data"] == []


@pytest.mark.parametrize("path", CREATE)
@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"agent_id": ""}, "agent_id"),
        ({"metadata": {"k": "v" * 2048}}, "metadata"),
        ({"metadata": "text"}, "metadata"),
        ({"retell_llm_dynamic_variables": {"k": 1}}, "retell_llm_dynamic_variables.k"),
        ({"agent_override": {"agent": {"webhook_url": "https://elsewhere.example"}}}, "agent_override"),
        ({"agentId": "a"}, "agentId"),
    ],
)
def test_refuses_in_retells_words(api: Api, *, path: str, wrong: dict[str, Any], field: str) -> None:
    """With the field that is wrong in the message."""
    answer = api.post(path, {"agent_id": "a"} | wrong)
    shown = answer.get_json()
    assert (answer.status_code, set(shown)) == (400, {"status", "message", "code"})
    assert (shown["status"], shown["code"]) == ("error", "validation_error")
    assert field in shown["message"]


@pytest.mark.parametrize("path", CREATE)
def test_a_call_that_retell_does_not_begin_has_failed(api: Api, retell: FakeRetell, path: str) -> None:
    """In our words; the session says why, and costs nothing."""
    agent_id = an_agent(api)
    retell.fail_next(422)
    answer = begin(api, path, agent_id=agent_id)
    assert answer.status_code == 502
    assert agent_id not in answer.get_data(as_text=True)
    (session,) = api.get("/api/convagents/sessions").get_json()["data"]
    assert (session["status"], session["cost"]) == ("failed", None)
    assert session["failureCode"] == answer.get_json()["code"]


def test_the_same_request_again_begins_no_other_call(api: Api, retell: FakeRetell) -> None:
    """With an `Idempotency-Key`: the same call, the same token."""
    wish, headers = {"agent_id": an_agent(api)}, {"Idempotency-Key": "once"}
    first, again = (api.post(CREATE[0], wish, headers=headers) for _ in range(2))
    assert first.get_json() == again.get_json()
    assert sum(call["agent_id"] == wish["agent_id"] for call in retell.calls.values()) == 1


# -- reading


def test_tells_of_a_call_from_its_beginning_to_its_end(api: Api, retell: FakeRetell) -> None:
    """State, times and duration, as Retell's webhooks tell them; nothing that was said, and no token."""
    source_id = a_source(api)
    made = begin(api, metadata={"k": "v"}).get_json()
    path, call = f"/v2/get-call/{made['call_id']}", retell.calls[made["call_id"]]
    known = {"call_type": "web_call", "call_id": made["call_id"], "agent_id": call["agent_id"], "metadata": {"k": "v"}}
    assert api.get(path).get_json() == known | {"call_status": "registered"}

    tell(api, source_id, "call_started", call | {"call_status": "ongoing", "start_timestamp": BEGAN})
    assert api.get(path).get_json()["call_status"] == "ongoing"

    times = {"start_timestamp": BEGAN, "end_timestamp": ENDED, "duration_ms": 91_500}
    tell(api, source_id, "call_ended", call | times | {"call_status": "ended"})
    answer = api.get(path, key=api.account.reading_key)
    assert answer.get_json() == known | times | {"call_status": "ended"}
    assert SAID not in answer.text


@pytest.mark.parametrize(("ends", "status"), [("failed", "error"), ("abandoned", "not_connected")])
def test_tells_of_calls_that_never_came_to_be(api: Api, *, ends: str, status: str) -> None:
    """In Retell's words for them."""
    session = session_of(api, begin(api))
    with api.database.begin() as connection:
        mine = tables.sessions.c.account_id == api.account.id
        connection.execute(tables.sessions.update().where(mine).values(status=ends))
    assert api.get(f"/v2/get-call/{session.conversation_id}").get_json()["call_status"] == status


def test_does_not_say_of_what_type_a_call_was_that_began_elsewhere(api: Api) -> None:
    """It may have been one by telephone: only its webhooks told of it."""
    source_id = a_source(api)
    tell(api, source_id, "call_ended", {"call_id": "call_by_phone", "agent_id": "a", "duration_ms": 1000})
    assert api.get("/v2/get-call/call_by_phone").get_json() == {
        "call_id": "call_by_phone", "agent_id": "a", "call_status": "ended", "duration_ms": 1000
    }  # fmt: skip


def test_calls_of_others_are_not_there(api: Api, retell: FakeRetell) -> None:
    """Nor a conversation at another provider, nor what can be no id; Retell is never asked."""
    call_id = begin(api).get_json()["call_id"]
    with api.database.begin() as connection:
        other = sessions.create(connection, account_id=api.account.id, provider="elevenlabs")
        sessions.begun(connection, account_id=api.account.id, session_id=other.id, conversation_id="conv_1")
    before = len(retell.requests)
    for path, key in ((call_id, api.other.key), ("conv_1", None), ("nobodys", None), ("%00", None), ("x" * 999, None)):
        answer = api.get(f"/v2/get-call/{path}", key=key)
        assert (answer.status_code, answer.get_json()["status"]) == (404, "error"), path
    assert len(retell.requests) == before


# -- the official client


def test_the_official_client_works_with_another_base_url(api: Api, retell: FakeRetell, served: str) -> None:
    """And an account's key in the place of Retell's: it finds what its types require, and its own errors."""
    with Retell(base_url=served, api_key=api.account.key, max_retries=0) as client:
        made = client.call.create_web_call(
            agent_id=an_agent(api), metadata={"k": "v"}, retell_llm_dynamic_variables={"name": "Ada"}
        )
        type(made).model_validate(made.to_dict())
        assert (made.transport, made.ice_servers[1].username) == ("gateway", "u")

        call = client.call.retrieve(made.call_id)
        assert isinstance(call, WebCallResponse)
        assert (call.call_id, call.call_status, call.metadata) == (made.call_id, "registered", {"k": "v"})
        assert [call.transcript, call.access_token] == [None, None]

        with pytest.raises(NotFoundError) as unknown:
            client.call.create_web_call(agent_id=an_agent(api, key=api.other.key))
        assert isinstance(unknown.value.body, dict)
        assert unknown.value.body["status"] == "error"
        with pytest.raises(BadRequestError):
            client.call.create_web_call(agent_id="")


def test_the_older_call_object_has_what_the_official_types_require(api: Api) -> None:
    """The package of today has no method for the path, and the type all the same."""
    WebCallResponse.model_validate(begin(api, "/v2/create-web-call").get_json())
