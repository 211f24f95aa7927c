"""Conversations created in one call: what their own clients send and get, and what stands behind it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NoReturn

import pytest
from sqlalchemy import text

from relay.agents.clients import Clients
from relay.agents.sync import Sync
from relay.api.conversations.models import NOT_KEPT
from relay.directory import Mirror
from relay.directory.conversations import Conversations
from relay.errors import ProviderNotConfigured, Unavailable
from relay.outbox import Outbox
from relay.provisioning import Provisioning
from relay.sealing import KeyRing
from relay.settings import ProviderAccess, Settings
from relay.store import accounts, sessions
from tests.fakes.elevenlabs import KEY, FakeElevenLabs
from tests.integration.api.conftest import Api

AGENTS = "/v1/convai/agents"
BOOKING: dict[str, Any] = {
    "name": "book_table",
    "description": "Books a table.",
    "parameters": {
        "type": "object",
        "properties": {
            "guests": {"type": "integer", "description": "How many people."},
            "meal": {"type": "string", "enum": ["lunch", "dinner"]},
            "names": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["guests"],
        "additionalProperties": False,
    },
}
WANTED: dict[str, Any] = {"voice_id": "JBFqnCBsd6RMkjVDRZzb", "system_prompt": "You are a friendly receptionist."}
EVERYTHING = WANTED | {"language": "de", "tools": [BOOKING], "context_window": 20, "max_turns": 12}


@pytest.fixture(scope="module")
def elevenlabs_server() -> Iterator[FakeElevenLabs]:
    """ElevenLabs, for all tests of this module."""
    with FakeElevenLabs() as fake:
        yield fake


@pytest.fixture(scope="module")
def api_settings(api_settings: Settings, elevenlabs_server: FakeElevenLabs) -> Settings:
    """With an ElevenLabs to go to."""
    return replace(api_settings, elevenlabs=ProviderAccess(base_url=elevenlabs_server.url, api_key=KEY))


@pytest.fixture
def elevenlabs(elevenlabs_server: FakeElevenLabs) -> Iterator[FakeElevenLabs]:
    """ElevenLabs without what earlier tests left in it; what a test has it fail at is over afterwards."""
    elevenlabs_server.workspace.agents.clear()
    elevenlabs_server.workspace.tools.clear()
    elevenlabs_server.requests.clear()
    yield elevenlabs_server
    elevenlabs_server.recover()


@pytest.fixture
def provisioning(api: Api) -> Provisioning:
    """What changes the configuration, as upkeep has it."""
    ring = KeyRing(api.settings.keys)
    return Provisioning(api.settings, api.database, ring, Mirror(api.redis, ring), Outbox(api.redis))


@pytest.fixture
def sync(api: Api) -> Sync:
    """What keeps agents in step, as upkeep has it."""
    ring = KeyRing(api.settings.keys)
    clients = Clients(api.settings, api.database, ring)
    return Sync(api.settings, api.database, ring, Mirror(api.redis, ring), clients)


def keyless(*_: object) -> NoReturn:
    """Be an operator without a key, of an account without one."""
    raise ProviderNotConfigured


def create(api: Api, **wanted: Any) -> dict[str, Any]:
    """A conversation as its creation was answered."""
    answer = api.post("/v1/conversations/create", WANTED | wanted)
    assert answer.status_code == 201, answer.get_data(as_text=True)
    made: dict[str, Any] = answer.get_json()
    return made


def age(api: Api, column: str, interval: str) -> None:
    """Have everything happened so much earlier."""
    with api.database.begin() as connection:
        for table in ("sessions", "templates"):
            connection.execute(text(f"UPDATE {table} SET {column} = {column} - interval '{interval}'"))


def test_smallest_documented_request_has_the_documented_defaults(api: Api, elevenlabs: FakeElevenLabs) -> None:
    """Voice and prompt are all that is required; the answer tells how to connect."""
    made = create(api)
    number = made["session_id"].removeprefix("conv_")
    assert made["session_id"] == f"conv_{int(number)}"
    assert made["status"] == "pending"
    assert made["created_at"].endswith("Z")
    assert made["configuration"] == WANTED | {
        "language": "en", "tools": [], "context_window": 50, "max_turns": None,
    }  # fmt: skip
    assert made["signed_url"].startswith("wss://api.elevenlabs.io/v1/convai/conversation?agent_id=" + made["agent_id"])
    assert (made["expires_in"], made["dynamic_variables"]) == (900, {"canary_session_id": number})
    assert list(elevenlabs.workspace.agents) == [made["agent_id"]]


def test_agent_is_what_was_asked_for(api: Api, elevenlabs: FakeElevenLabs) -> None:
    """Voice, prompt, language and tools; the conversation's session is the agent's own, whoever connects."""
    made = create(api, **EVERYTHING)
    [agent] = elevenlabs.workspace.agents.values()
    spoken = agent["conversation_config"]["agent"]
    assert agent["conversation_config"]["tts"]["voice_id"] == WANTED["voice_id"]
    assert spoken["language"] == "de"
    assert spoken["prompt"]["prompt"].startswith(WANTED["system_prompt"])
    assert "at most 12 times" in spoken["prompt"]["prompt"]
    assert spoken["prompt"]["built_in_tools"]["end_call"] is not None
    assert spoken["dynamic_variables"]["dynamic_variable_placeholders"] == made["dynamic_variables"]
    [(tool_id, tool)] = elevenlabs.workspace.tools.items()
    assert spoken["prompt"]["tool_ids"] == [tool_id]
    assert made["client_tools"] == {"book_table": tool["name"]}
    assert tool["name"].endswith("_book_table")
    assert tool | {"name": ""} == {
        "type": "client",
        "name": "",
        "description": "Books a table.",
        "expects_response": True,
        "parameters": {
            "type": "object",
            "description": "parameters",
            "properties": {
                "guests": {"type": "integer", "description": "How many people."},
                "meal": {"type": "string", "description": "meal", "enum": ["lunch", "dinner"]},
                "names": {
                    "type": "array",
                    "description": "names",
                    "items": {"type": "string", "description": "names"},
                },
            },
            "required": ["guests"],
        },
    }


def test_reads_a_conversation_without_what_was_said(api: Api, elevenlabs: FakeElevenLabs) -> None:
    """Its configuration comes back as it was given, also to a key that may only read, and no signed URL does."""
    made = create(api, **EVERYTHING)
    shown = api.get(f"/v1/conversations/{made['session_id']}", key=api.account.reading_key).get_json()
    assert shown["configuration"] == EVERYTHING
    assert (shown["turn_count"], shown["turns"], shown["turns_note"]) == (None, [], NOT_KEPT)
    assert (shown["status"], shown["deleted_at"]) == ("pending", None)
    assert "signed_url" not in shown


def test_another_signed_url_is_to_be_had_for_the_agent(api: Api, elevenlabs: FakeElevenLabs) -> None:
    """The first opens a call for 15 minutes; CanaryLLM's route makes more until the conversation is deleted."""
    made = create(api)
    wanted = {"agentId": made["agent_id"], "sessionId": made["dynamic_variables"]["canary_session_id"]}
    again = api.post("/api/agents/signed-url", wanted).get_json()["data"]["signedUrl"]
    assert again.split("&")[0] == made["signed_url"].split("&")[0]
    assert again != made["signed_url"]
    assert api.post("/api/agents/signed-url", wanted, key=api.other.key).status_code == 404
    api.delete(f"/v1/conversations/{made['session_id']}")
    assert api.post("/api/agents/signed-url", wanted).status_code == 404


def test_tells_what_became_of_the_call(api: Api, elevenlabs: FakeElevenLabs) -> None:
    """Status, times and the number of turns, once billing has written them."""
    made = create(api)
    with api.database.begin() as connection:
        connection.execute(
            text(
                "UPDATE sessions SET status = 'completed', turn_count = 7, started_at = '2026-02-11T12:00:00Z',"
                " ended_at = '2026-02-11T12:05:00.5Z' WHERE account_id = :account"
            ),
            {"account": api.account.id},
        )
    shown = api.get(f"/v1/conversations/{made['session_id']}").get_json()
    assert (shown["status"], shown["turn_count"]) == ("completed", 7)
    assert (shown["started_at"], shown["ended_at"]) == ("2026-02-11T12:00:00.000Z", "2026-02-11T12:05:00.500Z")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("voice_id", None),
        ("voice_id", ""),
        ("voice_id", "../agents"),
        ("voice_id", 7),
        ("system_prompt", None),
        ("system_prompt", "  "),
        ("system_prompt", "x" * 10_001),
        ("system_prompt", "a\x00b"),
        ("language", "english"),
        ("language", "xx"),
        ("language", "EN"),
        ("language", None),
        ("context_window", 0),
        ("context_window", 1001),
        ("context_window", "50"),
        ("context_window", 1.5),
        ("context_window", True),
        ("max_turns", 0),
        ("max_turns", -1),
        ("max_turns", 10_001),
        ("tools", {}),
        ("tools", [BOOKING, BOOKING]),
        ("tools", [BOOKING | {"name": f"tool_{number}"} for number in range(33)]),
        ("tools.0.name", "book a table"),
        ("tools.0.name", "x" * 37),
        ("tools.0.description", ""),
        ("tools.0.parameters", []),
        ("tools.0.colour", "red"),
        ("sample_rate", 16000),
        ("voiceId", "JBFqnCBsd6RMkjVDRZzb"),
    ],
)
def test_names_the_field_that_is_wrong(api: Api, elevenlabs: FakeElevenLabs, field: str, value: object) -> None:
    """With its path, and nothing is made anywhere."""
    body: dict[str, Any] = {**WANTED, "tools": [dict(BOOKING)]}
    place: Any = body["tools"][0] if field.startswith("tools.0.") else body
    place[field.rpartition(".")[2]] = value
    answer = api.post("/v1/conversations/create", body)
    assert answer.status_code == 400
    assert answer.content_type == "application/problem+json"
    assert answer.get_json()["code"] == "validation_error"
    assert {issue["path"] for issue in answer.get_json()["issues"]} == {field}
    assert elevenlabs.requests == []


@pytest.mark.parametrize(
    ("parameters", "path"),
    [
        ({"type": "string"}, ""),
        ({"type": "object", "properties": {"a": {"type": "date"}}}, ".properties.a"),
        ({"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}}, ".properties.a.minimum"),
        ({"type": "object", "properties": {"a": {"type": "array"}}}, ".properties.a.items"),
        ({"type": "object", "properties": {"a": {"type": "string", "enum": []}}}, ".properties.a.enum"),
        ({"type": "object", "properties": {"a b": {"type": "string"}}}, ".properties.a b.[key]"),
        ({"type": "object", "required": ["a"]}, ""),
        ({"type": "object", "additionalProperties": True}, ".additionalProperties"),
    ],
)
def test_refuses_parameters_that_would_not_be_enforced(api: Api, parameters: dict[str, Any], path: str) -> None:
    """ElevenLabs knows a part of JSON Schema: what it does not know is refused, not dropped."""
    answer = api.post("/v1/conversations/create", WANTED | {"tools": [BOOKING | {"parameters": parameters}]})
    assert answer.status_code == 400
    [issue] = answer.get_json()["issues"]
    assert issue["path"].startswith("tools.0.parameters" + path)


@pytest.mark.parametrize(
    ("fail_at", "status", "code", "answered"),
    [
        ("POST /v1/convai/agents", 503, "provider_unavailable", 503),
        ("POST /v1/convai/agents", 400, "provider_failed", 502),
        ("POST /v1/convai/agents", 401, "provider_key_refused", 502),
        ("GET /v1/convai/conversation", 500, "provider_unavailable", 503),
    ],
)
def test_what_fails_at_the_provider_leaves_nothing_behind(
    api: Api, elevenlabs: FakeElevenLabs, *, fail_at: str, status: int, code: str, answered: int
) -> None:
    """A client can only try again: no conversation, no template, no agent is there afterwards."""
    elevenlabs.fail_next(status, 3, on=fail_at)
    answer = api.post("/v1/conversations/create", WANTED)
    assert (answer.status_code, answer.get_json()["code"]) == (answered, code)
    assert elevenlabs.workspace.agents == {}
    with api.database.begin() as connection:
        mine = {"account": api.account.id}
        left = "SELECT count(*) FROM templates WHERE account_id = :account AND deleted_at IS NULL"
        assert connection.execute(text(left), mine).scalar_one() == 0
        assert (
            connection.execute(text("SELECT count(*) FROM sessions WHERE account_id = :account"), mine).scalar_one()
            == 0
        )
    elevenlabs.recover()
    create(api)


def test_a_field_that_the_provider_refuses_is_named(api: Api, elevenlabs: FakeElevenLabs) -> None:
    """By its path at the provider; a value of the caller's is not quoted."""
    loc = ("body", "conversation_config", "tts", "voice_id")
    elevenlabs.fail_next(422, on="POST /v1/convai/agents", loc=loc)
    answer = api.post("/v1/conversations/create", WANTED).get_json()
    assert answer["code"] == "provider_failed"
    assert answer["detail"] == (
        "the provider refused to make this conversation's agent (conversation_config.tts.voice_id)"
    )


def test_what_the_ingress_cannot_be_told_leaves_nothing_behind(
    api: Api, elevenlabs: FakeElevenLabs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis went away at the last step: the session was never there, and is not pending for a day."""

    def away(*_: Any, **__: Any) -> NoReturn:
        raise Unavailable

    with monkeypatch.context() as patch:
        patch.setattr(Conversations, "remember", away)
        assert api.post("/v1/conversations/create", WANTED).status_code == 503
    assert elevenlabs.workspace.agents == {}
    with api.database.begin() as connection:
        assert sessions.page(connection, account_id=api.account.id) == []
    create(api)


def test_agent_that_was_made_without_an_answer_is_removed_later(
    api: Api, elevenlabs: FakeElevenLabs, sync: Sync
) -> None:
    """ElevenLabs made it and the answer was lost; while it cannot be reached at all, upkeep keeps at it."""
    elevenlabs.fail_next(504, on="POST /v1/convai/agents", acted=True)
    elevenlabs.fail_next(503, 3, on="GET /v1/convai/agents")
    assert api.post("/v1/conversations/create", WANTED).status_code == 503
    assert len(elevenlabs.workspace.agents) == 1
    with api.database.begin() as connection:
        connection.execute(text("UPDATE voice_agents SET next_attempt_at = now()"))
    sync.due(100)
    assert elevenlabs.workspace.agents == {}


def test_says_that_no_provider_is_configured(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator without a key of ElevenLabs, and an account without one of its own: a conflict that says so."""
    monkeypatch.setattr(Clients, "elevenlabs", keyless)
    answer = api.post("/v1/conversations/create", WANTED)
    assert (answer.status_code, answer.get_json()["code"]) == (409, "provider_not_configured")


def test_delete_ends_the_conversation_at_the_provider(api: Api, elevenlabs: FakeElevenLabs) -> None:
    """Its agent and tools are gone, nobody can begin a call; its metadata can still be read."""
    made, other = create(api, tools=[BOOKING]), create(api)
    answer = api.delete(f"/v1/conversations/{made['session_id']}")
    assert (answer.status_code, answer.get_data()) == (204, b"")
    assert (list(elevenlabs.workspace.agents), elevenlabs.workspace.tools) == ([other["agent_id"]], {})
    shown = api.get(f"/v1/conversations/{made['session_id']}").get_json()
    assert shown["status"] == "abandoned"
    assert shown["deleted_at"] is not None
    assert shown["configuration"] == made["configuration"] | {"tools": [BOOKING]}


def test_delete_twice_changes_nothing_more(api: Api, elevenlabs: FakeElevenLabs) -> None:
    """The second one is answered like the first; the moment of the first counts, and ElevenLabs hears nothing."""
    path = f"/v1/conversations/{create(api)['session_id']}"
    api.delete(path)
    first = api.get(path).get_json()
    elevenlabs.requests.clear()
    assert api.delete(path).status_code == 204
    assert (api.get(path).get_json(), elevenlabs.requests) == (first, [])


def test_delete_of_a_running_call_leaves_its_session_to_its_end(api: Api, elevenlabs: FakeElevenLabs) -> None:
    """The call goes on by itself: its session stays active until the provider says how it ended."""
    made = create(api)
    with api.database.begin() as connection:
        connection.execute(text("UPDATE sessions SET status = 'active' WHERE account_id = :a"), {"a": api.account.id})
    assert api.delete(f"/v1/conversations/{made['session_id']}").status_code == 204
    assert api.get(f"/v1/conversations/{made['session_id']}").get_json()["status"] == "active"


def test_delete_while_the_provider_is_away_is_finished_by_upkeep(
    api: Api, elevenlabs: FakeElevenLabs, sync: Sync
) -> None:
    """It is deleted at once for the customer, and the agent is not forgotten."""
    made = create(api)
    elevenlabs.fail_next(503, 3, on="DELETE /v1/convai/agents")
    assert api.delete(f"/v1/conversations/{made['session_id']}").status_code == 204
    assert list(elevenlabs.workspace.agents) == [made["agent_id"]]
    with api.database.begin() as connection:
        connection.execute(text("UPDATE voice_agents SET next_attempt_at = now()"))
    sync.due(100)
    assert elevenlabs.workspace.agents == {}


@pytest.mark.parametrize(("interval", "status"), [("29 days 23 hours", 200), ("30 days 1 minute", 404)])
def test_deleted_conversation_can_be_read_for_thirty_days(
    api: Api, elevenlabs: FakeElevenLabs, interval: str, status: int
) -> None:
    """And no longer, nor be deleted again."""
    path = f"/v1/conversations/{create(api)['session_id']}"
    api.delete(path)
    age(api, "deleted_at", interval)
    assert api.get(path).status_code == status
    assert api.delete(path).status_code == (204 if status == 200 else 404)


@pytest.mark.parametrize("method", ["GET", "DELETE", "GET /stream"])
def test_foreign_and_unknown_ids_are_not_found_and_nothing_happens(
    api: Api, elevenlabs: FakeElevenLabs, method: str
) -> None:
    """Whatever they look like, and also the sessions of templates that can be seen."""
    made = create(api)
    verb, _, rest = method.partition(" ")
    with api.database.begin() as connection:
        plain = connection.execute(text("SELECT nextval('session_ids')")).scalar_one()
        connection.execute(
            text("INSERT INTO sessions (account_id, id, provider) VALUES (:account, :id, 'elevenlabs')"),
            {"account": api.account.id, "id": plain},
        )
    foreign = api.call(verb, f"/v1/conversations/{made['session_id']}{rest}", key=api.other.key)
    assert foreign.status_code == 404
    assert foreign.get_json()["code"] == "not_found"
    for unknown in (
        "conv_999999999",
        "conv_0",
        "conv_",
        "conv_1x",
        "conv_" + "9" * 17,
        "create",
        f"conv_{plain}",
        "%00",
    ):
        assert api.call(verb, f"/v1/conversations/{unknown}{rest}").status_code == 404, unknown
    assert api.get(f"/v1/conversations/{made['session_id']}").get_json()["deleted_at"] is None
    assert list(elevenlabs.workspace.agents) == [made["agent_id"]]


def test_stream_says_that_it_is_not_built_yet(api: Api, elevenlabs: FakeElevenLabs) -> None:
    """With the documented parameters too; the problem says where the audio goes instead."""
    made = create(api)
    query = "sample_rate=16000&encoding=pcm16&vad_threshold=0.5"
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    answer = api.get(f"/v1/conversations/{made['session_id']}/stream?{query}", headers=upgrade)
    assert (answer.status_code, answer.content_type) == (501, "application/problem+json")
    assert answer.get_json()["code"] == "not_implemented"
    assert "signed_url" in answer.get_json()["detail"]


def test_a_conversation_costs_one_small_key_and_no_change_of_the_account(api: Api, elevenlabs: FakeElevenLabs) -> None:
    """Thousands a day are normal: what the account's other calls need is not written anew for each of them."""
    create(api)  # with the first one the account gets its webhook
    api.redis.set("sw:config:conversations", 1)

    def mirrored() -> tuple[Any, ...]:
        with api.database.begin() as connection:
            stored = accounts.versions(connection)[api.account.id]
        of_account = [api.redis.hget(f"sw:config:{name}", api.account.id) for name in ("accounts", "versions")]
        return (stored, api.redis.get("sw:config:version"), *of_account)

    before, keys = mirrored(), set(api.redis.keys("sw:config:*"))
    made = create(api)
    [key] = set(api.redis.keys("sw:config:*")) - keys
    assert made["agent_id"].encode() in key
    assert (api.redis.memory_usage(key) or 0) < 400
    assert 7 * 86_400 - 60 < api.redis.ttl(key) <= 7 * 86_400
    api.delete(f"/v1/conversations/{made['session_id']}")
    assert api.redis.exists(key)  # for the call that may be under way
    elevenlabs.fail_next(400, 3, on="POST /v1/convai/agents")
    api.post("/v1/conversations/create", WANTED)
    assert mirrored() == before
    assert set(api.redis.keys("sw:config:*")) == {*keys, key}


def test_another_signed_url_has_the_agent_known_for_longer(api: Api, elevenlabs: FakeElevenLabs) -> None:
    """A call may begin with it days after the conversation was created."""
    made = create(api)
    [key] = [key for key in api.redis.keys("sw:config:conversation:*") if made["agent_id"].encode() in key]
    api.redis.expire(key, 60)
    assert api.post("/api/agents/signed-url", {"agentId": made["agent_id"]}).status_code == 200
    assert api.redis.ttl(key) > 7 * 86_400 - 60


def test_hidden_templates_stay_hidden(api: Api, elevenlabs: FakeElevenLabs) -> None:
    """CanaryLLM's paths know nothing of the template behind a conversation, and cannot change it."""
    create(api)
    with api.database.begin() as connection:
        template_id = connection.execute(text("SELECT max(id) FROM templates WHERE hidden")).scalar_one()
    path = f"/api/convagents/templates/{template_id}"
    assert api.get("/api/convagents/templates").get_json()["data"] == []
    assert [api.call(verb, path, body).status_code for verb, body in (("GET", None), ("PUT", {"name": "x"}))] == [
        404
    ] * 2
    assert api.delete(path).status_code == 404
    assert api.post("/api/convagents/sessions", {"templateId": template_id}).status_code == 404
    assert len(elevenlabs.workspace.agents) == 1


def test_same_idempotency_key_makes_one_conversation(api: Api, elevenlabs: FakeElevenLabs) -> None:
    """A client that never heard the answer hears it again."""
    headers = {"Idempotency-Key": "once"}
    first, again = (api.post("/v1/conversations/create", WANTED, headers=headers).get_json() for _ in range(2))
    assert first == again
    assert len(elevenlabs.workspace.agents) == 1


def test_changes_are_audited(api: Api, elevenlabs: FakeElevenLabs) -> None:
    """Creation and deletion, in the name of the key; what changes nothing is no change."""
    made = create(api)
    for _ in range(2):
        api.delete(f"/v1/conversations/{made['session_id']}")
    with api.database.begin() as connection:
        rows = connection.execute(
            text(
                "SELECT actor, action, object_id FROM audit WHERE account_id = :a AND action LIKE 'conv%' ORDER BY id"
            ),
            {"a": api.account.id},
        ).all()
    number = made["session_id"].removeprefix("conv_")
    assert [tuple(row) for row in rows] == [
        (api.account.key_id, "conversation.created", number),
        (api.account.key_id, "conversation.deleted", number),
    ]


def test_digests_are_of_what_is_answered(api: Api, elevenlabs: FakeElevenLabs) -> None:
    """But for `turns`, which are never there: whoever kept an answer finds the change that made it."""
    path = f"/v1/conversations/{create(api)['session_id']}"
    first = api.get(path).get_json()
    api.delete(path)
    second = api.get(path).get_json()
    deleted, created = api.get("/api/v1/audit", query_string={"objectId": first["session_id"][5:]}).get_json()["data"]
    assert (created["after"], deleted["before"], deleted["after"]) == (digest(first), digest(first), digest(second))


def digest(answer: dict[str, Any]) -> str:
    """SHA-256 of a conversation as the audit has it."""
    shown = {name: value for name, value in answer.items() if name not in ("turns", "turns_note")}
    return hashlib.sha256(json.dumps(shown, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@pytest.mark.parametrize(
    ("status", "completed", "created", "is_retired"),
    [
        ("completed", "25 hours", "26 hours", True),
        ("completed", "23 hours", "26 hours", False),  # somebody may want to go on
        ("abandoned", "25 hours", "26 hours", True),
        ("active", None, "6 days", False),
        ("pending", None, "6 days", False),
        ("pending", None, "8 days", True),  # nobody waits for its webhooks any more
        (None, None, "25 hours", True),  # a crash left it without a session
        (None, None, "1 hour", False),
    ],
)
def test_agents_of_conversations_that_nobody_continues_are_given_up(
    api: Api,
    elevenlabs: FakeElevenLabs,
    provisioning: Provisioning,
    sync: Sync,
    *,
    status: str | None,
    completed: str | None,
    created: str,
    is_retired: bool,
) -> None:
    """They would fill the workspace; the conversation itself can still be read."""
    with api.database.begin() as connection:
        connection.execute(text("UPDATE templates SET deleted_at = now() WHERE deleted_at IS NULL"))
    made = create(api)
    ago = {"created": created, "completed": completed, "status": status, "account": api.account.id}
    with api.database.begin() as connection:
        if status is None:
            connection.execute(text("DELETE FROM sessions WHERE account_id = :account"), ago)
        connection.execute(
            text(
                "UPDATE sessions SET status = :status, created_at = now() - CAST(:created AS interval),"
                " completed_at = now() - CAST(:completed AS interval) WHERE account_id = :account"
            ),
            ago,
        )
        connection.execute(
            text("UPDATE templates SET created_at = now() - CAST(:created AS interval) WHERE account_id = :account"),
            ago,
        )
    assert provisioning.retire_idle_conversations(10) == int(is_retired)
    sync.due(100)
    assert (elevenlabs.workspace.agents == {}) is is_retired
    if status is not None:
        assert api.get(f"/v1/conversations/{made['session_id']}").status_code == 200
    assert provisioning.retire_idle_conversations(10) == 0
