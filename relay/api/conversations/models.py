"""What comes in and goes out of the conversations' paths: snake_case, as their clients know it."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import ConfigDict, Field, field_validator

from relay.agents.signed_urls import SIGNED_URL_SECONDS
from relay.agents.tools import SESSION_VARIABLE, client_tool_names
from relay.api.conversations.languages import LANGUAGES
from relay.api.conversations.tools import Tool, client_tool
from relay.api.core.fields import ShownMoment
from relay.api.core.models import Input, Output
from relay.errors import NotFound
from relay.store import shown
from relay.store.conversations import Conversation
from relay.store.sessions import SessionStatus
from relay.store.templates import Template

_ID: Final = re.compile(r"conv_([1-9][0-9]{0,15})")
_MAX_TOOLS: Final = 32
NOT_KEPT: Final = "What was said is delivered to your endpoints and kept nowhere, so that no turns can be listed."


class NewConversation(Input):
    """How a conversation is to be held."""

    model_config = ConfigDict(alias_generator=None)

    voice_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,100}$", examples=["JBFqnCBsd6RMkjVDRZzb"])]
    system_prompt: Annotated[str, Field(min_length=1, max_length=10_000, examples=["You are a friendly receptionist."])]
    language: Annotated[
        str,
        Field(
            pattern="^[a-z]{2}$",
            description="ISO 639-1.",
            json_schema_extra={"enum": sorted(LANGUAGES)},
        ),
    ] = "en"
    tools: Annotated[list[Tool], Field(max_length=_MAX_TOOLS)] = Field(default_factory=list)
    context_window: Annotated[
        int, Field(ge=1, le=1000, description="Kept and shown; ElevenLabs keeps the whole conversation in context.")
    ] = 50
    max_turns: Annotated[
        int | None, Field(ge=1, le=10_000, description="The agent is told to end the conversation after so many.")
    ] = None

    @field_validator("language")
    @classmethod
    def _is_language(cls, value: str) -> str:
        if value not in LANGUAGES:
            raise ValueError("must be a language of ISO 639-1")
        return value

    @field_validator("system_prompt")
    @classmethod
    def _says_something(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("must not be blank")
        return value

    @field_validator("tools")
    @classmethod
    def _are_told_apart(cls, value: list[Tool]) -> list[Tool]:
        if len({tool.name for tool in value}) < len(value):
            raise ValueError("each tool needs a name of its own")
        return value


class Configuration(Output):
    """A conversation's configuration as it was given."""

    model_config = ConfigDict(alias_generator=None)

    voice_id: str
    system_prompt: str
    language: str
    tools: list[dict[str, Any]]
    context_window: int
    max_turns: int | None


class ConversationView(Output):
    """A conversation. Times are UTC; `turn_count` is null until its provider has told it."""

    model_config = ConfigDict(alias_generator=None)

    session_id: Annotated[str, Field(examples=["conv_12"])]
    status: SessionStatus
    created_at: ShownMoment
    started_at: ShownMoment | None
    ended_at: ShownMoment | None
    deleted_at: ShownMoment | None
    configuration: Configuration
    agent_id: str | None
    turn_count: int | None
    turns: list[dict[str, Any]] = Field(max_length=0)
    turns_note: Annotated[str, Field(examples=[NOT_KEPT])]


class OpenedConversation(ConversationView):
    """A conversation that can be begun within 15 minutes: `signed_url` is a WebSocket of the provider."""

    signed_url: str
    expires_in: int
    dynamic_variables: dict[str, str]
    client_tools: Annotated[
        dict[str, str], Field(description="What each of the tools is called in the provider's client.")
    ]


def session_id_of(conversation_id: str) -> int:
    """The number again. Raises NotFound for what is no such id."""
    match = _ID.fullmatch(conversation_id)
    if match is None:
        raise NotFound("this account has no conversation by this id")
    return int(match[1])


def template_config(wanted: NewConversation) -> dict[str, Any]:
    """A conversation as a template's configuration, with what was given under `conversation`. Pure."""
    prompt = wanted.system_prompt
    if wanted.max_turns is not None:
        prompt += (
            f"\n\nYou may speak at most {wanted.max_turns} times in this conversation. "
            "When you speak for the last time, say goodbye and end the call."
        )
    return {
        "systemPrompt": prompt,
        "voiceId": wanted.voice_id,
        "language": wanted.language,
        "tools": [{"name": "end_call"}],
        "clientTools": [client_tool(tool) for tool in wanted.tools],
        "conversation": wanted.model_dump(mode="json", by_alias=True, exclude={"tools"})
        | {"tools": [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in wanted.tools]},
    }


def view(one: Conversation) -> ConversationView:
    """A conversation as it is shown."""
    return ConversationView(**_fields(one))


def opened(one: Conversation, template: Template, *, signed_url: str) -> OpenedConversation:
    """The same for who may begin it now."""
    return OpenedConversation(
        **_fields(one),
        signed_url=signed_url,
        expires_in=SIGNED_URL_SECONDS,
        dynamic_variables={SESSION_VARIABLE: str(one.session.id)},
        client_tools=client_tool_names(template),
    )


def _fields(one: Conversation) -> dict[str, Any]:
    return shown.conversation(one) | {"turns": [], "turns_note": NOT_KEPT}
