"""Every group of operations, in the order in which the description lists them."""

from __future__ import annotations

from typing import Final

from relay.api import agora, canonical, conversations, description, elevenlabs, retell
from relay.api.canary import portal, signed_urls, templates
from relay.api.canary import sessions as canary_sessions
from relay.api.core.operations import Group, Operation
from relay.api.v1 import (
    accounts,
    audit,
    deliveries,
    endpoints,
    grants,
    keys,
    provider_keys,
    rate_cards,
    replays,
    sessions,
    sources,
)

GROUPS: Final[tuple[Group, ...]] = (
    description.group,
    accounts.group,
    rate_cards.group,
    grants.group,
    keys.group,
    provider_keys.group,
    sources.group,
    endpoints.group,
    deliveries.group,
    replays.group,
    sessions.group,
    audit.group,
    templates.group,
    canary_sessions.group,
    signed_urls.group,
    portal.group,
    elevenlabs.group,
    retell.group,
    conversations.group,
    agora.group,
    canonical.group,
)  # fmt: skip


def operations() -> list[Operation]:
    """All operations of the API."""
    return [operation for group in GROUPS for operation in group.operations]
