"""What of the ledger counts in one account's statement of a month: as lines, as adjustments, and as a digest.

Everything here nets: a charge that was taken back within the month is in no line and in no digest, so that two
arrivals of the same events, in whatever order and with whatever corrections on the way, read the same.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import Connection, text

from billing import periods

# The rows of a month: those that began in it, and what came too late for its own month. An index finds either.
ROWS: Final = """
    SELECT * FROM ledger WHERE account_id = :account AND started_at >= :begins AND started_at < :ends
        AND reference IS NULL
    UNION ALL
    SELECT * FROM ledger WHERE account_id = :account AND period = :period AND reference IS NOT NULL
"""
# Of rows that no provider's conversation stands behind.
PROVIDER: Final = "switchhook"
_WAY: Final = "CASE kind WHEN 'reversal' THEN -1 ELSE 1 END"
_FETCHED: Final = 10_000

_LINES: Final = text(f"""
    SELECT line, rate_card_id, unit_price, template_id, tag, reason, reference, currency,
        sum({_WAY}) AS charges, COALESCE(sum({_WAY}) FILTER (WHERE part = 0), 0) AS sessions,
        sum(billed_seconds) AS billed_seconds,
        COALESCE(sum(billed_seconds) FILTER (WHERE part = 0), 0) AS session_seconds,
        sum(quantity) AS quantity, sum(amount) AS amount, sum(COALESCE(list_amount, amount)) AS list_amount
    FROM ({ROWS}) AS counted WHERE kind <> 'adjustment'
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
    HAVING sum({_WAY}) <> 0 OR sum(billed_seconds) <> 0 OR sum(amount) <> 0 OR sum(COALESCE(list_amount, amount)) <> 0
""")  # noqa: S608  constants

# They have a provider of their own, by which an index finds these few among all.
_ADJUSTMENTS: Final = text(f"""
    SELECT line, conversation_id, sequence, rate_card_id, started_at, amount, steps, reference
    FROM ({ROWS}) AS counted WHERE kind = 'adjustment' AND provider = '{PROVIDER}'
""")  # noqa: S608  constants

# Sequences tell in which order things were learned, and that is not what anybody owes. Nor does a session's
# conversation stand still: it may have been charged before its provider had named it.
_POSITIONS: Final = text(f"""
    SELECT jsonb_build_array(provider, call, line, rate_card_id, trim_scale(unit_price), reason, reference, currency,
            sum({_WAY}), sum(billed_seconds), trim_scale(sum(quantity)), trim_scale(sum(amount))
        )::text COLLATE "C" AS said,
        sum(billed_seconds) FILTER (WHERE part = 0) AS billed_seconds, sum(amount) AS amount
    FROM (SELECT *, COALESCE(session_id::text, conversation_id) AS call FROM ({ROWS}) AS counted) AS named
    GROUP BY provider, call, line, rate_card_id, unit_price, reason, reference, currency
    HAVING sum({_WAY}) <> 0 OR sum(billed_seconds) <> 0 OR sum(amount) <> 0
    ORDER BY said
""")  # noqa: S608  constants

_UNRATED: Final = text("""
    SELECT unrated_reason AS reason, count(*) AS sessions FROM sessions
    WHERE account_id = :account AND rated_at >= :begins AND rated_at < :ends AND unrated_reason IS NOT NULL AND livemode
    GROUP BY 1 ORDER BY 1
""")

_ANYTHING_FROM: Final = text("""
    SELECT LEAST(
        (SELECT min(started_at) FROM ledger WHERE account_id = :account AND started_at >= :begins
            AND reference IS NULL),
        (SELECT min(period)::timestamp AT TIME ZONE 'UTC' FROM ledger WHERE account_id = :account
            AND period >= :period AND reference IS NOT NULL))
""")


# A month of a million calls takes more than what a transaction usually may, and sorts more than fits the usual memory.
_TAKES_ITS_TIME: Final = text("""
    SELECT set_config('statement_timeout', '900s', true), set_config('work_mem', '64MB', true)
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class LineRow:
    """Charges that have in common what is paid for, and at which price.

    `charges` and `sessions` are net of what was taken back; a call counts as a session on the first row of its charge.
    `session_seconds` are those of the sessions, which the lines add up to.
    """

    line: str
    rate_card_id: str | None
    unit_price: Decimal
    template_id: int | None
    tag: str | None
    reason: str | None
    reference: str | None
    currency: str
    charges: int
    sessions: int
    billed_seconds: int
    session_seconds: int
    quantity: Decimal
    amount: Decimal
    list_amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class AdjustmentRow:
    """A month's price or a credit note, as the ledger has it."""

    line: str
    conversation_id: str
    sequence: int
    rate_card_id: str | None
    started_at: datetime
    amount: Decimal
    steps: list[str]
    reference: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """What a statement's ledger comes to: how many positions are not nothing, their sums, and a SHA-256 of them all."""

    positions: int
    billed_seconds: int
    amount: Decimal
    sha256: str


def take_time(connection: Connection) -> None:
    """Let this transaction read whole months, however many calls they have."""
    connection.execute(_TAKES_ITS_TIME)


def lines(connection: Connection, account_id: str, period: date) -> list[LineRow]:
    """The charges of a period, in no order."""
    return [LineRow(**row) for row in connection.execute(_LINES, of(account_id, period)).mappings()]


def adjustments(connection: Connection, account_id: str, period: date) -> list[AdjustmentRow]:
    """The adjustments that were posted in a period, in no order."""
    return [AdjustmentRow(**row) for row in connection.execute(_ADJUSTMENTS, of(account_id, period)).mappings()]


def unrated(connection: Connection, account_id: str, period: date) -> dict[str, int]:
    """How many calls of the month could not be charged, by reason; it changes when one of them is rated after all."""
    return {row.reason: row.sessions for row in connection.execute(_UNRATED, of(account_id, period))}


def digest(connection: Connection, account_id: str, period: date) -> Digest:
    """Each session's net position on each line, one JSON array on a line of its own, in the order of their bytes.

    Read a part at a time: a month of a million calls takes the memory of ten thousand.
    """
    sha256, positions, seconds, amount = hashlib.sha256(), 0, 0, Decimal(0)
    found = connection.execute(_POSITIONS, of(account_id, period), execution_options={"yield_per": _FETCHED})
    for said, billed_seconds, part in found:
        sha256.update(said.encode())
        sha256.update(b"\n")
        positions += 1
        seconds += int(billed_seconds or 0)
        amount += part
    return Digest(positions=positions, billed_seconds=seconds, amount=amount, sha256=sha256.hexdigest())


def anything_from(connection: Connection, account_id: str, period: date) -> date | None:
    """The first month, from this one on, in whose statement any row counts."""
    first: datetime | None = connection.execute(_ANYTHING_FROM, of(account_id, period)).scalar_one()
    return None if first is None else periods.month_of(first)


def of(account_id: str, period: date) -> dict[str, Any]:
    """The parameters of `ROWS`."""
    ends = periods.begins(periods.next_month(period))
    return {"account": account_id, "period": period, "begins": periods.begins(period), "ends": ends}
