"""What ElevenLabs should have of a template: a row for each field, and the whole read by the official package."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
import pytest
from elevenlabs.core.unchecked_base_model import construct_type
from elevenlabs.types import (
    AgentPlatformSettingsRequestModel,
    ConversationalConfig,
    LanguagePresetInput,
    PromptAgentApiModelInput,
    ToolRequestModel,
    TtsConversationalConfigInput,
)
from pydantic import BaseModel

from relay.agents import spec
from relay.agents.tools import client_tool_names, markers, tool_prefix, tools
from relay.providers import canaryllm
from relay.sealing import KeyRing
from relay.store.templates import Template

NOW: Final = datetime(2026, 11, 20, tzinfo=UTC)
FOUR_DAYS: Final = timedelta(hours=96)
PREFIX: Final = "switchhook_uae5ynv5blexuf44_"

EVERYTHING: Final[dict[str, Any]] = {
    "systemPrompt": "You are a friendly interviewer.",
    "firstMessage": "Hello! Thank you for joining.",
    "language": "es",
    "languagePresets": {"en": {"firstMessage": "Welcome."}, "fr": {}},
    "voiceId": "JBFqnCBsd6RMkjVDRZzb",
    "voiceModel": "eleven_turbo_v2_5",
    "voiceSettings": {"stability": 0.3, "speed": 1.1, "similarityBoost": 0.0},
    "llmProvider": "anthropic",
    "llmModel": "claude-sonnet-4-5",
    "maxDurationSeconds": 900,
    "tag": "my_project",
    "questions": [{"question": "How did you hear of us?", "isRequired": True}],
    "tools": [
        {"name": "end_call", "description": "When all is said."},
        {"name": "language_detection", "params": {"only_at_conversation_start": True}},
        {"name": "skip_turn"},
        {"name": "play_keypad_touch_tone"},
        {"name": "voicemail_detection", "params": {"voicemail_message": "We call again."}},
        {"name": "transfer_to_agent", "params": {"transfers": [{"agent_id": "agent_2", "condition": "sales"}]}},
        {
            "name": "transfer_to_number",
            "params": {
                "transfers": [
                    {"transfer_destination": {"type": "phone", "phone_number": "+15550100"}, "condition": "a person"}
                ]
            },
        },
    ],
    "successCriteria": [{"title": "pleasant", "prompt": "The user did not react negatively."}],
    "dataCollection": [
        {"title": "call_type", "prompt": "What it was about.", "enum": ["bug", "feature"]},
        {"title": "rating", "prompt": "From 1 to 5.", "type": "integer"},
    ],
}


def _template(config: dict[str, Any] | None = None, **fields: Any) -> Template:
    values: dict[str, Any] = dict.fromkeys(Template.__dataclass_fields__)
    values |= {"id": 7, "account_id": "acc_1", "name": "Intake", "type": "interview", "provider": "elevenlabs"}
    values |= {"client_webhook_url": "https://customer.example.com/hook", "webhook_secret": "the-secret"}
    values |= {"created_at": NOW, "updated_at": NOW, "hidden": False, "config": config or {}}
    return Template(**values | fields)


def _agent(config: dict[str, Any] | None = None, **fields: Any) -> spec.Json:
    template = _template(config, **fields)
    return spec.agent(template, marker="switchhook:1", webhook_id="webhook_1", tool_ids=["tool_1"], retention=FOUR_DAYS)


def _at(body: spec.Json, path: str) -> Any:
    found: Any = body
    for name in path.split("."):
        found = found[name]
    return found


AGENT: Final = "conversation_config.agent"
TTS: Final = "conversation_config.tts"
PLATFORM: Final = "platform_settings"


@pytest.mark.parametrize(
    ("config", "path", "value"),
    [
        ({}, "name", "Intake"),
        ({}, "tags", ["switchhook:1"]),
        ({"tag": "pilot"}, "tags", ["switchhook:1", "pilot"]),
        ({"systemPrompt": "Ask."}, f"{AGENT}.prompt.prompt", "Ask."),
        ({"firstMessage": "Hello."}, f"{AGENT}.first_message", "Hello."),
        # What was taken away goes back to its default.
        ({}, f"{AGENT}.first_message", ""),
        ({}, f"{AGENT}.language", "en"),
        ({"language": "es"}, f"{AGENT}.language", "es"),
        # A client that passes no session can begin all the same.
        ({}, f"{AGENT}.dynamic_variables", {"dynamic_variable_placeholders": {"canary_session_id": "0"}}),
        ({"llmProvider": "openai", "llmModel": "gpt-5"}, f"{AGENT}.prompt.llm", "gpt-5"),
        ({}, f"{AGENT}.prompt.tool_ids", ["tool_1"]),
        ({"voiceId": "voice_1"}, f"{TTS}.voice_id", "voice_1"),
        ({"voiceSettings": {"stability": 0.0}}, f"{TTS}.stability", 0.0),
        ({}, f"{TTS}.stability", 0.5),
        ({"voiceSettings": {"speed": 0.7}}, f"{TTS}.speed", 0.7),
        ({}, f"{TTS}.speed", 1.0),
        ({"voiceSettings": {"similarityBoost": 0.0}}, f"{TTS}.similarity_boost", 0.0),
        ({}, f"{TTS}.similarity_boost", 0.8),
        # English agents are refused on multilingual models, and the others on English ones.
        ({}, f"{TTS}.model_id", "eleven_flash_v2"),
        ({"language": "en-GB"}, f"{TTS}.model_id", "eleven_flash_v2"),
        ({"language": "pt-br"}, f"{TTS}.model_id", "eleven_flash_v2_5"),
        ({"language": "es", "voiceModel": "eleven_v4"}, f"{TTS}.model_id", "eleven_v4"),
        ({"maxDurationSeconds": 30}, "conversation_config.conversation.max_duration_seconds", 30),
        ({}, "conversation_config.conversation.max_duration_seconds", 600),
        (
            {"languagePresets": {"fr": {"firstMessage": "Bonjour."}, "de": {}}},
            "conversation_config.language_presets",
            {"fr": {"overrides": {"agent": {"first_message": "Bonjour."}}}, "de": {"overrides": {"agent": {}}}},
        ),
        ({}, "conversation_config.language_presets", {}),
        ({}, f"{PLATFORM}.auth.enable_auth", True),
        ({}, f"{PLATFORM}.workspace_overrides.webhooks.post_call_webhook_id", "webhook_1"),
        ({}, f"{PLATFORM}.workspace_overrides.webhooks.events", ["transcript"]),
        (
            {"successCriteria": [{"title": "handled", "prompt": "All was answered."}]},
            f"{PLATFORM}.evaluation.criteria",
            [{"id": "handled", "name": "handled", "type": "prompt", "conversation_goal_prompt": "All was answered."}],
        ),
        (
            {"dataCollection": [{"title": "topic", "prompt": "One word."}]},
            f"{PLATFORM}.data_collection",
            {"topic": {"type": "string", "description": "One word."}},
        ),
    ],
)
def test_every_field_has_its_place(config: dict[str, Any], path: str, value: Any) -> None:
    """A row for each field of a template, and one for its default where ElevenLabs documents it."""
    assert _at(_agent(config), path) == value


@pytest.mark.parametrize("path", [f"{AGENT}.prompt.llm", f"{TTS}.voice_id"])
def test_what_has_no_known_default_is_left_out(path: str) -> None:
    """ElevenLabs chooses, or keeps what it has."""
    parent, _, name = path.rpartition(".")
    assert name not in _at(_agent(), parent)


@pytest.mark.parametrize(("hours", "days"), [(None, 4), (0, 0), (1, 1), (24, 1), (25, 2), (720, 30)])
def test_the_provider_keeps_a_transcript_no_longer_than_we_would(hours: int | None, days: int) -> None:
    """So long it can be fetched again. Nothing is recorded."""
    assert _at(_agent(content_retention_hours=hours), f"{PLATFORM}.privacy") == {
        "record_voice": False,
        "retention_days": days,
        "delete_transcript_and_pii": True,
        "delete_audio": True,
    }


def test_an_interview_follows_its_questions() -> None:
    """Numbered, the required ones marked, with their context."""
    questions = [
        {"question": "How did you hear of us?", "isRequired": True},
        {"question": "What do you use most?", "context": "Focus on daily usage."},
        {"question": "Any suggestions?", "isRequired": False},
    ]

    prompt = _at(_agent({"systemPrompt": "Be kind.", "questions": questions}), f"{AGENT}.prompt.prompt")

    last = (
        "Do not end the conversation before each question that is marked as required has been answered, or the person "
        "has refused to answer it. The others may be left out when they do not fit."
    )
    assert prompt.splitlines() == [
        "Be kind.",
        "",
        "# Questions",
        "Ask the following questions in this order, one at a time. Wait for the answer before you go on.",
        "1. How did you hear of us? (required)",
        "2. What do you use most?",
        "   Context: Focus on daily usage.",
        "3. Any suggestions?",
        last,
    ]


@pytest.mark.parametrize(
    ("kind", "questions"), [("conversation", [{"question": "Why?"}]), ("interview", []), ("interview", None)]
)
def test_other_prompts_are_as_they_were_written(kind: str, questions: Any) -> None:
    """A conversation has no questions."""
    body = _agent({"systemPrompt": "Be kind.", "questions": questions}, type=kind)

    assert _at(body, f"{AGENT}.prompt.prompt") == "Be kind."


@pytest.mark.parametrize(
    ("listed", "has"),
    [
        (None, {"end_call"}),
        ([], set()),
        ([{"name": "skip_turn"}, {"name": "voicemail_detection"}], {"skip_turn", "voicemail_detection"}),
        # Nobody to transfer to: ElevenLabs would refuse the whole agent.
        ([{"name": "transfer_to_agent"}, {"name": "transfer_to_number", "params": {"transfers": []}}], set()),
    ],
)
def test_the_agent_has_the_tools_that_are_listed(listed: Any, has: set[str]) -> None:
    """All seven are named, so that those that were taken off the list are taken from the agent."""
    built_in = _at(_agent({"tools": listed}), f"{AGENT}.prompt.built_in_tools")

    assert list(built_in) == list(spec.BUILT_IN_TOOLS)
    assert {name for name, tool in built_in.items() if tool} == has


def test_a_tool_has_its_description_and_parameters() -> None:
    """Under ElevenLabs' names; the kind is not the customer's to say."""
    params = {"wait_timeout_secs": 5, "system_tool_type": "end_call"}

    built_in = _at(
        _agent({"tools": [{"name": "skip_turn", "description": "To think.", "params": params}]}),
        f"{AGENT}.prompt.built_in_tools",
    )

    assert built_in["skip_turn"] == {
        "type": "system",
        "name": "skip_turn",
        "description": "To think.",
        "params": {"wait_timeout_secs": 5, "system_tool_type": "skip_turn"},
    }


def test_warns_of_a_transfer_to_nobody() -> None:
    """The template is taken as it is, and says what the agent will not have."""
    (warning,) = spec.warnings({"tools": [{"name": "end_call"}, {"name": "transfer_to_agent"}]})

    assert "transfer_to_agent" in warning
    assert spec.warnings(EVERYTHING) == spec.warnings({}) == ()


def test_mid_call_tools_come_to_our_routes_with_the_secret() -> None:
    """What they send names the session, the conversation, the agent and the template, bound and not guessed."""
    context, event = tools(_template(), public_url="https://relay.example.com")

    assert [context["name"], event["name"]] == [f"{PREFIX}context", f"{PREFIX}event"]
    for tool, route in ((context, "context"), (event, "event")):
        schema = tool["api_schema"]
        assert schema["url"] == f"https://relay.example.com/api/convagents/webhook/{route}"
        assert (schema["method"], schema["request_headers"]) == ("POST", {"X-Webhook-Secret": "the-secret"})
        sent = schema["request_body_schema"]["properties"]
        assert sent["sessionId"]["dynamic_variable"] == "canary_session_id"
        assert sent["conversationId"]["dynamic_variable"] == "system__conversation_id"
        assert sent["agentId"]["dynamic_variable"] == "system__agent_id"
        assert sent["templateId"]["constant_value"] == 7


@pytest.mark.parametrize(("session", "hint"), [("12", 12), ("0", None)])
def test_the_ingress_reads_what_the_tools_send(session: str, hint: int | None) -> None:
    """Without a session the conversation's id takes its place."""
    (_, event) = tools(_template(), public_url="https://relay.example.com")
    values = {"sessionId": session, "conversationId": "conv_1", "agentId": "agent_1", "templateId": 7, "name": "done"}
    sent = {name: values.get(name, "text") for name in event["api_schema"]["request_body_schema"]["properties"]}

    read = canaryllm.read(msgspec.json.encode(sent), route="event", idempotency_key=None)

    assert (read.call.session_hint, read.call.conversation_id, read.call.agent_id) == (hint, "conv_1", "agent_1")
    assert read.template_id == 7


def test_an_agent_with_nobody_to_tell_has_no_such_tools() -> None:
    """Without a URL there is nothing to relay to."""
    assert tools(_template(client_webhook_url=None), public_url="https://relay.example.com") == []


def test_a_template_is_known_by_its_account_and_number() -> None:
    """Neither numbers alone nor accounts alone: several installations may share a workspace."""
    ring = KeyRing("k" * 32)
    ids = [(account, number) for account in ("a", "b") for number in (1, 2)]
    names = {(markers(ring, *one)[0], tool_prefix(*one)) for one in ids}

    assert len({tag for tag, _ in names}) == len({prefix for _, prefix in names}) == 4
    assert all(len(prefix) == len(PREFIX) for _, prefix in names)


@pytest.mark.parametrize("config", [EVERYTHING, {}], ids=["everything", "nothing"])
def test_the_official_package_knows_every_field(config: dict[str, Any]) -> None:
    """Its models take the whole body, and nothing of it is left over as unknown."""
    body = _agent(config)
    conversation = body["conversation_config"]

    prompt, presets = conversation["agent"].pop("prompt"), conversation.pop("language_presets")
    _known(PromptAgentApiModelInput, prompt)
    for preset in presets.values():
        _known(LanguagePresetInput, preset)
    _known(TtsConversationalConfigInput, conversation["tts"])
    _known(ConversationalConfig, conversation)
    _known(AgentPlatformSettingsRequestModel, body["platform_settings"])
    for tool in tools(_template(config), public_url="https://relay.example.com"):
        _known(ToolRequestModel, {"tool_config": tool})


def _known(model: type[BaseModel], value: Any) -> None:
    """The value has the types and only the fields of the model."""
    model.model_validate(value)  # strict about types
    unknown = list(_unknown(construct_type(type_=model, object_=value), model.__name__))
    assert not unknown


def _unknown(value: Any, path: str) -> Any:
    if isinstance(value, BaseModel):
        yield from (f"{path}.{name}" for name in value.model_extra or {})
        for name in type(value).model_fields:
            yield from _unknown(getattr(value, name), f"{path}.{name}")
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from _unknown(part, f"{path}.{name}")
    elif isinstance(value, list):
        for part in value:
            yield from _unknown(part, path)


def test_an_unknown_field_would_be_noticed() -> None:
    """The check above can fail."""
    body = _agent(EVERYTHING)
    body["platform_settings"]["privacy"]["retention_weeks"] = 1

    with pytest.raises(AssertionError, match="retention_weeks"):
        _known(AgentPlatformSettingsRequestModel, body["platform_settings"])


def test_client_tools_have_names_of_the_template() -> None:
    """So that they are found again, as the others are."""
    template = _template({"clientTools": [{"name": "open_page"}]}, client_webhook_url=None)

    assert client_tool_names(template) == {"open_page": f"{PREFIX}open_page"}
    assert [tool["name"] for tool in tools(template, public_url="https://x")] == [f"{PREFIX}open_page"]
