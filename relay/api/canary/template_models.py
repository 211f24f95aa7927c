"""Templates as CanaryLLM's clients write and read them (limits and defaults of CanaryLLM's OpenAPI), and our additions.

Everything that may be null may be left out as well. In a change null takes a value away, or back to its default.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, ValidationInfo, field_validator

from relay.agents.spec import BuiltInTool
from relay.agents.tools import OUR_TAGS
from relay.api.core.fields import Name, Secret, ShownMoment, Url, absent, left_out
from relay.api.core.models import Input, Output, Query
from relay.api.core.objects import keepable
from relay.api.core.pages import MOST, Cursor, Limit

Text100 = Annotated[str, Field(max_length=100)]
Text1000 = Annotated[str, Field(max_length=1000)]
Text2000 = Annotated[str, Field(max_length=2000)]
Prompt = Annotated[str, Field(min_length=1, max_length=10_000)]
Title = Annotated[str, Field(min_length=1, max_length=100)]
Code = Annotated[str, Field(min_length=1, max_length=100)]
TemplateType = Literal["interview", "conversation"]
Provider = Literal["elevenlabs", "retell", "agora"]
Hours = Annotated[int, Field(ge=0, le=720)]
Id = Annotated[str, Field(min_length=1, max_length=256)]


def _of_customer(tag: str) -> str:
    if tag.strip().lower().startswith(OUR_TAGS):
        raise ValueError(f"must not begin with {OUR_TAGS}")
    return tag


Tag = Annotated[Text100, AfterValidator(_of_customer)]


class VoiceSettings(Input):
    """How the voice speaks: a lower stability is more expressive."""

    stability: Annotated[float, Field(ge=0, le=1)] | None = None
    speed: Annotated[float, Field(ge=0.7, le=1.2)] | None = None
    similarity_boost: Annotated[float, Field(ge=0, le=1)] | None = None


class LanguagePreset(Input):
    """What differs in another language."""

    first_message: Text1000 | None = None


class Tool(Input):
    """A system tool of the agent. `params` are ElevenLabs' own: whom to transfer to, for the two that transfer."""

    name: BuiltInTool
    description: Annotated[str, Field(max_length=500)] | None = None
    params: Annotated[dict[str, Any], keepable(most_bytes=10_000)] | None = None


class Question(Input):
    """A question of an interview."""

    question: Annotated[str, Field(min_length=1, max_length=2000)]
    context: Text2000 | None = None
    is_required: bool | None = None


class Criterion(Input):
    """What makes a conversation a success, judged after it."""

    title: Title
    prompt: Annotated[str, Field(min_length=1, max_length=2000)]


class Collected(Input):
    """What is read from a conversation after it; `enum` are the only values of a string."""

    title: Title
    prompt: Annotated[str, Field(min_length=1, max_length=2000)]
    type: Literal["string", "boolean", "integer", "number"] | None = None
    enum: Annotated[list[Title], Field(min_length=1, max_length=50)] | None = None

    @field_validator("enum", mode="after")
    @classmethod
    def _of_a_string(cls, enum: list[str] | None, info: ValidationInfo) -> list[str] | None:
        if enum is not None and info.data.get("type") not in (None, "string"):
            raise ValueError("is for strings alone; leave it out, or have string as type")
        return enum


def _titled_apart(listed: list[Any]) -> list[Any]:
    if len({one.title for one in listed}) < len(listed):
        raise ValueError("each title can be given once")
    return listed


class TemplateSettings(Input):
    """All that may be null."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    description: Text2000 | None = None
    first_message: Text1000 | None = None
    """What the agent says first. Without it the caller begins."""
    voice_id: Text100 | None = None
    """The voice's id at the provider."""
    voice_model: Text100 | None = None
    """The model that speaks; without it the one that fits the language."""
    voice_settings: VoiceSettings | None = None
    language: Text100 | None = None
    """ISO 639-1, as in `en`."""
    language_presets: Annotated[dict[Code, LanguagePreset], Field(max_length=100)] | None = None
    """What differs in other languages, by their codes."""
    llm_provider: Literal["gemini", "vertex", "openai", "anthropic", "xai", "perplexity", "lmstudio"] | None = None
    """Needs `llmModel`."""
    llm_model: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    """Needs `llmProvider`."""
    client_webhook_url: Url | None = None
    """Where what happens in conversations is delivered: a public address."""
    webhook_secret: Secret | None = None
    """Proves deliveries to you, and the agent to us. Generated, and shown once, unless given."""
    max_duration_seconds: Annotated[int, Field(ge=30, le=3600)] | None = None
    """The agent ends the conversation then; 600 unless given."""
    tag: Tag | None = None
    """A tag of your own at the provider; it must not begin with `switchhook`."""
    questions: Annotated[list[Question], Field(max_length=50)] | None = None
    """What an interview asks; part of the agent's prompt."""
    tools: Annotated[list[Tool], Field(max_length=7)] | None = None
    """What the agent may do; `end_call` unless given."""
    relay_public_key: Annotated[str, Field(max_length=4096)] | None = None
    """Not built yet: must be null."""
    agent_id: Id | None = None
    """An agent of your own at the provider, which is left as it is. Without it one is made, and kept in step."""
    content_retention: Hours | None = None
    """For how many hours content may wait for your server; 0: one attempt."""
    delivery_headers: dict[str, str | None] | None = None
    """Headers for every delivery. Null keeps the value that a header has."""
    signing: Literal["standard", "provider"] | None = None
    """How deliveries are signed: Standard Webhooks, or the provider's own format."""
    deadline_seconds: Annotated[int, Field(ge=1, le=20)] | None = None
    """For one attempt in all; 15 unless given."""
    rate_card: Id | None = None
    """The id of a rate card; without it the account's card in force."""
    success_criteria: Annotated[list[Criterion], Field(max_length=50), AfterValidator(_titled_apart)] | None = None
    """What makes a conversation a success, judged after it."""
    data_collection: Annotated[list[Collected], Field(max_length=50), AfterValidator(_titled_apart)] | None = None
    """What is read from a conversation after it."""


class NewTemplate(TemplateSettings):
    """A template to be made."""

    name: Name
    type: TemplateType
    system_prompt: Prompt
    """Who the agent is and what it is to do."""
    provider: Provider = "elevenlabs"
    """Whose agents hold the conversations. `retell` needs `agentId`; at `agora` each session has an agent join."""


class TemplateChange(TemplateSettings):
    """A change of a template: what is left out stays. What cannot be changed may be sent back as it was read."""

    name: Name = absent()
    type: TemplateType = absent()
    system_prompt: Prompt = absent()
    id: Any = absent()
    provider: Any = absent()
    endpoint_id: Any = absent()
    sync_status: Any = absent()
    sync_code: Any = absent()
    warnings: Any = absent()
    created_at: Any = absent()
    updated_at: Any = absent()


class TemplateShown(Output):
    """A template. `syncStatus` says whether the provider has its voice agent as it is here, `syncCode` why not.

    Null in `deliveryHeaders` stands for a header's value, which is not shown. `warnings` tell what of the template the
    agent does not have.
    """

    id: int
    name: str
    type: TemplateType
    description: str | None
    system_prompt: str
    first_message: str | None
    voice_id: str | None
    voice_model: str | None
    voice_settings: dict[str, Any] | None
    language: str
    language_presets: dict[str, dict[str, Any]] | None
    llm_provider: str | None
    llm_model: str | None
    client_webhook_url: str | None
    max_duration_seconds: int
    tag: str | None
    questions: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    relay_public_key: None
    provider: str
    agent_id: str | None
    endpoint_id: str | None
    content_retention: int | None
    delivery_headers: dict[str, None] | None
    signing: str | None
    deadline_seconds: int | None
    rate_card: str | None
    success_criteria: list[dict[str, Any]]
    data_collection: list[dict[str, Any]]
    sync_status: Literal["pending", "synced", "failed"]
    sync_code: str | None
    warnings: list[str]
    created_at: ShownMoment
    updated_at: ShownMoment


class TemplateMade(TemplateShown):
    """A template, with the secrets that were generated for it: they are shown this once."""

    webhook_secret: str | None = left_out()
    signing_secret: str | None = left_out()


class TemplateRead(Output):
    """One template."""

    template: TemplateShown


class TemplateList(Output):
    """Templates, the oldest first; `nextCursor` is null on the last page."""

    success: Literal[True] = True
    data: list[TemplateShown]
    next_cursor: str | None


class TemplatesQuery(Query):
    """Which part of the list. A page ends sooner when its templates are large."""

    limit: Limit = MOST
    cursor: Cursor | None = None
