"""What ElevenLabs should have of a template: the body of its agent. Pure.

A template's `config` is what the customer wrote, in the API's own names:

    systemPrompt firstMessage language languagePresets{code:{firstMessage}} voiceId voiceModel
    voiceSettings{stability speed similarityBoost} llmProvider llmModel maxDurationSeconds tag
    questions[{question context? isRequired?}] tools[{name description? params?}]
    successCriteria[{title prompt}] dataCollection[{title prompt type? enum?}]
    clientTools[{name description parameters? ...}]

All are optional here. `params` of a tool, `clientTools` and the types of `dataCollection` (string, boolean, integer,
number) are ElevenLabs' own. Shapes of the result: official Python package 2.78, `conversational_ai.agents.create`.
Everything whose default ElevenLabs documents is written out, so that a field that was taken away goes back to it;
voice, voice model and language model have none: once set, they stay until another is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, Literal, get_args

from relay.agents.tools import SESSION_VARIABLE, session_placeholder
from relay.store.templates import Template

BuiltInTool = Literal[
    "end_call",
    "language_detection",
    "transfer_to_agent",
    "transfer_to_number",
    "skip_turn",
    "play_keypad_touch_tone",
    "voicemail_detection",
]
BUILT_IN_TOOLS: Final[tuple[BuiltInTool, ...]] = get_args(BuiltInTool)
# These do nothing without somebody to transfer to, and ElevenLabs refuses them without `params.transfers`.
_TRANSFERS: Final = ("transfer_to_agent", "transfer_to_number")
_DEFAULT_TOOLS: Final = ({"name": "end_call"},)
# ElevenLabs refuses an English agent on a multilingual model and any other on an English one.
_ENGLISH_MODEL: Final = "eleven_flash_v2"
_MULTILINGUAL_MODEL: Final = "eleven_flash_v2_5"
_DAY: Final = timedelta(days=1)

Json = dict[str, Any]


def agent(template: Template, *, marker: str, webhook_id: str, tool_ids: Sequence[str], retention: timedelta) -> Json:
    """The body that makes or changes the agent.

    `marker` is the tag that says whose it is; `retention` is how long content is kept unless the template says.
    """
    config = template.config
    tag = config.get("tag")
    placeholders = {SESSION_VARIABLE: session_placeholder(template)}
    return {
        "name": template.name,
        "conversation_config": {
            "agent": {
                "first_message": config.get("firstMessage") or "",
                "language": _language(config),
                "prompt": _prompt(template, tool_ids),
                "dynamic_variables": {"dynamic_variable_placeholders": placeholders},
            },
            "tts": _voice(config),
            "conversation": {"max_duration_seconds": config.get("maxDurationSeconds") or 600},
            "language_presets": _language_presets(config),
        },
        "platform_settings": {
            # Nobody speaks with it who has no signed URL.
            "auth": {"enable_auth": True},
            "privacy": _privacy(template, retention),
            "evaluation": {"criteria": _criteria(config)},
            "data_collection": _data_collection(config),
            # For sessions that are text only: the client says so when it begins.
            "overrides": {"conversation_config_override": {"conversation": {"text_only": True}}},
            "workspace_overrides": {
                "webhooks": {
                    "post_call_webhook_id": webhook_id,
                    "events": ["transcript"],
                    "transcript_format": "json",
                    "exclude_transcript": False,
                }
            },
        },
        "tags": [marker, *([tag] if tag else [])],
    }


def warnings(config: Mapping[str, Any]) -> tuple[str, ...]:
    """What the customer wrote that the agent will not have, and why."""
    return tuple(
        f"tools: {tool['name']} is left out because it has no params.transfers: say whom to transfer to"
        for tool in _listed_tools(config)
        if _is_empty_transfer(tool)
    )


def _prompt(template: Template, tool_ids: Sequence[str]) -> Json:
    config = template.config
    # All seven, so that one that was taken off the list is taken from the agent.
    built_in: dict[str, Json | None] = dict.fromkeys(BUILT_IN_TOOLS)
    for tool in _listed_tools(config):
        if not _is_empty_transfer(tool):
            built_in[tool["name"]] = _built_in(tool)
    prompt: Json = {"prompt": script(template), "tool_ids": list(tool_ids), "built_in_tools": built_in}
    # ElevenLabs names models without their makers, and in the makers' own words: llmProvider is implied.
    return prompt | _given(llm=config.get("llmModel"))


def _built_in(tool: Mapping[str, Any]) -> Json:
    params = {**(tool.get("params") or {}), "system_tool_type": tool["name"]}
    # Without a description ElevenLabs uses one of its own, made for the tool.
    return {"type": "system", "name": tool["name"], "description": tool.get("description") or "", "params": params}


def _listed_tools(config: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    listed = config.get("tools")
    return _DEFAULT_TOOLS if listed is None else listed


def _is_empty_transfer(tool: Mapping[str, Any]) -> bool:
    return tool["name"] in _TRANSFERS and not (tool.get("params") or {}).get("transfers")


def script(template: Template) -> str:
    """The system prompt; an interview's questions follow it as a numbered list."""
    written: str = template.config.get("systemPrompt") or ""
    questions = template.config.get("questions") or []
    if template.type != "interview" or not questions:
        return written
    lines = [
        "# Questions",
        "Ask the following questions in this order, one at a time. Wait for the answer before you go on.",
    ]
    for number, one in enumerate(questions, start=1):
        required = " (required)" if one.get("isRequired") else ""
        lines.append(f"{number}. {one['question']}{required}")
        if one.get("context"):
            lines.append(f"   Context: {one['context']}")
    if any(one.get("isRequired") for one in questions):
        lines.append(
            "Do not end the conversation before each question that is marked as required has been answered, or the "
            "person has refused to answer it. The others may be left out when they do not fit."
        )
    return "\n".join([written, "", *lines] if written else lines)


def _language(config: Mapping[str, Any]) -> str:
    return config.get("language") or "en"


def _language_presets(config: Mapping[str, Any]) -> Json:
    presets = config.get("languagePresets") or {}
    return {
        code: {"overrides": {"agent": _given(first_message=(preset or {}).get("firstMessage"))}}
        for code, preset in presets.items()
    }


def _voice(config: Mapping[str, Any]) -> Json:
    settings = config.get("voiceSettings") or {}
    is_english = _language(config).lower().partition("-")[0] == "en"
    return {
        "model_id": config.get("voiceModel") or (_ENGLISH_MODEL if is_english else _MULTILINGUAL_MODEL),
        "stability": _or(settings.get("stability"), 0.5),
        "speed": _or(settings.get("speed"), 1.0),
        "similarity_boost": _or(settings.get("similarityBoost"), 0.8),
        **_given(voice_id=config.get("voiceId")),
    }


def _privacy(template: Template, retention: timedelta) -> Json:
    """No recording, and the transcript for as long as we would keep it, so that what was lost can be fetched again.

    A template that wants nothing kept gets 0, which is deletion at once. Zero retention mode is left as it is: it is
    for enterprise workspaces alone, and some are bound to it.
    """
    hours = template.content_retention_hours
    kept = retention if hours is None else timedelta(hours=hours)
    return {
        "record_voice": False,
        "retention_days": math.ceil(kept / _DAY),
        "delete_transcript_and_pii": True,
        "delete_audio": True,
    }


def _criteria(config: Mapping[str, Any]) -> list[Json]:
    return [
        {"id": one["title"], "name": one["title"], "type": "prompt", "conversation_goal_prompt": one["prompt"]}
        for one in config.get("successCriteria") or []
    ]


def _data_collection(config: Mapping[str, Any]) -> Json:
    return {
        one["title"]: {
            "type": one.get("type") or "string",
            "description": one["prompt"],
            **_given(enum=one.get("enum")),
        }
        for one in config.get("dataCollection") or []
    }


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _given(**fields: Any) -> Json:
    return {name: value for name, value in fields.items() if value is not None}
