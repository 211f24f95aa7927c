"""What a template says of the price of its sessions. A session takes it over once, when it becomes that template's."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from sqlalchemy import Connection, select

from relay.store.tables import templates, voice_agents


class Terms(NamedTuple):
    """A template, the card that it has chosen, its tag, and whether its agent runs on a key of the account's own."""

    template_id: int | None = None
    pinned_card_id: str | None = None
    tag: str | None = None
    own_key: bool = False


def of_templates(connection: Connection, template_ids: Collection[int]) -> dict[tuple[str, int], Terms]:
    """The terms of these templates, by account and template; deleted ones too."""
    if not template_ids:
        return {}
    with_agents = templates.outerjoin(
        voice_agents,
        (voice_agents.c.template_id == templates.c.id) & (voice_agents.c.account_id == templates.c.account_id),
    )
    found = select(
        templates.c.account_id,
        templates.c.id,
        templates.c.rate_card_id,
        templates.c.config["tag"].astext.label("tag"),
        voice_agents.c.made_with.is_not(None).label("own_key"),
    ).select_from(with_agents)
    rows = connection.execute(found.where(templates.c.id.in_(template_ids)))
    return {(row.account_id, row.id): Terms(row.id, row.rate_card_id, row.tag or None, row.own_key) for row in rows}
