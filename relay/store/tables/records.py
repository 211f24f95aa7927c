"""What happened: sessions, events, deliveries, and what is on its way to be told."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Date, Integer, Sequence, SmallInteger, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

from relay.store.tables.columns import EXACT, FACT, MOMENT, MONEY, metadata

session_ids: Final = Sequence("session_ids", metadata=metadata, data_type=BigInteger)

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
    # Until when the last signed URL opens its conversation; NULL: the one that was given when the session was made.
    Column("url_expires_at", MOMENT),
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

notices: Final = Table(
    "notices",
    metadata,
    # The event's.
    Column("id", Text, primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("kind", FACT, nullable=False),
    Column("subject", FACT, nullable=False),
    # JSON, as it is delivered.
    Column("body", Text, nullable=False),
    Column("at", MOMENT, nullable=False),
    # Not to be tried before.
    Column("due_at", MOMENT, nullable=False),
)
