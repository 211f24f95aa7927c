"""The operations of Agora's clients on their agents."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from relay.agents.agora import STATES, AgoraAgents
from relay.api.agora.models import (
    AgentList,
    AgentsQuery,
    AgentStarted,
    AgentState,
    AgentTold,
    JoinAgent,
    ListedAgent,
    ListedAgents,
    ListMeta,
    SpeakText,
    UpdateAgent,
)
from relay.api.core import cursors
from relay.api.core.access import Access
from relay.api.core.families import AGORA
from relay.api.core.operations import Answer, Call, Group
from relay.errors import NotFound, NotImplementedYet
from relay.providers.rest.agora import Started, Told
from relay.store.agora_agents import AgoraAgent, AgoraPage

group = Group(AGORA, tag="Agora: agents")

_PROJECT: Final = "/api/conversational-ai-agent/v2/projects/<appid>"
_AGENT: Final = f"{_PROJECT}/agents/<agent_id>"
# What a call to Agora may come to, besides what every operation may.
_ERRORS: Final = (409, 502)
_USUAL_SPAN: Final = timedelta(hours=2)
_STATUSES: Final = {number: name for name, number in STATES.items()}
_NOT_KEPT: Final = "what was said is not kept: it was delivered to your endpoint, as agora.agent_history"
_NO_TURNS: Final = "turns are not kept: they were delivered to your endpoint, as agora.turns_finished"


@group.operation(
    "POST",
    f"{_PROJECT}/join",
    access=Access.WRITE,
    body=JoinAgent,
    answers={200: AgentStarted},
    errors=(402, *_ERRORS),
    is_slow=True,
)
def join_agent(call: Call[JoinAgent, None], appid: str) -> Answer:
    """Have an agent join a channel.

    It joins at Agora, with the account's own key where it has stored one, is a session of the account
    (`Switchhook-Session`), and is charged when it leaves. A name that a live agent of the account has is 409.
    """
    wish = call.body.model_dump(exclude_unset=True)
    name, properties = wish.pop("name"), wish.pop("properties")
    joined = _agents(call).join(call.account_id, appid, name, properties, more=wish)
    return Answer(_started(joined.started), 200, headers={"Switchhook-Session": str(joined.session_id)})


@group.operation("POST", f"{_AGENT}/leave", access=Access.WRITE, answers={200: None}, errors=_ERRORS, is_slow=True)
def leave_agent(call: Call[None, None], appid: str, agent_id: str) -> None:
    """Have an agent leave its channel."""
    _agents(call).leave(call.account_id, appid, agent_id)


@group.operation(
    "POST",
    f"{_AGENT}/update",
    access=Access.WRITE,
    body=UpdateAgent,
    answers={200: AgentStarted},
    errors=_ERRORS,
    is_slow=True,
)
def update_agent(call: Call[UpdateAgent, None], appid: str, agent_id: str) -> AgentStarted:
    """Change an agent's token or model parameters."""
    properties = call.body.properties.model_dump(exclude_unset=True)
    return _started(_agents(call).update(call.account_id, appid, agent_id, properties))


@group.operation(
    "POST", f"{_AGENT}/interrupt", access=Access.WRITE, answers={200: AgentTold}, errors=_ERRORS, is_slow=True
)
def interrupt_agent(call: Call[None, None], appid: str, agent_id: str) -> AgentTold:
    """Stop what an agent says and thinks."""
    return _told(_agents(call).interrupt(call.account_id, appid, agent_id))


@group.operation(
    "POST",
    f"{_AGENT}/speak",
    access=Access.WRITE,
    body=SpeakText,
    answers={200: AgentTold},
    errors=_ERRORS,
    is_slow=True,
)
def speak_agent(call: Call[SpeakText, None], appid: str, agent_id: str) -> AgentTold:
    """Have an agent say something."""
    words = call.body.model_dump(exclude_unset=True)
    return _told(_agents(call).speak(call.account_id, appid, agent_id, words))


@group.operation("GET", _AGENT, access=Access.READ, answers={200: AgentState}, errors=_ERRORS, is_slow=True)
def get_agent(call: Call[None, None], appid: str, agent_id: str) -> AgentState:
    """How an agent is, by Agora's word."""
    state = _agents(call).status(call.account_id, appid, agent_id)
    return AgentState(
        agent_id=state.agent_id or agent_id,
        name=state.name,
        status=state.status,
        message=state.message,
        start_ts=state.start_ts,
        stop_ts=state.stop_ts,
    )


@group.operation("GET", f"{_PROJECT}/agents", access=Access.READ, query=AgentsQuery, answers={200: AgentList})
def list_agents(call: Call[None, AgentsQuery], appid: str) -> AgentList:
    """The account's agents in a project, as far as Switchhook knows them.

    Those that run, of the last two hours, unless asked otherwise.
    """
    query, now = call.query, datetime.now(UTC)
    page = _agents(call).listed(
        call.account_id,
        appid,
        states=frozenset(int(state) for state in query.state.split(",")),
        since=now - _USUAL_SPAN if query.from_time is None else datetime.fromtimestamp(query.from_time, UTC),
        until=now if query.to_time is None else datetime.fromtimestamp(query.to_time, UTC),
        channel=query.channel,
        before=cursors.read(query.cursor, int),
        limit=query.limit,
    )
    return _listed(page, limit=query.limit)


@group.operation("GET", f"{_AGENT}/history", access=Access.READ, answers={})
def agent_history(call: Call[None, None], appid: str, agent_id: str) -> None:  # noqa: ARG001
    """Always 404: what was said is delivered, and not kept."""
    raise NotFound(_NOT_KEPT, code="content_not_kept")


@group.operation("GET", f"{_AGENT}/turns", access=Access.READ, answers={})
def agent_turns(call: Call[None, None], appid: str, agent_id: str) -> None:  # noqa: ARG001
    """Always 404: turns are delivered, and not kept."""
    raise NotFound(_NO_TURNS, code="content_not_kept")


@group.operation("POST", f"{_AGENT}/think", access=Access.WRITE, answers={}, errors=(501,))
def think_agent(call: Call[None, None], appid: str, agent_id: str) -> None:  # noqa: ARG001
    """Always 501: not built yet."""
    raise NotImplementedYet("an agent cannot be told what to think here yet")


def _agents(call: Call[Any, Any]) -> AgoraAgents:
    services = call.services
    return AgoraAgents(services.database, services.mirror, services.clients)


def _started(started: Started) -> AgentStarted:
    return AgentStarted(agent_id=started.agent_id, create_ts=started.create_ts, status=started.status)


def _told(told: Told) -> AgentTold:
    return AgentTold(agent_id=told.agent_id, channel=told.channel, start_ts=told.start_ts)


def _listed(page: AgoraPage, *, limit: int) -> AgentList:
    shown = tuple(_row(agent) for agent in page.agents)
    cursor = cursors.written(page.agents[-1].session_id) if len(shown) == limit else ""
    return AgentList(data=ListedAgents(count=len(shown), list=shown), meta=ListMeta(cursor=cursor, total=page.total))


def _row(agent: AgoraAgent) -> ListedAgent:
    start_ts = math.floor(agent.created_at.timestamp())
    return ListedAgent(start_ts=start_ts, status=_STATUSES[agent.state], agent_id=agent.agent_id)
