"""A database with many calls in it, written by Postgres itself: sets of rows of the shape that billing writes."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import text

from relay.store import accounts, rate_cards
from relay.store.database import Database

_CHUNK = 1_000_000

# As calls come: at any second of the days, of two providers, five templates with a tag each, a few of them failed.
_SHAPE = """
    SELECT n, CAST(:begins AS timestamptz) + CAST(n AS bigint) * 104729 % (:days * 86400) * interval '1 second' AS at,
        CASE n % 2 WHEN 0 THEN 'elevenlabs' ELSE 'retell' END AS provider, n % 5 + 1 AS template,
        CASE n % 20 WHEN 0 THEN 'failed' ELSE 'completed' END AS status, n % 300 + 1 AS seconds
    FROM generate_series(CAST(:first AS bigint), :last) n
"""
_LEDGER = f"""
    INSERT INTO ledger (account_id, provider, conversation_id, kind, sequence, session_id, template_id, rate_card_id,
        started_at, duration_seconds, billed_seconds, unit_price, exact, amount, currency, steps, quantity, period, tag)
    SELECT :account, provider, 'conv_' || n, 'charge', 1, n, template, :card, at, seconds, seconds, 0.10,
        seconds / 600.0, round(seconds / 600.0, 6), 'USD', ARRAY[seconds || ' s on 1/1 bills ' || seconds || ' s'],
        seconds / 60.0, date_trunc('month', at AT TIME ZONE 'UTC')::date, 'tag_' || template
    FROM ({_SHAPE}) calls
"""
_SESSIONS = f"""
    INSERT INTO sessions (account_id, id, provider, conversation_id, template_id, status, started_at, ended_at,
        duration_seconds, billed_seconds, currency, cost, rate_card_id, charge_sequence, terminal_rank, terminal_trust,
        terminal_ms, created_at, completed_at, tag, own_key, rated_at)
    SELECT :account, n, provider, 'conv_' || n, template, status, at, at + seconds * interval '1 second', seconds,
        seconds, 'USD', round(seconds / 600.0, 6), :card, 1, 2, 2, extract(epoch FROM at) * 1000, at,
        at + seconds * interval '1 second', 'tag_' || template, false, at
    FROM ({_SHAPE}) calls
"""
# The sums of the ledger's rows, by the same shape.
_QUARTERS = f"""
    INSERT INTO usage_quarters
    SELECT :account, date_bin('15 minutes', at, '2000-01-01Z'), provider, template, 'tag_' || template, status, 'USD',
        count(*), 0, sum(seconds), sum(seconds), sum(round(seconds / 600.0, 6)), sum(round(seconds / 600.0, 6))
    FROM ({_SHAPE}) calls GROUP BY 2, 3, 4, 5, 6
"""


def filled(
    database: Database,
    sessions: int,
    *,
    begins: datetime,
    days: int,
    with_sessions: bool = True,
    month_price: dict[str, Any] | None = None,
) -> str:
    """A new account with so many calls in so many days, at 0.10 USD a minute; its id."""
    with database.begin() as connection:
        account_id = accounts.create(connection, name="bench").id
        card = rate_cards.add(connection, account_id, per_minute=Decimal("0.10"), month_price=month_price)
    for statement in (_LEDGER, _SESSIONS, _QUARTERS) if with_sessions else (_LEDGER, _QUARTERS):
        # Sums need all calls at once; rows are written a million at a time.
        size = sessions if statement is _QUARTERS else _CHUNK
        for first in range(1, sessions + 1, size):
            last = min(first + size - 1, sessions)
            given: dict[str, Any] = {
                "account": account_id,
                "begins": begins,
                "days": days,
                "first": first,
                "last": last,
            }
            if statement is not _QUARTERS:
                given["card"] = card.id
            with database.begin() as connection:
                connection.execute(text("SET LOCAL synchronous_commit = off"))
                connection.execute(text(statement), given)
    return account_id
