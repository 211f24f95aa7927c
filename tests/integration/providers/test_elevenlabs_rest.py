"""Our adapter of ElevenLabs' REST API, and the official client, against the same fake: both understand it alike."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import httpx
import pytest
from elevenlabs.client import ElevenLabs as Official
from elevenlabs.core.api_error import ApiError
from elevenlabs.types import (
    AgentConfig,
    ConversationalConfig,
    PromptAgentApiModelOutput,
    ToolRequestModel,
    WebhookHmacSettings,
)

from relay.errors import ProviderFailed
from relay.providers.rest.elevenlabs import ElevenLabs
from relay.settings import ProviderAccess
from tests.fakes.elevenlabs import KEY, FakeElevenLabs

BODY: Final[dict[str, Any]] = {
    "name": "Intake",
    "conversation_config": {"agent": {"prompt": {"prompt": "Ask."}}},
    "tags": ["one", "switchhook:acc:1"],
}
TOOL: Final[dict[str, Any]] = {
    "type": "webhook",
    "name": "switchhook_abc_context",
    "description": "Asks.",
    "api_schema": {"url": "https://relay.example.com/x", "method": "POST"},
}


@pytest.fixture
def fake() -> Iterator[FakeElevenLabs]:
    """ElevenLabs."""
    with FakeElevenLabs() as fake:
        yield fake


@pytest.fixture
def ours(fake: FakeElevenLabs) -> ElevenLabs:
    """Our adapter."""
    return ElevenLabs(ProviderAccess(base_url=fake.url, api_key=KEY))


def test_makes_changes_finds_and_deletes_an_agent(fake: FakeElevenLabs, ours: ElevenLabs) -> None:
    """The whole life of one; deleting twice is as good as once."""
    agent_id = ours.create_agent(BODY)
    ours.update_agent(agent_id, {"name": "Exit"})

    assert fake.workspace.agents[agent_id]["name"] == "Exit"
    assert ours.find_agents("switchhook:acc:1") == [agent_id]
    assert ours.find_agents("switchhook:acc:2") == []
    ours.delete_agent(agent_id)
    ours.delete_agent(agent_id)
    assert not fake.workspace.agents


def test_an_update_of_an_agent_that_is_gone_says_so(ours: ElevenLabs) -> None:
    """The caller makes another."""
    with pytest.raises(ProviderFailed) as caught:
        ours.update_agent("agent_gone", BODY)
    assert caught.value.provider_status == 404


def test_finds_agents_on_all_pages(ours: ElevenLabs) -> None:
    """A page has a hundred at most."""
    made = [ours.create_agent({**BODY, "name": str(number)}) for number in range(101)]

    assert ours.find_agents("one") == made


def test_makes_changes_finds_and_deletes_tools(fake: FakeElevenLabs, ours: ElevenLabs) -> None:
    """A tool that is in use is taken from its agents."""
    tool_id = ours.create_tool(TOOL)
    prompt = {"prompt": "Ask.", "tool_ids": [tool_id]}
    agent_id = ours.create_agent({**BODY, "conversation_config": {"agent": {"prompt": prompt}}})
    ours.update_tool(tool_id, {**TOOL, "description": "Looks up."})

    assert fake.workspace.tools[tool_id]["description"] == "Looks up."
    assert [(tool.id, tool.name) for tool in ours.find_tools("switchhook_abc_")] == [(tool_id, TOOL["name"])]
    assert ours.find_tools("context") == []
    ours.delete_tool(tool_id)
    ours.delete_tool(tool_id)
    assert fake.workspace.agents[agent_id]["conversation_config"]["agent"]["prompt"]["tool_ids"] == []


def test_finds_nothing_that_was_not_searched_for(
    fake: FakeElevenLabs, ours: ElevenLabs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is found may be deleted: a filter that the provider does not know must not find everything."""
    answer = fake.answer
    monkeypatch.setattr(fake, "answer", lambda seen: answer(replace(seen, query={})))
    agent_id, tool_id = ours.create_agent(BODY), ours.create_tool(TOOL)
    ours.create_agent({**BODY, "tags": []})
    ours.create_tool({**TOOL, "name": "another"})

    assert ours.find_agents("one") == [agent_id]
    assert [tool.id for tool in ours.find_tools("switchhook_abc_")] == [tool_id]


def test_makes_a_webhook_that_retries(fake: FakeElevenLabs, ours: ElevenLabs) -> None:
    """Retries are off until it is updated; its secret is shown once and in no repr."""
    made = ours.create_webhook(name="Switchhook", url="https://relay.example.com/in")
    fake.workspace.webhooks[made.id]["is_auto_disabled"] = True

    (listed,) = ours.webhooks()
    assert (listed.id, listed.url, listed.is_off) == (made.id, "https://relay.example.com/in", True)
    ours.enable_webhook(made.id, name="Switchhook")
    stored = fake.workspace.webhooks[made.id]
    assert (stored["retry_enabled"], ours.webhooks()[0].is_off) == (True, False)
    assert made.secret == stored["secret"]
    assert made.secret not in repr(made)
    ours.delete_webhook(made.id)
    assert ours.webhooks() == []


def test_signs_a_url_for_a_conversation(ours: ElevenLabs) -> None:
    """One for each time it is asked for; an agent of nobody has none."""
    agent_id = ours.create_agent(BODY)

    first, second = ours.signed_url(agent_id), ours.signed_url(agent_id)
    assert first.startswith("wss://")
    assert first != second
    with pytest.raises(ProviderFailed) as caught:
        ours.signed_url("agent_gone")
    assert caught.value.provider_status == 404


def test_lists_conversations_without_what_was_said(fake: FakeElevenLabs, ours: ElevenLabs) -> None:
    """Ids, times and durations, page by page; the summary is not asked for and not kept."""
    agent_id, now = ours.create_agent(BODY), int(time.time())
    old = fake.add_conversation(agent_id, start_time_unix_secs=now - 500, cost=9, cost_fiat=0.31)
    new = [fake.add_conversation(agent_id, start_time_unix_secs=now) for _ in range(100)]
    fake.add_conversation("agent_other")

    page = ours.conversations(agent_id=agent_id)
    assert [one.call.conversation_id for one in page.conversations] == new
    rest = ours.conversations(agent_id=agent_id, cursor=page.next_cursor)
    assert ([one.call.conversation_id for one in rest.conversations], rest.next_cursor) == ([old], None)
    recent = ours.conversations(agent_id=agent_id, started_after=now - 100)
    assert {one.call.conversation_id for one in recent.conversations} == set(new)
    (oldest,) = ours.conversations(agent_id=agent_id, started_before=now - 100).conversations
    assert oldest.call.ending is not None
    assert (oldest.call.conversation_id, oldest.call.ending.provider_cost_usd) == (old, "0.31")
    assert (oldest.call.ending.duration_seconds, oldest.call.ending.provider_credits, oldest.is_over) == (
        "60",
        "9",
        True,
    )
    assert "what was said" not in repr(page)
    assert fake.requests[-1].query["summary_mode"] == ["exclude"]


def test_reads_a_conversation_as_bytes(fake: FakeElevenLabs, ours: ElevenLabs) -> None:
    """Undecoded: what it holds is content."""
    conversation_id = fake.add_conversation("agent_1")

    raw = ours.conversation(conversation_id)

    assert isinstance(raw, bytes)
    assert json.loads(raw)["conversation_id"] == conversation_id


def test_an_answer_in_another_form_is_refused_without_quoting_it(
    fake: FakeElevenLabs, ours: ElevenLabs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 200 without what was asked for is no success."""
    monkeypatch.setattr(fake, "answer", lambda _: (200, {"agent_id": 5, "secret": "the caller's own words"}))

    for ask in (lambda: ours.create_agent(BODY), ours.webhooks, lambda: ours.find_agents("x")):
        with pytest.raises(ProviderFailed, match="not documented") as caught:
            ask()
        assert caught.value.__context__ is None


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    """The official client's connections, which it leaves open."""
    with httpx.Client(trust_env=False) as http:
        yield http


def test_the_official_client_understands_the_fake(fake: FakeElevenLabs, http: httpx.Client) -> None:
    """What the fake answers is what the official package's models take."""
    official = Official(api_key=KEY, base_url=fake.url, httpx_client=http)
    agents, tools = official.conversational_ai.agents, official.conversational_ai.tools
    prompt = PromptAgentApiModelOutput(prompt="Ask.")
    made = agents.create(
        name="Intake", conversation_config=ConversationalConfig(agent=AgentConfig(prompt=prompt)), tags=["one"]
    )
    tool = tools.create(request=ToolRequestModel.model_validate({"tool_config": TOOL}))
    hook = official.webhooks.create(
        settings=WebhookHmacSettings(name="Switchhook", webhook_url="https://relay.example.com/in")
    )
    official.webhooks.update(hook.webhook_id, is_disabled=False, name="Switchhook", retry_enabled=True)
    conversation_id = fake.add_conversation(made.agent_id)

    agents.update(made.agent_id, name="Exit")
    assert agents.get(made.agent_id).name == "Exit"
    assert [one.agent_id for one in agents.list(tags=["one"]).agents] == [made.agent_id]
    assert [one.id for one in tools.list(search="switchhook_").tools] == [tool.id]
    assert [one.webhook_id for one in official.webhooks.list().webhooks] == [hook.webhook_id]
    assert fake.workspace.webhooks[hook.webhook_id]["secret"] == hook.webhook_secret
    conversations = official.conversational_ai.conversations
    assert conversations.get_signed_url(agent_id=made.agent_id).signed_url.startswith("wss://")
    assert [one.conversation_id for one in conversations.list().conversations] == [conversation_id]
    tools.delete(tool.id)
    agents.delete(made.agent_id)
    official.webhooks.delete(hook.webhook_id)
    workspace = fake.workspace
    assert (workspace.agents, workspace.tools, workspace.webhooks) == ({}, {}, {})


def test_the_official_client_is_refused_as_it_expects(fake: FakeElevenLabs, http: httpx.Client) -> None:
    """401 without a key that is known, 404 for an agent that is not."""
    with pytest.raises(ApiError) as caught:
        Official(api_key="wrong", base_url=fake.url, httpx_client=http).conversational_ai.agents.list()
    assert caught.value.status_code == 401
    with pytest.raises(ApiError) as caught:
        Official(api_key=KEY, base_url=fake.url, httpx_client=http).conversational_ai.agents.get("agent_gone")
    assert caught.value.status_code == 404
