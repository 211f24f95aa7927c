"""ElevenLabs' REST API: agents, their tools, workspace webhooks, signed URLs and conversations.

Paths, parameters and shapes: the official Python package 2.78 (api.elevenlabs.io). Every method raises
ProviderUnavailable and ProviderFailed as `Rest` does; after ProviderUnavailable from a `create_...` it is not known
whether something was made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, TypeVar

import msgspec

from relay.errors import ProviderFailed
from relay.providers import elevenlabs
from relay.providers.records import CallRecord, records
from relay.providers.rest.client import Params, Rest, segment
from relay.settings import ProviderAccess

_AGENTS: Final = "/v1/convai/agents"
_TOOLS: Final = "/v1/convai/tools"
_WEBHOOKS: Final = "/v1/workspace/webhooks"
_CONVERSATIONS: Final = "/v1/convai/conversations"
_SIGNED_URL: Final = "/v1/convai/conversation/get-signed-url"
# The most that a page may have.
_PAGE_SIZE: Final = 100
# A search that is answered with more is not one: the provider has ignored what was asked for.
_MAX_PAGES: Final = 50

Body = Mapping[str, Any]
Id = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
T = TypeVar("T")
P = TypeVar("P", bound="_Page")


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook of the workspace. `is_off` whether somebody or ElevenLabs itself has disabled it."""

    id: str
    url: str = field(repr=False)
    is_off: bool


@dataclass(frozen=True, slots=True)
class NewWebhook:
    """A webhook on the one occasion when its signing secret can be read."""

    id: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool of the workspace that agents may be given."""

    id: str
    name: str


class Conversations(msgspec.Struct, frozen=True):
    """One page: of each conversation what may be kept, nothing of what was said; `next_cursor` None on the last."""

    conversations: tuple[CallRecord, ...]
    next_cursor: str | None = None


class ElevenLabs:
    """Everything of one workspace, which is what the API key opens."""

    def __init__(self, access: ProviderAccess) -> None:
        self._rest = Rest(access.base_url, headers={"xi-api-key": access.api_key})

    def create_agent(self, body: Body) -> str:
        """Make an agent; its id."""
        return _read(self._rest.call("POST", f"{_AGENTS}/create", json=body), _NewAgent).agent_id

    def has_agent(self, agent_id: str) -> bool:
        """Whether there is an agent by this id."""
        try:
            self._rest.fetch("GET", f"{_AGENTS}/{segment(agent_id)}")
        except ProviderFailed as error:
            if error.provider_status != 404:
                raise
            return False
        return True

    def update_agent(self, agent_id: str, body: Body) -> None:
        """Change what the body names; ProviderFailed with `provider_status` 404 if it is gone."""
        self._rest.fetch("PATCH", f"{_AGENTS}/{segment(agent_id)}", json=body)

    def delete_agent(self, agent_id: str) -> None:
        """Delete an agent. One that is gone already is as good."""
        self._delete(f"{_AGENTS}/{segment(agent_id)}")

    def find_agents(self, tag: str) -> list[str]:
        """The ids of the agents that have this tag."""
        pages = self._pages(_AGENTS, {"tags": tag}, _AgentPage)
        return [agent.agent_id for page in pages for agent in page.agents if tag in agent.tags]

    def create_tool(self, config: Body) -> str:
        """Make a tool; its id."""
        return _read(self._rest.call("POST", _TOOLS, json={"tool_config": config}), _NewTool).id

    def update_tool(self, tool_id: str, config: Body) -> None:
        """Replace a tool's configuration."""
        self._rest.fetch("PATCH", f"{_TOOLS}/{segment(tool_id)}", json={"tool_config": config})

    def delete_tool(self, tool_id: str) -> None:
        """Delete a tool, and take it from the agents that have it. One that is gone already is as good."""
        self._delete(f"{_TOOLS}/{segment(tool_id)}", params={"force": "true"})

    def find_tools(self, prefix: str) -> list[Tool]:
        """The tools whose names begin like this."""
        pages = self._pages(_TOOLS, {"search": prefix}, _ToolPage)
        tools = (Tool(one.id, one.tool_config.name) for page in pages for one in page.tools)
        return [tool for tool in tools if tool.name.startswith(prefix)]

    def webhooks(self) -> list[Webhook]:
        """The webhooks of the workspace."""
        listed = _read(self._rest.call("GET", _WEBHOOKS), _WebhookList).webhooks
        return [Webhook(one.webhook_id, one.webhook_url, one.is_disabled or one.is_auto_disabled) for one in listed]

    def create_webhook(self, *, name: str, url: str) -> NewWebhook:
        """Make a webhook that signs with HMAC. It does not retry until it is updated."""
        settings = {"auth_type": "hmac", "name": name, "webhook_url": url}
        made = _read(self._rest.call("POST", _WEBHOOKS, json={"settings": settings}), _NewWebhook)
        return NewWebhook(made.webhook_id, made.webhook_secret)

    def enable_webhook(self, webhook_id: str, *, name: str) -> None:
        """Switch a webhook on, and its retries after 5xx, 429 and timeouts, which are off by default."""
        body = {"is_disabled": False, "name": name, "retry_enabled": True}
        self._rest.fetch("PATCH", f"{_WEBHOOKS}/{segment(webhook_id)}", json=body)

    def delete_webhook(self, webhook_id: str) -> None:
        """Delete a webhook. One that is gone already is as good."""
        self._delete(f"{_WEBHOOKS}/{segment(webhook_id)}")

    def signed_url(self, agent_id: str) -> str:
        """A URL that opens one conversation with this agent within 15 minutes. It is a secret until then."""
        answer = self._rest.call("GET", _SIGNED_URL, params={"agent_id": agent_id})
        return _read(answer, _SignedUrl).signed_url

    def conversation(self, conversation_id: str) -> bytes:
        """A conversation as JSON, with all that was said: the caller has to hold it as Content at once."""
        return self._rest.fetch("GET", f"{_CONVERSATIONS}/{segment(conversation_id)}")

    def conversations(
        self,
        *,
        agent_id: str | None = None,
        cursor: str | None = None,
        started_after: int | None = None,
        started_before: int | None = None,
    ) -> Conversations:
        """A page of conversations, the newest first; `started_after` and `started_before` in Unix seconds.

        Whether these two themselves are within is not documented. A conversation that cannot be read is left out.
        """
        asked: dict[str, str | int | None] = {
            "agent_id": agent_id,
            "cursor": cursor,
            "call_start_after_unix": started_after,
            "call_start_before_unix": started_before,
            "page_size": _PAGE_SIZE,
            "summary_mode": "exclude",
        }
        params = {name: value for name, value in asked.items() if value is not None}
        page = _decoded(self._rest.fetch("GET", _CONVERSATIONS, params=params), _ConversationPage)
        found = records(page.conversations, elevenlabs.summary)
        return Conversations(found, page.next_cursor if page.has_more else None)

    def _delete(self, path: str, *, params: Params | None = None) -> None:
        try:
            self._rest.fetch("DELETE", path, params=params)
        except ProviderFailed as error:
            if error.provider_status != 404:
                raise

    def _pages(self, path: str, params: Params, kind: type[P]) -> Iterator[P]:
        cursor: dict[str, str] = {}
        for _ in range(_MAX_PAGES):
            asked = {**params, "page_size": _PAGE_SIZE, **cursor}
            page = _read(self._rest.call("GET", path, params=asked), kind)
            yield page
            if not (page.has_more and page.next_cursor):
                return
            cursor = {"cursor": page.next_cursor}
        raise ProviderFailed("the provider's API answered a search with more than it can have found")


class _NewAgent(msgspec.Struct):
    agent_id: Id


class _NewTool(msgspec.Struct):
    id: Id


class _NewWebhook(msgspec.Struct):
    webhook_id: Id
    webhook_secret: Id

    def __repr__(self) -> str:
        return "<_NewWebhook>"


class _SignedUrl(msgspec.Struct):
    signed_url: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]

    def __repr__(self) -> str:
        return "<_SignedUrl>"


class _Agent(msgspec.Struct):
    agent_id: Id
    tags: list[str] = []


class _Page(msgspec.Struct, kw_only=True):
    has_more: bool = False
    next_cursor: str | None = None


class _AgentPage(_Page, kw_only=True):
    agents: list[_Agent]


class _ConversationPage(_Page, kw_only=True):
    conversations: tuple[msgspec.Raw, ...]

    def __repr__(self) -> str:
        return "<_ConversationPage>"


class _ToolConfig(msgspec.Struct):
    name: str = ""


class _Tool(msgspec.Struct):
    id: Id
    tool_config: _ToolConfig


class _ToolPage(_Page, kw_only=True):
    tools: list[_Tool]


class _Webhook(msgspec.Struct):
    webhook_id: Id
    webhook_url: str
    is_disabled: bool = False
    is_auto_disabled: bool = False


class _WebhookList(msgspec.Struct):
    webhooks: list[_Webhook]


def _read(answer: Any, kind: type[T]) -> T:
    """The answer's fields that are ours. Raises ProviderFailed without the answer's own words."""
    with suppress(msgspec.ValidationError):
        return msgspec.convert(answer, type=kind)
    raise ProviderFailed("the provider's API answered in a form that is not documented")


def _decoded(body: bytes, kind: type[T]) -> T:
    """The same of an answer whose numbers must not become floats."""
    with suppress(msgspec.MsgspecError, ValueError, RecursionError):
        return msgspec.json.decode(body, type=kind)
    raise ProviderFailed("the provider's API answered in a form that is not documented")
