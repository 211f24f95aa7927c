"""Every group of operations, in the order in which the description lists them."""

from __future__ import annotations

from typing import Final

from relay.api import agora, canonical, conversations, description, elevenlabs, retell
from relay.api.canary import portal, signed_urls, templates
from relay.api.canary import sessions as canary_sessions
from relay.api.canary import usage as canary_usage
from relay.api.core.operations import Group, Operation
from relay.api.v1 import (
    accounts,
    audit,
    budgets,
    charges,
    credit_notes,
    deliveries,
    endpoints,
    exports,
    grants,
    keys,
    provider_keys,
    rate_cards,
    reconciliations,
    replays,
    sessions,
    sources,
    statements,
    usage,
)

GROUPS: Final[tuple[Group, ...]] = (
    description.group,
    accounts.group,
    rate_cards.group,
    budgets.group,
    grants.group,
    exports.group,
    keys.group,
    provider_keys.group,
    sources.group,
    endpoints.group,
    deliveries.group,
    replays.group,
    sessions.group,
    usage.group,
    charges.group,
    reconciliations.group,
    statements.group,
    credit_notes.group,
    audit.group,
    templates.group,
    canary_sessions.group,
    signed_urls.group,
    portal.group,
    canary_usage.group,
    elevenlabs.group,
    retell.group,
    conversations.group,
    agora.group,
    canonical.group,
)  # fmt: skip


def operations() -> list[Operation]:
    """All operations of the API."""
    return [operation for group in GROUPS for operation in group.operations]
