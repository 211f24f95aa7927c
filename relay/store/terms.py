"""What a template says of the price of its sessions. A session takes it over once, when it becomes that template's."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import Connection, Integer, case, cast, func, select, tuple_

from relay.store.tables import provider_grants, templates, voice_agents

# What an agent is given whose template says nothing (relay.agents.spec).
_USUAL_SECONDS: Final = 600


class Limit(NamedTuple):
    """How long calls of a template may last, and since when its agent at the provider has known so."""

    seconds: int
    since: datetime


class Terms(NamedTuple):
    """A template, the card that it has chosen, its tag, and whether its agent runs on a key of the account's own."""

    template_id: int | None = None
    pinned_card_id: str | None = None
    tag: str | None = None
    own_key: bool = False


class Offered(NamedTuple):
    """What a template gives its sessions; `limit` is known only of agents that we make and nobody else can change."""

    terms: Terms = Terms()
    limit: Limit | None = None
    agent_id: str | None = None


AgentKey = tuple[str, str, str]
"""Account, provider, agent."""


def of_templates(connection: Connection, template_ids: Collection[int]) -> dict[tuple[str, int], Offered]:
    """The terms of these templates, by account and template; deleted ones too."""
    if not template_ids:
        return {}
    with_agents = templates.outerjoin(
        voice_agents,
        (voice_agents.c.template_id == templates.c.id) & (voice_agents.c.account_id == templates.c.account_id),
    )
    # An agent that the customer brought is not ours to limit, nor does one that is behind know the limit yet.
    is_limited = voice_agents.c.created_here & (voice_agents.c.synced >= voice_agents.c.wanted)
    said = templates.c.config["maxDurationSeconds"].astext
    found = select(
        templates.c.account_id,
        templates.c.id,
        templates.c.rate_card_id,
        templates.c.config["tag"].astext.label("tag"),
        func.coalesce(templates.c.agent_id, voice_agents.c.agent_id).label("agent_id"),
        # Between two keys it has none: the calls that are still told are those of the agent before.
        (voice_agents.c.made_with.is_not(None) & voice_agents.c.agent_id.is_not(None)).label("own_key"),
        case((is_limited, func.coalesce(cast(said, Integer), _USUAL_SECONDS))).label("limit_seconds"),
        func.greatest(templates.c.updated_at, voice_agents.c.updated_at).label("limit_since"),
    ).select_from(with_agents)
    rows = connection.execute(found.where(templates.c.id.in_(template_ids)))
    return {
        (row.account_id, row.id): Offered(
            Terms(row.id, row.rate_card_id, row.tag or None, row.own_key),
            None if row.limit_seconds is None else Limit(row.limit_seconds, row.limit_since),
            row.agent_id,
        )
        for row in rows
    }


def owners(connection: Connection, agents: Collection[AgentKey]) -> dict[AgentKey, int]:
    """The templates that these agents are of, but deleted ones. Each has one at most."""
    named = tuple_(templates.c.account_id, templates.c.provider, templates.c.agent_id)
    found = select(templates.c.account_id, templates.c.provider, templates.c.agent_id, templates.c.id)
    rows = connection.execute(found.where(named.in_(agents), templates.c.deleted_at.is_(None)))
    return {(row.account_id, row.provider, row.agent_id): row.id for row in rows}


def on_the_operators_key(connection: Connection, agents: Collection[AgentKey]) -> set[AgentKey]:
    """Which of these agents are in the operator's workspace: granted to the account, or made there for it."""
    granted = provider_grants.c
    made = voice_agents.c
    is_granted = tuple_(granted.account_id, granted.provider, granted.object_id).in_(agents)
    is_made = tuple_(made.account_id, made.provider, made.agent_id).in_(agents)
    found = (
        select(granted.account_id, granted.provider, granted.object_id)
        .where(is_granted)
        .union(
            select(made.account_id, made.provider, made.agent_id).where(
                is_made, made.created_here, made.made_with.is_(None)
            )
        )
    )
    return {(row[0], row[1], row[2]) for row in connection.execute(found)}
