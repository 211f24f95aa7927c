"""Writes bills: sessions, rows of the ledger, what is to be exported of those, and the sums of usage, as one.

The ledger only grows. Its key (account, provider, conversation id, kind, sequence) makes a second charge impossible
whatever is repeated; the sessions' rows are locked while their bills are decided.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from typing import Any, Final, TypeVar

import msgspec
from sqlalchemy import Connection, text

from billing import periods, usage
from billing.bills import Bill, Session
from billing.entries import Entry
from relay.errors import Conflict

Result = TypeVar("Result")

# Whoever loses a race for a session finds it written by the next try.
_TRIES: Final = 5
_CONTENDED: Final = "session_contended"

_SESSION_COLUMNS: Final = """
    account_id text, provider text, conversation_id text, id bigint, template_id bigint, agent_id text, status text,
    started_at timestamptz, ended_at timestamptz, duration_seconds numeric, billed_seconds int, currency text,
    cost numeric, list_cost numeric, unrated_reason text, waived_reason text, rate_card_id text, pinned_card_id text,
    tag text, own_key boolean, rated_at timestamptz, charge_sequence int, charge_lines smallint, terminal_rank smallint,
    terminal_trust smallint, terminal_ms bigint, provider_cost_usd numeric, provider_credits numeric, livemode boolean,
    completed_at timestamptz, turn_count int, failure_code text, reserved numeric
"""
_SESSION_NAMES: Final = tuple(column.split()[0] for column in _SESSION_COLUMNS.split(","))
# What tells sessions apart never changes; all else is as the locked row was read.
_CHANGING: Final = [name for name in _SESSION_NAMES if name not in {"account_id", "provider", "id"}]

_INSERT_SESSIONS: Final = text(f"""
    INSERT INTO sessions ({", ".join(_SESSION_NAMES)}, created_at)
    SELECT {", ".join("r." + name for name in _SESSION_NAMES)}, now()
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r({_SESSION_COLUMNS})
    ON CONFLICT DO NOTHING
""")  # noqa: S608  the columns are constants

_UPDATE_SESSIONS: Final = text(f"""
    UPDATE sessions s SET {", ".join(f"{name} = r.{name}" for name in _CHANGING)}
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r({_SESSION_COLUMNS})
    WHERE s.id = r.id AND s.account_id || '' = r.account_id
""")  # noqa: S608  the columns are constants

_ENTRY_COLUMNS: Final = """
    account_id text, provider text, conversation_id text, kind text, sequence int, session_id bigint,
    template_id bigint, rate_card_id text, started_at timestamptz, duration_seconds numeric, billed_seconds int,
    unit_price numeric, exact numeric, amount numeric, currency text, steps text[], line text, part smallint,
    quantity numeric, list_amount numeric, reason text, tag text, reference text, period date, provider_cost_usd numeric
"""
_ENTRY_NAMES: Final = ", ".join(column.split()[0] for column in _ENTRY_COLUMNS.split(","))

_INSERT_LEDGER: Final = text(f"""
    WITH written AS (
        INSERT INTO ledger ({_ENTRY_NAMES}, created_at)
        SELECT r.*, now() FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r({_ENTRY_COLUMNS})
        ON CONFLICT DO NOTHING
        RETURNING id, account_id
    ), queued AS (
        INSERT INTO exports (destination, ledger_id, account_id)
        SELECT c.destination, w.id, w.account_id FROM written w JOIN export_customers c ON c.account_id = w.account_id
    )
    SELECT count(*) FROM written
""")  # noqa: S608  the columns are constants


def post(connection: Connection, bills: Iterable[Bill], *, closed_through: Mapping[str, date]) -> None:
    """Write these bills' sessions, the rows that were added to them, and the change of their usage.

    `closed_through` is as periods.share told it, in this transaction. Raises Conflict when another process is writing
    the same new session at this moment: try the transaction again.
    """
    # In the order of their keys, so that two processes never wait for each other's locks in a circle.
    ordered = sorted(bills, key=lambda bill: (bill.session.account_id, bill.session.id))
    _write(connection, _INSERT_SESSIONS, [bill.session for bill in ordered if bill.is_new])
    _write(connection, _UPDATE_SESSIONS, [bill.session for bill in ordered if not bill.is_new])
    add_entries(
        connection,
        [(bill.session, entry) for bill in ordered for entry in bill.entries],
        closed_through=closed_through,
    )
    usage.add(connection, ((bill.before, bill.session.counted()) for bill in ordered))


def uncontended(attempt: Callable[[], Result], *, tries: int = _TRIES) -> Result:
    """Try a transaction until no other process writes the same sessions at its moment. Raises Conflict after a few."""
    for _ in range(tries - 1):
        try:
            return attempt()
        except Conflict as conflict:
            if conflict.code != _CONTENDED:
                raise
    return attempt()


def add_entries(
    connection: Connection, entries: Sequence[tuple[Session, Entry]], *, closed_through: Mapping[str, date]
) -> None:
    """Write rows of the ledger, each in its month: its own, or the first open one if that is closed."""
    counted = [periods.period_of(entry.started_at, closed_through.get(one.account_id)) for one, entry in entries]
    late = {
        (session.account_id, periods.month_of(entry.started_at))
        for (session, entry), (_, is_late) in zip(entries, counted, strict=True)
        if is_late
    }
    numbers = periods.numbers(connection, late)
    rows = []
    for (session, entry), (period, is_late) in zip(entries, counted, strict=True):
        month = periods.month_of(entry.started_at)
        reference = numbers.get((session.account_id, month), f"{month:%Y-%m}") if is_late else None
        rows.append(_row(session, entry, period=period, reference=reference))
    _check(add_rows(connection, rows), rows)


def add_rows(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> int:
    """Write rows of the ledger, column by column, and queue them for export; how many were not there yet."""
    if not rows:
        return 0
    return int(connection.execute(_INSERT_LEDGER, {"rows": msgspec.json.encode(rows).decode()}).scalar_one())


def _row(session: Session, entry: Entry, *, period: date, reference: str | None) -> dict[str, Any]:
    return {
        "account_id": session.account_id,
        "provider": session.provider,
        "conversation_id": session.conversation_id,
        "kind": entry.kind,
        "sequence": entry.sequence,
        "session_id": session.id,
        "template_id": entry.template_id,
        "rate_card_id": entry.rate_card_id,
        "started_at": entry.started_at,
        "duration_seconds": entry.duration_seconds,
        "billed_seconds": entry.billed_seconds,
        "unit_price": entry.unit_price,
        "exact": entry.exact,
        "amount": entry.amount,
        "currency": entry.currency,
        "steps": entry.steps,
        "line": entry.line,
        "part": entry.part,
        "quantity": entry.quantity,
        "list_amount": entry.list_amount,
        "reason": entry.reason,
        "tag": entry.tag,
        "reference": reference,
        "period": period,
        "provider_cost_usd": entry.provider_cost_usd,
    }


def _write(connection: Connection, statement: Any, rows: Sequence[Any]) -> None:
    if rows:
        written = connection.execute(statement, {"rows": msgspec.json.encode(rows).decode()})
        _check(written.rowcount, rows)


def _check(written: int, rows: Sequence[Any]) -> None:
    if written != len(rows):
        # Someone else wrote one of these at this moment; its row is locked or committed by the next try.
        raise Conflict("a session of this batch was written by another process; try again", code=_CONTENDED)
