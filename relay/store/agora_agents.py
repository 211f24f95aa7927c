"""Agents that an account had join channels of Agora: which are its own, and whose name is taken.

Only what Agora itself answered opens an agent: a webhook may be signed with a secret of the account's own making, and
could name anybody's agent.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, RowMapping, Select, case, func, select

from relay.errors import Conflict, NotFound
from relay.store.database import translated
from relay.store.tables import agora_agents, sessions

# Agora's own numbers of states; it knows no other states of an agent that has an id.
RUNNING: Final = 2
STOPPING: Final = 3
STOPPED: Final = 4
FAILED: Final = 6
_OPEN: Final = ("pending", "active")
_NAME: Final = "agora_agents_name"
_STATE: Final = case(
    (sessions.c.status == "failed", FAILED),
    (sessions.c.status.not_in(_OPEN), STOPPED),
    (agora_agents.c.live, RUNNING),
    else_=STOPPING,
)


class AgoraAgent(msgspec.Struct, frozen=True, kw_only=True):
    """One agent of an account. `state` is Agora's number, as far as it is known here."""

    session_id: int
    agent_id: str
    state: int
    created_at: datetime


class AgoraPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some agents, newest first, and how many there are in all."""

    agents: tuple[AgoraAgent, ...]
    total: int


def claim(connection: Connection, *, account_id: str, appid: str, name: str, channel: str, session_id: int) -> None:
    """Take a name for a session's agent. Raises Conflict `agent_name_taken` while another live agent has it."""
    same = (agora_agents.c.account_id == account_id, agora_agents.c.appid == appid, agora_agents.c.name == name)
    ended = select(sessions.c.id).where(
        sessions.c.account_id == agora_agents.c.account_id,
        sessions.c.id == agora_agents.c.session_id,
        sessions.c.status.not_in(_OPEN),
    )
    connection.execute(agora_agents.update().where(*same, agora_agents.c.live, ended.exists()).values(live=False))
    row = {"account_id": account_id, "session_id": session_id, "appid": appid, "name": name, "channel": channel}
    try:
        with translated():
            connection.execute(agora_agents.insert().values(row))
    except Conflict as error:
        if error.constraint != _NAME:
            raise
        text = "an agent of this account has this name in this project; names can be used again when it has left"
        raise Conflict(text, code="agent_name_taken", field="name", constraint=_NAME) from None


def joined(connection: Connection, *, account_id: str, session_id: int, agent_id: str) -> None:
    """Note the id that Agora gave an agent."""
    connection.execute(agora_agents.update().where(*_this(account_id, session_id)).values(agent_id=agent_id))


def release(connection: Connection, *, account_id: str, session_id: int) -> None:
    """Give a name back: its agent was asked to leave, or is over."""
    connection.execute(agora_agents.update().where(*_this(account_id, session_id)).values(live=False))


def find(connection: Connection, *, account_id: str, appid: str, agent_id: str) -> AgoraAgent:
    """An agent of the account. Raises NotFound, also for another account's, and for one of another project."""
    this = _rows(account_id, appid).where(agora_agents.c.agent_id == agent_id)
    row = connection.execute(this).mappings().one_or_none()
    if row is None:
        raise NotFound("this account has no agent by this id in this project")
    return _agent(row)


def owner(connection: Connection, *, agent_id: str) -> tuple[str, int] | None:
    """Account and session of an agent, whichever account's it is; None if it is nobody's, or not clearly one's."""
    meant = select(agora_agents.c.account_id, agora_agents.c.session_id).where(agora_agents.c.agent_id == agent_id)
    rows = connection.execute(meant.limit(2)).all()
    return (rows[0].account_id, rows[0].session_id) if len(rows) == 1 else None


def page(
    connection: Connection,
    *,
    account_id: str,
    appid: str,
    states: Collection[int],
    since: datetime,
    until: datetime,
    channel: str | None = None,
    before: int | None = None,
    limit: int = 20,
) -> AgoraPage:
    """Agents of the account that joined from `since` to `until`; `before` is the session of the last one seen."""
    wanted = _rows(account_id, appid).where(_STATE.in_(states), sessions.c.created_at.between(since, until))
    if channel is not None:
        wanted = wanted.where(agora_agents.c.channel == channel)
    total = connection.execute(select(func.count()).select_from(wanted.subquery())).scalar_one()
    if before is not None:
        wanted = wanted.where(agora_agents.c.session_id < before)
    rows = connection.execute(wanted.order_by(agora_agents.c.session_id.desc()).limit(limit)).mappings()
    return AgoraPage(agents=tuple(_agent(row) for row in rows), total=total)


def _rows(account_id: str, appid: str) -> Select[Any]:
    joining = (sessions.c.id == agora_agents.c.session_id) & (sessions.c.account_id == agora_agents.c.account_id)
    columns = (agora_agents.c.session_id, agora_agents.c.agent_id, _STATE.label("state"), sessions.c.created_at)
    found = select(*columns).select_from(agora_agents.join(sessions, joining))
    mine = (agora_agents.c.account_id == account_id, agora_agents.c.appid == appid)
    return found.where(*mine, agora_agents.c.agent_id.is_not(None))


def _this(account_id: str, session_id: int) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return agora_agents.c.account_id == account_id, agora_agents.c.session_id == session_id


def _agent(row: RowMapping) -> AgoraAgent:
    return AgoraAgent(**row)
