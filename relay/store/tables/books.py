"""What was charged, and what became of it."""

from __future__ import annotations

from typing import Final

from sqlalchemy import ARRAY, BigInteger, Column, Date, Integer, LargeBinary, SmallInteger, Table, Text

from relay.store.tables.columns import EXACT, FACT, MOMENT, MONEY, SUM, metadata

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
    # Of one unit of `quantity`: a minute of usage, a fee, a dollar of the provider's, or the price of a month.
    Column("unit_price", SUM, nullable=False),
    Column("exact", EXACT, nullable=False),
    Column("amount", SUM, nullable=False),
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
    Column("amount", SUM, nullable=False),
    Column("list_amount", SUM, nullable=False),
)

statements: Final = Table(
    "statements",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("month", Date, primary_key=True),
    Column("status", Text, nullable=False),
    Column("number", Text),
    Column("currency", Text),
    Column("total", SUM),
    # JSON, as its digest was taken.
    Column("body", Text),
    Column("sha256", LargeBinary),
    Column("closed_by", Text, nullable=False),
    Column("closed_at", MOMENT),
)

document_numbers: Final = Table(
    "document_numbers",
    metadata,
    # `S-2026`: statements of that year, `CN-2026`: credit notes.
    Column("series", Text, primary_key=True),
    Column("last", Integer, nullable=False),
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

budget_alerts: Final = Table(
    "budget_alerts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("budget_id", Text, nullable=False),
    Column("account_id", Text, nullable=False),
    Column("month", Date, nullable=False),
    Column("threshold", SmallInteger, nullable=False),
    # The budget's, when it was crossed.
    Column("amount", MONEY, nullable=False),
    Column("spent", SUM, nullable=False),
    Column("at", MOMENT, nullable=False),
    # A larger budget has lifted the threshold above what was spent by then.
    Column("rearmed_at", MOMENT),
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
    Column("created_at", MOMENT, nullable=False),
    # Since when the destination may have it without our knowing.
    Column("sent_at", MOMENT),
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
    Column("amount", SUM, nullable=False),
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
    # Through this day (UTC) what we have was compared with what the provider lists.
    Column("compared_through", Date, nullable=False),
    # Until then one process is reading the list.
    Column("busy_until", MOMENT),
)
