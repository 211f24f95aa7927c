"""What a template says of the price of its sessions. A session takes it over once, when it becomes that template's."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import Connection, Integer, case, cast, func, select

from relay.store.tables import templates, voice_agents

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
        voice_agents.c.made_with.is_not(None).label("own_key"),
        case((is_limited, func.coalesce(cast(said, Integer), _USUAL_SECONDS))).label("limit_seconds"),
        func.greatest(templates.c.updated_at, voice_agents.c.updated_at).label("limit_since"),
    ).select_from(with_agents)
    rows = connection.execute(found.where(templates.c.id.in_(template_ids)))
    return {
        (row.account_id, row.id): Offered(
            Terms(row.id, row.rate_card_id, row.tag or None, row.own_key),
            None if row.limit_seconds is None else Limit(row.limit_seconds, row.limit_since),
        )
        for row in rows
    }
