"""The tables, as statements name them. The schema itself (indexes, checks, triggers, partitions) is in `migrations/`.

What comes from a provider is at most 256 characters (contract, "Identity"), and so are the columns that take it: a
transcript does not fit. A test lists every column that exists, so that a new one is a conscious decision.

`day` is the day (UTC) on which the event was accepted, in its deliveries and attempts as well: retention drops what
belongs together together.
"""

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
    MetaData,
    Numeric,
    Sequence,
    SmallInteger,
    String,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

metadata: Final = MetaData()

FACT: Final = String(256)
MOMENT: Final = TIMESTAMP(timezone=True)
# Kept to a millionth: rounding each call to cents turns 4.83 into 5.
MONEY: Final = Numeric(18, 6)
# Exact figures keep every digit they came with.
EXACT: Final = Numeric()

# Sessions made by the API count from here; those first seen in a webhook are derived, far above.
session_ids: Final = Sequence("session_ids", metadata=metadata, data_type=BigInteger)
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

sessions: Final = Table(
    "sessions",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("provider", FACT, nullable=False),
    # NULL until the provider has named the conversation of a session that the API made.
    Column("conversation_id", FACT),
    Column("template_id", BigInteger),
    Column("agent_id", FACT),
    Column("status", Text, nullable=False),
    Column("started_at", MOMENT),
    Column("ended_at", MOMENT),
    Column("duration_seconds", EXACT),
    Column("billed_seconds", Integer),
    Column("currency", Text),
    Column("cost", MONEY),
    Column("unrated_reason", Text),
    Column("rate_card_id", Text),
    Column("charge_sequence", Integer, nullable=False),
    # By which terminal event's word the session is charged: its rank, and when it was accepted (Unix ms).
    Column("terminal_rank", SmallInteger),
    Column("terminal_trust", SmallInteger),
    Column("terminal_ms", BigInteger),
    Column("provider_cost_usd", EXACT),
    Column("provider_credits", EXACT),
    Column("livemode", Boolean, nullable=False),
    # The customer's own labels, given when the API makes a session; nothing from a webhook is written here.
    Column("metadata", JSONB(none_as_null=True)),
    Column("created_at", MOMENT, nullable=False),
    Column("completed_at", MOMENT),
    Column("failure_code", FACT),
    Column("text_only", Boolean, nullable=False),
    Column("deleted_at", MOMENT),
    # How often somebody spoke, where the provider says so.
    Column("turn_count", Integer),
    # When its customer last had its content shredded.
    Column("content_erased_at", MOMENT),
    Column("tag", FACT),
    # The card that its template had chosen when the session became that template's, or that it was rated again by.
    Column("pinned_card_id", Text),
    # The call ran on its customer's own key at the provider.
    Column("own_key", Boolean, nullable=False),
    # Which moment chose its card and its day: its start, or the first that was told of it.
    Column("rated_at", MOMENT),
    Column("list_cost", MONEY),
    Column("waived_reason", FACT),
    # Of how many rows its newest charge consists; `charge_sequence` is that of the last.
    Column("charge_lines", SmallInteger, nullable=False),
    # What a budget holds back for it until it ends.
    Column("reserved", MONEY),
    # When its provider was asked what became of it.
    Column("asked_at", MOMENT),
)

agora_agents: Final = Table(
    "agora_agents",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("session_id", BigInteger, primary_key=True, autoincrement=False),
    Column("appid", FACT, nullable=False),
    Column("name", FACT, nullable=False),
    Column("channel", FACT, nullable=False),
    # As Agora itself told it when the agent joined: only that opens it.
    Column("agent_id", FACT),
    # False once it was asked to leave, or is over.
    Column("live", Boolean, nullable=False),
)

events: Final = Table(
    "events",
    metadata,
    Column("id", Text, primary_key=True),
    Column("day", Date, nullable=False),
    Column("account_id", Text, nullable=False),
    Column("provider", FACT, nullable=False),
    Column("kind", FACT, nullable=False),
    Column("event_class", Text, nullable=False),
    Column("conversation_id", FACT, nullable=False),
    Column("session_id", BigInteger, nullable=False),
    Column("source_id", Text),
    Column("template_id", BigInteger),
    Column("livemode", Boolean, nullable=False),
    Column("size_bytes", Integer, nullable=False),
    Column("accepted_at", MOMENT, nullable=False),
)

deliveries: Final = Table(
    "deliveries",
    metadata,
    Column("event_id", Text, primary_key=True),
    Column("endpoint_id", Text, primary_key=True),
    Column("day", Date, primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("code", FACT),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", MOMENT),
    # As `deliveries.sortable` writes it: an update counts only when its stream id is greater.
    Column("last_stream_id", Text, nullable=False),
    Column("accepted_at", MOMENT, nullable=False),
    Column("settled_at", MOMENT),
)

attempts: Final = Table(
    "attempts",
    metadata,
    Column("event_id", Text, primary_key=True),
    Column("endpoint_id", Text, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("day", Date, primary_key=True),
    Column("at", MOMENT, nullable=False),
    Column("http_status", Integer),
    # `code` is what tenants see; `detail` is the operator's finer code, never a text of the far side.
    Column("code", FACT),
    Column("detail", FACT),
    Column("duration_ms", Integer),
    Column("response_bytes", BigInteger),
)

ledger: Final = Table(
    "ledger",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("provider", FACT, nullable=False),
    Column("conversation_id", FACT, nullable=False),
    Column("kind", Text, nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("session_id", BigInteger),
    Column("template_id", BigInteger),
    Column("rate_card_id", Text),
    Column("started_at", MOMENT, nullable=False),
    Column("duration_seconds", EXACT),
    Column("billed_seconds", Integer, nullable=False),
    # Of one unit of `quantity`: a minute of usage, a fee, a dollar of the provider's.
    Column("unit_price", MONEY, nullable=False),
    Column("exact", EXACT, nullable=False),
    Column("amount", MONEY, nullable=False),
    Column("currency", Text, nullable=False),
    Column("steps", ARRAY(Text), nullable=False),
    Column("created_at", MOMENT, nullable=False),
    # What is paid for, and which of the rows of one charge this is, from 0.
    Column("line", FACT, nullable=False),
    Column("part", SmallInteger, nullable=False),
    Column("quantity", EXACT, nullable=False),
    Column("list_amount", MONEY),
    Column("reason", FACT),
    Column("tag", FACT),
    # The closed statement that this corrects or gives back for, by its number.
    Column("reference", FACT),
    # The month (its first day) of the statement in which it counts.
    Column("period", Date, nullable=False),
    Column("provider_cost_usd", EXACT),
)

usage_quarters: Final = Table(
    "usage_quarters",
    metadata,
    Column("account_id", Text, primary_key=True),
    # The beginning of a quarter of an hour.
    Column("quarter", MOMENT, primary_key=True),
    Column("provider", FACT, primary_key=True),
    # 0, '' and '': none.
    Column("template_id", BigInteger, primary_key=True, autoincrement=False),
    Column("tag", FACT, primary_key=True),
    Column("status", Text, primary_key=True),
    Column("currency", Text, primary_key=True),
    Column("sessions", BigInteger, nullable=False),
    Column("unrated", BigInteger, nullable=False),
    Column("duration_seconds", EXACT, nullable=False),
    Column("billed_seconds", BigInteger, nullable=False),
    Column("amount", MONEY, nullable=False),
    Column("list_amount", MONEY, nullable=False),
)

statements: Final = Table(
    "statements",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("month", Date, primary_key=True),
    Column("status", Text, nullable=False),
    Column("number", Text),
    Column("currency", Text),
    Column("total", MONEY),
    # JSON, as its digest was taken.
    Column("body", Text),
    Column("sha256", LargeBinary),
    Column("closed_by", Text, nullable=False),
    Column("closed_at", MOMENT),
)

credit_notes: Final = Table(
    "credit_notes",
    metadata,
    Column("number", Text, primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("month", Date, nullable=False),
    Column("amount", MONEY, nullable=False),
    Column("currency", Text, nullable=False),
    Column("reason", FACT, nullable=False),
    Column("actor", Text, nullable=False),
    Column("approver", FACT, nullable=False),
    Column("created_at", MOMENT, nullable=False),
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

budget_alerts: Final = Table(
    "budget_alerts",
    metadata,
    Column("budget_id", Text, primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("month", Date, primary_key=True),
    Column("threshold", SmallInteger, primary_key=True, autoincrement=False),
    Column("spent", MONEY, nullable=False),
    Column("at", MOMENT, nullable=False),
    Column("sent_at", MOMENT),
)

export_customers: Final = Table(
    "export_customers",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("destination", Text, primary_key=True),
    Column("customer", FACT, nullable=False),
    Column("created_at", MOMENT, nullable=False),
)

exports: Final = Table(
    "exports",
    metadata,
    Column("destination", Text, primary_key=True),
    Column("ledger_id", BigInteger, primary_key=True, autoincrement=False),
    Column("account_id", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    # NULL: nobody tries any more.
    Column("next_attempt_at", MOMENT),
    Column("code", FACT),
)

reconciliations: Final = Table(
    "reconciliations",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("provider", FACT, primary_key=True),
    Column("day", Date, primary_key=True),
    Column("sessions", BigInteger, nullable=False),
    Column("provider_sessions", BigInteger, nullable=False),
    # Of the provider's, those that we had not heard of until we asked.
    Column("found", BigInteger, nullable=False),
    Column("duration_seconds", EXACT, nullable=False),
    Column("provider_duration_seconds", EXACT, nullable=False),
    Column("amount", MONEY, nullable=False),
    Column("currency", Text, nullable=False),
    Column("provider_cost_usd", EXACT),
    Column("checked_at", MOMENT, nullable=False),
)

reconciliation_runs: Final = Table(
    "reconciliation_runs",
    metadata,
    # '': with our own key.
    Column("account_id", Text, primary_key=True),
    Column("provider", FACT, primary_key=True),
    Column("through", MOMENT, nullable=False),
    Column("busy_until", MOMENT),
)
