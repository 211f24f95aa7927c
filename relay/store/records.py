"""Writing what became of events: multi-row upserts that may be repeated and come in any order."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, text


class EventRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An accepted event."""

    id: str
    day: date
    account_id: str
    provider: str
    kind: str
    event_class: str
    conversation_id: str
    session_id: int
    source_id: str | None
    template_id: int | None
    livemode: bool
    size_bytes: int
    accepted_at: datetime


class DeliveryRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery as of one entry of the outcomes stream. `day` is the event's (UTC)."""

    event_id: str
    endpoint_id: str
    day: date
    account_id: str
    status: str
    code: str | None
    attempts: int
    next_attempt_at: datetime | None
    last_stream_id: str
    accepted_at: datetime
    settled_at: datetime | None


class AttemptRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt. `code` is the tenant's, `detail` the operator's."""

    event_id: str
    endpoint_id: str
    number: int
    day: date
    at: datetime
    http_status: int | None
    code: str | None
    detail: str | None
    duration_ms: int | None
    response_bytes: int | None


class SessionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A session of which an event was seen; what ends it is written by billing."""

    account_id: str
    id: int
    provider: str
    conversation_id: str
    template_id: int | None
    agent_id: str | None
    status: str
    livemode: bool
    created_at: datetime


class BeginningRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A call that is under way since `at` or before; its session is the one of this id or of this conversation."""

    account_id: str
    id: int
    provider: str
    conversation_id: str
    livemode: bool
    at: datetime


_EVENTS: Final = text("""
    INSERT INTO events (id, day, account_id, provider, kind, event_class, conversation_id, session_id, source_id,
        template_id, livemode, size_bytes, accepted_at)
    SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(id text, day date, account_id text, provider text,
        kind text, event_class text, conversation_id text, session_id bigint, source_id text, template_id bigint,
        livemode boolean, size_bytes int, accepted_at timestamptz)
    ON CONFLICT DO NOTHING
""")

_DELIVERIES: Final = text("""
    INSERT INTO deliveries AS d (event_id, endpoint_id, day, account_id, status, code, attempts, next_attempt_at,
        last_stream_id, accepted_at, settled_at)
    SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(event_id text, endpoint_id text, day date,
        account_id text, status text, code text, attempts int, next_attempt_at timestamptz, last_stream_id text,
        accepted_at timestamptz, settled_at timestamptz)
    ON CONFLICT (event_id, endpoint_id, day) DO UPDATE SET
        status = EXCLUDED.status, code = EXCLUDED.code, attempts = EXCLUDED.attempts,
        next_attempt_at = EXCLUDED.next_attempt_at, last_stream_id = EXCLUDED.last_stream_id,
        settled_at = EXCLUDED.settled_at
    WHERE d.last_stream_id < EXCLUDED.last_stream_id
""")

_ATTEMPTS: Final = text("""
    INSERT INTO attempts (event_id, endpoint_id, number, day, at, http_status, code, detail, duration_ms,
        response_bytes)
    SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(event_id text, endpoint_id text, number int, day date,
        at timestamptz, http_status int, code text, detail text, duration_ms int, response_bytes bigint)
    ON CONFLICT DO NOTHING
""")

# With its template's terms, as billing takes them over (relay.store.terms).
_SESSIONS: Final = text("""
    INSERT INTO sessions (account_id, id, provider, conversation_id, template_id, agent_id, status, charge_sequence,
        livemode, created_at, pinned_card_id, tag, own_key)
    SELECT r.account_id, r.id, r.provider, r.conversation_id, r.template_id, r.agent_id, r.status, 0, r.livemode,
        r.created_at, t.rate_card_id, NULLIF(t.config ->> 'tag', ''), v.made_with IS NOT NULL AND v.agent_id IS NOT NULL
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(account_id text, id bigint, provider text, conversation_id text,
        template_id bigint, agent_id text, status text, livemode boolean, created_at timestamptz)
    LEFT JOIN templates t ON t.id = r.template_id AND t.account_id = r.account_id
    LEFT JOIN voice_agents v ON v.template_id = r.template_id AND v.account_id = r.account_id
    ON CONFLICT DO NOTHING
""")

# What has ended stays ended, whichever comes first. Rows are locked in the order of their keys, as billing locks them;
# `account_id || ''` for its reason too (ADR 0009).
_BEGINNINGS: Final = text("""
    WITH told AS (
        SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(account_id text, id bigint, provider text,
            conversation_id text, livemode boolean, at timestamptz)
    ), known AS (
        SELECT s.account_id, s.id, t.at, t.livemode FROM told t JOIN sessions s
            ON s.id = t.id AND s.provider = t.provider AND s.account_id || '' = t.account_id
        UNION ALL
        SELECT s.account_id, s.id, t.at, t.livemode FROM told t JOIN sessions s
            ON s.conversation_id = t.conversation_id AND s.provider = t.provider AND s.account_id || '' = t.account_id
    ), begun AS (
        SELECT account_id, id, livemode, min(at) AS at FROM known GROUP BY account_id, id, livemode
    ), locked AS (
        SELECT s.account_id, s.id, b.at FROM begun b JOIN sessions s
            ON s.id = b.id AND s.account_id || '' = b.account_id AND s.livemode = b.livemode
        WHERE s.status = 'pending' OR (s.status = 'active' AND (s.started_at IS NULL OR s.started_at > b.at))
        ORDER BY s.account_id, s.id FOR UPDATE OF s
    )
    UPDATE sessions s SET status = 'active', started_at = LEAST(s.started_at, l.at) FROM locked l
    WHERE s.id = l.id AND s.account_id || '' = l.account_id
""")


def write(
    connection: Connection,
    *,
    events: Sequence[EventRecord],
    deliveries: Sequence[DeliveryRecord],
    attempts: Sequence[AttemptRecord],
    sessions: Sequence[SessionRecord],
    beginnings: Sequence[BeginningRecord] = (),
) -> None:
    """Write records; each list but `beginnings` holds a row at most once by its key. Safe to repeat.

    Rows are written in the order of their keys, so that two processes never wait for each other's locks in a circle.
    """
    events = sorted(events, key=lambda row: row.id)
    deliveries = sorted(deliveries, key=lambda row: (row.event_id, row.endpoint_id))
    attempts = sorted(attempts, key=lambda row: (row.event_id, row.endpoint_id, row.number))
    sessions = sorted(sessions, key=lambda row: (row.account_id, row.id))
    _rows(connection, _EVENTS, events)
    _rows(connection, _DELIVERIES, deliveries)
    _rows(connection, _ATTEMPTS, attempts)
    _rows(connection, _SESSIONS, sessions)
    _rows(connection, _BEGINNINGS, beginnings)


def _rows(connection: Connection, statement: Any, rows: Sequence[msgspec.Struct]) -> None:
    if rows:
        connection.execute(statement, {"rows": msgspec.json.encode(rows).decode()})
