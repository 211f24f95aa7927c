"""What must always hold of sessions, ledger, usage and statements; queries that only read, and find what breaks it.

Each looks at a slice (some sessions, some rows, some days), which never takes long, in one snapshot: what is written in
one transaction is never seen half done.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, TextClause, text


class Invariant(StrEnum):
    """What must hold. The values are names of metrics and of findings.

    SESSION_SUM          what a session costs is the sum of its rows in the ledger; nothing, where it is not rated
    ONE_NET_CHARGE       a session whose end was told has one charge that stands, the one it names, or a reason why not
    CHARGE_THERE         the charge that a session names is in the ledger
    ROW_HAS_SESSION      a charge or a reversal is of a session that exists
    REVERSAL_MIRRORS     a reversal takes back one charge, exactly
    ONE_CURRENCY         rows and sessions are in the currency of their account
    CLOSED_STANDS_STILL  no row counts in a closed month that was written after it was closed
    USAGE_SUM            usage by quarter-hours is the sum of the sessions
    STATEMENT_SUM        a closed statement's subtotal is the sum of its rows, and its total that, rounded
    """

    SESSION_SUM = "session_sum"
    ONE_NET_CHARGE = "one_net_charge"
    CHARGE_THERE = "charge_there"
    ROW_HAS_SESSION = "row_has_session"
    REVERSAL_MIRRORS = "reversal_mirrors"
    ONE_CURRENCY = "one_currency"
    CLOSED_STANDS_STILL = "closed_stands_still"
    USAGE_SUM = "usage_sum"
    STATEMENT_SUM = "statement_sum"


class Violation(NamedTuple):
    """Something that breaks an invariant: a session, a row of the ledger, a quarter-hour or a statement."""

    invariant: Invariant
    account_id: str
    what: str


# While statistics lag behind tables that grow fast, the planner would read them whole, or what it takes for a few rows
# once for each of many. Rows by their keys are found by an index, and then joined whole; sessions of rows one by one.
_WHOLE: Final = text("""
    SELECT set_config('enable_seqscan', 'off', true), set_config('enable_nestloop', 'off', true),
        set_config('enable_hashjoin', 'on', true), set_config('enable_mergejoin', 'on', true)
""")
_ONE_BY_ONE: Final = text("""
    SELECT set_config('enable_seqscan', 'off', true), set_config('enable_nestloop', 'on', true),
        set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)
""")

_SESSIONS: Final = text("""
    WITH these AS MATERIALIZED (
        SELECT id, status, terminal_ms, cost, currency, unrated_reason, failure_code, charge_sequence, charge_lines
        FROM sessions WHERE account_id = :account AND id = ANY(:ids)
    ), posted AS MATERIALIZED (
        SELECT session_id, kind, sequence, part, line, rate_card_id, started_at, duration_seconds, billed_seconds,
            quantity, unit_price, exact, amount, currency, list_amount
        FROM ledger WHERE account_id = :account AND session_id = ANY(:ids) AND kind IN ('charge', 'reversal')
    ), sums AS (
        SELECT session_id, sum(amount) AS amount FROM posted GROUP BY session_id
    ), paired AS (
        SELECT COALESCE(c.session_id, r.session_id) AS session_id, c.sequence AS charged, r.sequence AS reversed,
            c.line = r.line AND c.part = r.part AND c.rate_card_id IS NOT DISTINCT FROM r.rate_card_id
            AND c.started_at = r.started_at AND c.currency = r.currency AND c.unit_price = r.unit_price
            AND c.amount = -r.amount AND c.exact = -r.exact AND c.quantity = -r.quantity
            AND c.billed_seconds = -r.billed_seconds
            AND c.duration_seconds IS NOT DISTINCT FROM -r.duration_seconds
            AND c.list_amount IS NOT DISTINCT FROM -r.list_amount AS mirrors
        FROM (SELECT * FROM posted WHERE kind = 'charge') c
        FULL JOIN (SELECT * FROM posted WHERE kind = 'reversal') r
            ON r.session_id = c.session_id AND r.sequence = c.sequence
    ), standing AS (
        SELECT session_id, count(*) AS lines, min(charged) AS first, max(charged) AS last
        FROM paired WHERE reversed IS NULL GROUP BY session_id
    )
    SELECT 'session_sum' AS invariant, t.id FROM these t LEFT JOIN sums s ON s.session_id = t.id
        WHERE COALESCE(s.amount, 0) <> COALESCE(t.cost, 0)
    UNION ALL
    SELECT 'one_net_charge', t.id FROM these t LEFT JOIN standing n ON n.session_id = t.id
        WHERE CASE
            WHEN t.terminal_ms IS NULL THEN n.lines IS NOT NULL
            WHEN t.cost IS NULL THEN n.lines IS NOT NULL
                OR t.unrated_reason IS NULL AND NOT (t.status = 'failed' AND t.failure_code IS NOT NULL)
            ELSE t.unrated_reason IS NOT NULL OR t.charge_sequence = 0 OR n.lines IS DISTINCT FROM t.charge_lines
                OR n.last <> t.charge_sequence OR n.first <> t.charge_sequence - t.charge_lines + 1 END
    UNION ALL
    SELECT 'charge_there', t.id FROM these t
        WHERE t.charge_sequence > 0 AND NOT EXISTS (SELECT FROM posted p
            WHERE p.session_id = t.id AND p.kind = 'charge' AND p.sequence = t.charge_sequence)
    UNION ALL
    SELECT DISTINCT 'reversal_mirrors', session_id FROM paired WHERE reversed IS NOT NULL AND mirrors IS NOT TRUE
    UNION ALL
    SELECT 'one_currency', t.id FROM these t JOIN accounts a ON a.id = :account
        WHERE t.currency IS NOT NULL AND t.currency IS DISTINCT FROM a.currency
""")

_ROWS: Final = text("""
    WITH these AS MATERIALIZED (
        SELECT id, account_id, kind, session_id, currency, period, created_at
        FROM ledger WHERE id BETWEEN :first AND :last
    )
    SELECT 'row_has_session' AS invariant, t.account_id, t.id FROM these t
        WHERE t.kind IN ('charge', 'reversal')
            AND NOT EXISTS (SELECT FROM sessions s WHERE s.account_id = t.account_id AND s.id = t.session_id)
    UNION ALL
    SELECT 'one_currency', t.account_id, t.id FROM these t LEFT JOIN accounts a ON a.id = t.account_id
        WHERE t.currency IS DISTINCT FROM a.currency
    UNION ALL
    SELECT 'closed_stands_still', t.account_id, t.id
        FROM these t JOIN statements s ON s.account_id = t.account_id AND s.month = t.period
        WHERE s.status = 'closed' AND t.created_at > s.closed_at
""")

_USAGE: Final = text("""
    SELECT COALESCE(u.quarter, s.quarter) AS quarter
    FROM (
        SELECT * FROM usage_quarters WHERE account_id = :account AND quarter >= :begin AND quarter < :end
    ) u FULL JOIN (
        SELECT date_bin('15 minutes', rated_at, '2000-01-01Z') AS quarter, provider,
            COALESCE(template_id, 0) AS template_id, COALESCE(tag, '') AS tag, status,
            COALESCE(currency, '') AS currency,
            count(*) AS sessions, count(unrated_reason) AS unrated, sum(duration_seconds) AS duration_seconds,
            sum(billed_seconds) AS billed_seconds, sum(cost) AS amount, sum(COALESCE(list_cost, cost)) AS list_amount
        FROM sessions
        WHERE account_id = :account AND terminal_ms IS NOT NULL AND livemode AND rated_at >= :begin AND rated_at < :end
        GROUP BY 1, 2, 3, 4, 5, 6
    ) s USING (quarter, provider, template_id, tag, status, currency)
    WHERE COALESCE(u.sessions, 0) <> COALESCE(s.sessions, 0) OR COALESCE(u.unrated, 0) <> COALESCE(s.unrated, 0)
        OR COALESCE(u.duration_seconds, 0) <> COALESCE(s.duration_seconds, 0)
        OR COALESCE(u.billed_seconds, 0) <> COALESCE(s.billed_seconds, 0)
        OR COALESCE(u.amount, 0) <> COALESCE(s.amount, 0) OR COALESCE(u.list_amount, 0) <> COALESCE(s.list_amount, 0)
""")

_STATEMENT: Final = text("""
    SELECT s.number FROM statements s
    WHERE s.number = :number AND s.status = 'closed' AND (
        CAST(CAST(s.body AS jsonb) ->> 'subtotal' AS numeric) <> (SELECT COALESCE(sum(amount), 0) FROM (
            SELECT amount FROM ledger WHERE account_id = s.account_id AND reference IS NULL
                AND started_at >= s.month::timestamp AT TIME ZONE 'UTC'
                AND started_at < (s.month + interval '1 month') AT TIME ZONE 'UTC'
            UNION ALL
            SELECT amount FROM ledger WHERE account_id = s.account_id AND period = s.month AND reference IS NOT NULL
        ) counted)
        OR s.total <> CAST(CAST(s.body AS jsonb) ->> 'subtotal' AS numeric)
            + CAST(CAST(s.body AS jsonb) ->> 'rounding' AS numeric)
        OR s.sha256 <> sha256(convert_to(s.body, 'UTF8')))
""")


def of_sessions(connection: Connection, account_id: str, session_ids: Sequence[int]) -> Iterator[Violation]:
    """What is wrong with these sessions of an account and their rows."""
    given = {"account": account_id, "ids": list(session_ids)}
    for invariant, session_id in _found(connection, _SESSIONS, given):
        yield Violation(Invariant(invariant), account_id, f"session {session_id}")


def of_rows(connection: Connection, first: int, last: int) -> Iterator[Violation]:
    """What is wrong with the rows of the ledger from one id to another."""
    for invariant, account_id, row_id in _found(connection, _ROWS, {"first": first, "last": last}, planner=_ONE_BY_ONE):
        yield Violation(Invariant(invariant), account_id, f"row {row_id}")


def of_usage(connection: Connection, account_id: str, begin: datetime, end: datetime) -> Iterator[Violation]:
    """Which quarter-hours of an account, in [begin, end), do not add up. Both are beginnings of quarter-hours."""
    for (quarter,) in _found(connection, _USAGE, {"account": account_id, "begin": begin, "end": end}):
        yield Violation(Invariant.USAGE_SUM, account_id, f"quarter {quarter:%Y-%m-%dT%H:%MZ}")


def of_statement(connection: Connection, account_id: str, number: str) -> Iterator[Violation]:
    """Whether a closed statement is the sum of its rows, and its text what its digest was taken of."""
    for (found,) in _found(connection, _STATEMENT, {"number": number}):
        yield Violation(Invariant.STATEMENT_SUM, account_id, f"statement {found}")


def _found(
    connection: Connection, statement: TextClause, given: dict[str, Any], *, planner: TextClause = _WHOLE
) -> Iterator[Any]:
    connection.execute(planner)
    yield from connection.execute(statement, given)
