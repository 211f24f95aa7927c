"""Agora's Conversational AI Engine, REST API v2 (paths and fields of its Python package 2.12.0; api.agora.io)."""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import quote

import msgspec

from relay.calls import MAX_FACT_CHARS
from relay.errors import ProviderFailed
from relay.providers.rest.client import Rest
from relay.settings import ProviderAccess

T = TypeVar("T")

_PROJECTS: Final = "/api/conversational-ai-agent/v2/projects"
# As long as a fact may be.
_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_FACT_CHARS)]


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """An agent that joins, or was changed. `create_ts` is Unix seconds; `status` one of IDLE, STARTING, RUNNING, ..."""

    agent_id: _Id
    create_ts: int = 0
    status: str = ""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """An agent that speaks, or was interrupted, since `start_ts` (Unix seconds)."""

    agent_id: str = ""
    channel: str = ""
    start_ts: int = 0


class State(msgspec.Struct, frozen=True, kw_only=True):
    """How an agent is. Times are Unix seconds, None where it has not begun or ended; `message` is Agora's own word."""

    agent_id: str = ""
    name: str = ""
    status: str = ""
    message: str = ""
    start_ts: int | None = None
    stop_ts: int | None = None


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """An agent of a project: since when (Unix seconds), and its status."""

    agent_id: _Id
    start_ts: int | None = None
    status: str = ""


class AgentPage(msgspec.Struct, frozen=True):
    """Some agents, and where the next page begins, if there is one."""

    agents: tuple[Listed, ...]
    cursor: str | None


class _Listing(msgspec.Struct, frozen=True):
    list: tuple[Listed, ...] = ()


class _Meta(msgspec.Struct, frozen=True):
    cursor: str | None = None


class _Answer(msgspec.Struct, frozen=True):
    data: _Listing
    meta: _Meta = _Meta()


class Agora:
    """Agents of one Agora account. The key is `<customer id>:<customer secret>`.

    Every method raises ProviderFailed, with `provider_status` 404 for an agent that is not there or has left and 409
    for a name that is taken, and ProviderUnavailable.
    """

    def __init__(self, access: ProviderAccess) -> None:
        credentials = base64.b64encode(access.api_key.encode()).decode("ascii")
        self._rest = Rest(access.base_url, headers={"Authorization": f"Basic {credentials}"})

    def join(self, appid: str, body: Mapping[str, Any]) -> Started:
        """Have an agent join a channel: `{"name", "properties"}`, as Agora documents them."""
        return _read(self._rest.fetch("POST", f"{_project(appid)}/join", json=dict(body)), Started)

    def leave(self, appid: str, agent_id: str) -> None:
        """Have an agent leave its channel."""
        self._rest.fetch("POST", f"{_agent(appid, agent_id)}/leave")

    def update(self, appid: str, agent_id: str, properties: Mapping[str, Any]) -> Started:
        """Change an agent's token and model parameters, which replace those it has."""
        path = f"{_agent(appid, agent_id)}/update"
        return _read(self._rest.fetch("POST", path, json={"properties": dict(properties)}), Started)

    def interrupt(self, appid: str, agent_id: str) -> Told:
        """Stop an agent's speech and thought."""
        return _read(self._rest.fetch("POST", f"{_agent(appid, agent_id)}/interrupt", json={}), Told)

    def speak(self, appid: str, agent_id: str, words: Mapping[str, Any]) -> Told:
        """Have an agent say `text`, with a `priority`, `interruptable` or not."""
        return _read(self._rest.fetch("POST", f"{_agent(appid, agent_id)}/speak", json=dict(words)), Told)

    def status(self, appid: str, agent_id: str) -> State:
        """How an agent is."""
        return _read(self._rest.fetch("GET", _agent(appid, agent_id)), State)

    def list(
        self,
        appid: str,
        *,
        channel: str | None = None,
        from_time: int | None = None,
        to_time: int | None = None,
        state: Collection[int] | None = None,
        limit: int = 20,
        cursor: str | None = None,
    ) -> AgentPage:
        """The agents of a project, of all accounts that share its key: metadata only.

        Times are Unix seconds, of an agent's start. Where they or `state` are None, Agora's own apply: the last two
        hours, and agents that are running (2). `cursor` is that of the page before.
        """
        wish = {
            "channel": channel,
            "from_time": from_time,
            "to_time": to_time,
            "state": None if state is None else ",".join(map(str, sorted(state))),
            "limit": limit,
            "cursor": cursor,
        }
        asked = {name: value for name, value in wish.items() if value is not None}
        found = _read(self._rest.fetch("GET", f"{_project(appid)}/agents", params=asked), _Answer)
        return AgentPage(found.data.list, found.meta.cursor or None)


def _project(appid: str) -> str:
    return f"{_PROJECTS}/{quote(appid, safe='')}"


def _agent(appid: str, agent_id: str) -> str:
    return f"{_project(appid)}/agents/{quote(agent_id, safe='')}"


def _read(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise ProviderFailed("Agora's API answered with something else than it documents") from None
