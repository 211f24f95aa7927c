"""The tables, as statements name them. The schema itself (indexes, checks, triggers, partitions) is in `migrations/`.

What comes from a provider is at most 256 characters (contract, "Identity"), and so are the columns that take it: a
transcript does not fit. A test lists every column that exists, so that a new one is a conscious decision.

`day` is the day (UTC) on which the event was accepted, in its deliveries and attempts as well: retention drops what
belongs together together.
"""

from __future__ import annotations

from relay.store.tables.books import (
    budget_alerts,
    credit_notes,
    document_numbers,
    exports,
    ledger,
    reconciliation_runs,
    reconciliations,
    statements,
    usage_quarters,
)
from relay.store.tables.columns import EXACT, FACT, MOMENT, MONEY, metadata
from relay.store.tables.configuration import (
    accounts,
    api_keys,
    audit,
    budgets,
    endpoints,
    export_customers,
    provider_grants,
    provider_keys,
    rate_cards,
    sources,
    template_ids,
    templates,
    voice_agents,
    workspace_webhooks,
)
from relay.store.tables.records import (
    agora_agents,
    attempts,
    deliveries,
    events,
    notices,
    session_ids,
    sessions,
)

__all__ = [
    "EXACT",
    "FACT",
    "MOMENT",
    "MONEY",
    "accounts",
    "agora_agents",
    "api_keys",
    "attempts",
    "audit",
    "budget_alerts",
    "budgets",
    "credit_notes",
    "deliveries",
    "document_numbers",
    "endpoints",
    "events",
    "export_customers",
    "exports",
    "ledger",
    "metadata",
    "notices",
    "provider_grants",
    "provider_keys",
    "rate_cards",
    "reconciliation_runs",
    "reconciliations",
    "session_ids",
    "sessions",
    "sources",
    "statements",
    "template_ids",
    "templates",
    "usage_quarters",
    "voice_agents",
    "workspace_webhooks",
]
