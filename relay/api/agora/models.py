"""Bodies and answers of Agora's API, as its documents and its Python package 2.12.0 describe them."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from relay.api.agora.properties import Closed, JoinProperties, Open, Text, checked_complete
from relay.api.core.models import Output, Query

_MAX_SPOKEN_BYTES: Final = 512
# The request of Agora's own document.
_JOIN_EXAMPLE: Final[dict[str, Any]] = {
    "name": "unique_name",
    "properties": {
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
    },
}


class JoinAgent(Open):
    """An agent that is to join a channel. Whatever a preset or a pipeline brings along may be left out."""

    model_config = ConfigDict(json_schema_extra={"examples": [_JOIN_EXAMPLE]})

    name: Annotated[str, Field(min_length=1, max_length=256)]
    preset: Text | None = None
    pipeline_id: Text | None = None
    properties: JoinProperties

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        checked_complete(self.properties, is_prepared=bool(self.preset or self.pipeline_id))
        return self


class UpdateProperties(Closed):
    """What can be changed of an agent: `params` replace those it has."""

    token: Text | None = None
    llm: dict[str, Any] | None = None
    mllm: dict[str, Any] | None = None


class UpdateAgent(Closed):
    """A change of an agent."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"properties": {"token": "another token"}}]})

    properties: UpdateProperties


class SpeakText(Closed):
    """What an agent is to say: at most 512 bytes of UTF-8."""

    text: Annotated[str, Field(min_length=1, max_length=_MAX_SPOKEN_BYTES)]
    priority: Literal["INTERRUPT", "APPEND", "IGNORE"] = "INTERRUPT"
    interruptable: bool = True

    @field_validator("text")
    @classmethod
    def _fits(cls, text: str) -> str:
        if len(text.encode("utf-8", "replace")) > _MAX_SPOKEN_BYTES:
            raise ValueError(f"must have at most {_MAX_SPOKEN_BYTES} bytes")
        return text


class AgentsQuery(Query):
    """Which agents to list. Times are Unix seconds; states are numbers, separated by commas."""

    model_config = ConfigDict(alias_generator=None)

    channel: Annotated[str, Field(min_length=1, max_length=64, description="In this channel.")] | None = None
    from_time: Annotated[float, Field(ge=0, le=253_402_300_799, description="Started since: Unix s.")] | None = None
    to_time: Annotated[float, Field(ge=0, le=253_402_300_799, description="Started until: Unix s.")] | None = None
    state: Annotated[
        str, Field(pattern="^[0-6](,[0-6]){0,6}$", description="In these states: numbers, separated by commas.")
    ] = "2"
    limit: Annotated[int, Field(ge=1, le=100, description="At most so many.")] = 20
    cursor: Annotated[str, Field(max_length=256, description="`meta.cursor` of the page before.")] | None = None


class Said(Output):
    """What goes out, in Agora's names."""

    model_config = ConfigDict(alias_generator=None)


class AgentStarted(Said):
    """An agent; `create_ts` is Unix seconds."""

    agent_id: str
    create_ts: int
    status: str


class AgentTold(Said):
    """An agent that was told something; `start_ts` is Unix seconds."""

    agent_id: str
    channel: str
    start_ts: int


class AgentState(Said):
    """How an agent is. Times are Unix seconds, null where it has not begun or ended."""

    agent_id: str
    name: str
    status: str
    message: str
    start_ts: int | None
    stop_ts: int | None


class ListedAgent(Said):
    """One agent of a list; `start_ts` is Unix seconds."""

    start_ts: int
    status: str
    agent_id: str


class ListedAgents(Said):
    """The agents of one page."""

    count: int
    list: tuple[ListedAgent, ...]


class ListMeta(Said):
    """Where the next page begins (empty: nowhere), and how many agents there are in all."""

    cursor: str
    total: int


class AgentList(Said):
    """A page of agents, newest first."""

    data: ListedAgents
    meta: ListMeta
    status: Literal["ok"] = "ok"
