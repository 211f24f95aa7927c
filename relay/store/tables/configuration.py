"""Accounts and what they set up."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    Date,
    Integer,
    LargeBinary,
    Sequence,
    SmallInteger,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import JSONB

from relay.store.tables.columns import FACT, MOMENT, MONEY, metadata

template_ids: Final = Sequence("template_ids", metadata=metadata, data_type=BigInteger)

accounts: Final = Table(
    "accounts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("currency", Text),
    Column("quota_bytes", BigInteger),
    Column("config_version", BigInteger, nullable=False),
    Column("created_at", MOMENT, nullable=False),
    # Through this month (its first day) its statements are closed.
    Column("closed_through", Date),
)

api_keys: Final = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("prefix", Text, nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    Column("created_at", MOMENT, nullable=False),
    Column("revoked_at", MOMENT),
    Column("name", Text),
    Column("can_write", Boolean, nullable=False),
    Column("expires_at", MOMENT),
    Column("last_used_at", MOMENT),
)

provider_keys: Final = Table(
    "provider_keys",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("provider", Text, primary_key=True),
    Column("sealed_key", LargeBinary, nullable=False),
    Column("created_at", MOMENT, nullable=False),
)

provider_grants: Final = Table(
    "provider_grants",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("provider", Text, primary_key=True),
    # An agent, or a project of Agora.
    Column("object_id", FACT, primary_key=True),
    Column("created_at", MOMENT, nullable=False),
)

audit: Final = Table(
    "audit",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("at", MOMENT, nullable=False),
    # A key's id, `operator` or `cli`.
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("object_id", Text, nullable=False),
    # Of the object as the API shows it, before and after; NULL where there is none.
    Column("before_sha256", LargeBinary),
    Column("after_sha256", LargeBinary),
)

sources: Final = Table(
    "sources",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("sealed_secrets", LargeBinary, nullable=False),
    Column("created_at", MOMENT, nullable=False),
    Column("disabled_at", MOMENT),
    # Its events belong to the account that their labels name.
    Column("shared", Boolean, nullable=False),
    Column("name", Text),
    Column("deleted_at", MOMENT),
    # We made it, for a webhook that we look after.
    Column("managed", Boolean, nullable=False),
)

workspace_webhooks: Final = Table(
    "workspace_webhooks",
    metadata,
    Column("source_id", Text, primary_key=True),
    # NULL until the provider has made it and the source has its secret.
    Column("webhook_id", FACT),
    # Until then one process is making it.
    Column("busy_until", MOMENT),
    Column("created_at", MOMENT, nullable=False),
    # When to see whether it is still there and switched on.
    Column("look_at", MOMENT, nullable=False),
)

templates: Final = Table(
    "templates",
    metadata,
    Column("id", BigInteger, template_ids, primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("config", JSONB, nullable=False),
    Column("agent_id", FACT),
    Column("provider", Text, nullable=False),
    Column("endpoint_id", Text),
    Column("sealed_secret", LargeBinary, nullable=False),
    Column("content_retention_hours", Integer),
    Column("created_at", MOMENT, nullable=False),
    Column("updated_at", MOMENT, nullable=False),
    Column("deleted_at", MOMENT),
    # It stands behind one conversation that was created without a template.
    Column("hidden", Boolean, nullable=False),
    # That conversation's session: whatever the agent says belongs to it.
    Column("session_id", BigInteger),
    Column("rate_card_id", Text),
    # Of the secret before this one, which is good for calls that began with it.
    Column("former_secret_hashes", ARRAY(Text)),
    Column("former_secret_until", MOMENT),
)

voice_agents: Final = Table(
    "voice_agents",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("template_id", BigInteger, primary_key=True, autoincrement=False),
    Column("provider", Text, nullable=False),
    Column("agent_id", FACT),
    # An agent that we made and no longer want, because the customer brought another.
    Column("leftover_id", FACT),
    # False: the customer brought it, and it stays when the template goes.
    Column("created_here", Boolean, nullable=False),
    Column("status", Text, nullable=False),
    # How often the template changed, and which of these changes the provider has.
    Column("wanted", Integer, nullable=False),
    Column("synced", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", MOMENT, nullable=False),
    # Until then one process is working on it.
    Column("busy_until", MOMENT),
    # When something was asked for at the provider that may appear there without our knowing.
    Column("asked_at", MOMENT),
    Column("code", Text),
    Column("created_at", MOMENT, nullable=False),
    Column("updated_at", MOMENT, nullable=False),
    # NULL: what is ours was made with the operator's key; else the digest of the account's own one that made it.
    Column("made_with", LargeBinary),
    # Which of our fields the provider named when it refused them, as `code` says.
    Column("refused_fields", ARRAY(Text)),
)

endpoints: Final = Table(
    "endpoints",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, nullable=False),
    # URL, headers, webhook secret and signing secrets: a URL may carry a token, so all four are sealed.
    Column("sealed_config", LargeBinary, nullable=False),
    Column("filters", ARRAY(Text), nullable=False),
    Column("signing", Text, nullable=False),
    Column("deadline_seconds", Integer, nullable=False),
    Column("retention_hours", Integer),
    Column("template_id", BigInteger),
    Column("source_id", Text),
    Column("state", Text, nullable=False),
    Column("created_at", MOMENT, nullable=False),
    Column("disabled_at", MOMENT),
    Column("failure_when", Text),
    # Until then the older signing secrets go on signing beside the newest.
    Column("overlap_until", MOMENT),
    Column("deleted_at", MOMENT),
    # Where its account hears of budgets and statements.
    Column("operations", Boolean, nullable=False),
)

rate_cards: Final = Table(
    "rate_cards",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("per_minute", MONEY, nullable=False),
    Column("currency", Text, nullable=False),
    Column("initial_seconds", Integer, nullable=False),
    Column("increment_seconds", Integer, nullable=False),
    Column("connect_fee", MONEY, nullable=False),
    Column("free_seconds", Integer, nullable=False),
    Column("min_charge", MONEY),
    Column("max_charge", MONEY),
    Column("decimals", SmallInteger, nullable=False),
    Column("rounding", Text, nullable=False),
    # NULL: from the beginning of time.
    Column("effective_from", MOMENT),
    Column("created_at", MOMENT, nullable=False),
    # Not in force by itself: for the sessions of templates that choose it.
    Column("offered", Boolean, nullable=False),
    # The template or the tag for which it overrides the account's cards.
    Column("template_id", BigInteger),
    Column("tag", FACT),
    Column("components", JSONB(none_as_null=True)),
    Column("markup", MONEY),
    Column("month_price", JSONB(none_as_null=True)),
)

budgets: Final = Table(
    "budgets",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, nullable=False),
    # NULL: of the whole account.
    Column("tag", FACT),
    Column("amount", MONEY, nullable=False),
    # Percentages.
    Column("thresholds", ARRAY(SmallInteger), nullable=False),
    Column("hard_limit", Boolean, nullable=False),
    Column("created_at", MOMENT, nullable=False),
    Column("updated_at", MOMENT, nullable=False),
    Column("deleted_at", MOMENT),
)

export_customers: Final = Table(
    "export_customers",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("destination", Text, primary_key=True),
    Column("customer", FACT, nullable=False),
    Column("created_at", MOMENT, nullable=False),
    # The account's rows from here on were queued; older ones only by a backfill, which moves this back.
    Column("first_ledger_id", BigInteger, nullable=False),
)
