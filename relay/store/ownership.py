"""Whose a voice agent is: accounts that share the operator's key share a workspace, in which every id opens."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, literal, select

from relay.store.tables import templates, voice_agents


def is_of_another(connection: Connection, *, account_id: str, provider: str, agent_id: str) -> bool:
    """Whether we made this agent for another account, which alone may talk to it."""
    known = (voice_agents.c.agent_id == agent_id) | (voice_agents.c.leftover_id == agent_id)
    theirs = (voice_agents.c.account_id != account_id, voice_agents.c.provider == provider, known)
    made = voice_agents.c.created_here | (voice_agents.c.leftover_id == agent_id)
    return connection.execute(select(literal(1)).where(*theirs, made).limit(1)).first() is not None


def is_made_for(connection: Connection, *, account_id: str, provider: str, agent_id: str) -> bool:
    """Whether we made this agent for this account with the operator's key, and it still has it."""
    mine = (voice_agents.c.account_id == account_id, voice_agents.c.provider == provider)
    made = (voice_agents.c.agent_id == agent_id, voice_agents.c.created_here, voice_agents.c.made_with.is_(None))
    return connection.execute(select(literal(1)).where(*mine, *made).limit(1)).first() is not None


def made_for(connection: Connection, *, account_id: str, provider: str, agent_ids: Collection[str]) -> frozenset[str]:
    """Those of these agents that we made for this account with the operator's key, and that are to stay."""
    mine = (voice_agents.c.account_id == account_id, voice_agents.c.provider == provider)
    made = (voice_agents.c.created_here, voice_agents.c.made_with.is_(None))
    staying = voice_agents.c.status.not_in(("removing", "removed"))
    found = select(voice_agents.c.agent_id).where(*mine, *made, staying, voice_agents.c.agent_id.in_(agent_ids))
    return frozenset(connection.execute(found).scalars())


def held_by_others(
    connection: Connection, *, account_id: str, template_id: int, provider: str, agent_ids: Collection[str]
) -> frozenset[str]:
    """Those of these agents that another template has, of whichever account: they are not this one's to take over."""
    rows = voice_agents.c
    is_mine = (rows.account_id == account_id) & (rows.template_id == template_id)
    known = rows.agent_id.in_(agent_ids) | rows.leftover_id.in_(agent_ids)
    found = select(rows.agent_id, rows.leftover_id).where(known, rows.provider == provider, ~is_mine)
    held = {agent_id for row in connection.execute(found) for agent_id in row}
    bound = select(templates.c.agent_id).where(
        templates.c.agent_id.in_(agent_ids),
        templates.c.provider == provider,
        templates.c.deleted_at.is_(None),
        templates.c.id != template_id,
    )
    held.update(connection.execute(bound).scalars())
    return frozenset(held) & frozenset(agent_ids)
