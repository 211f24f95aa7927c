"""Which rows of the ledger wait for which destination, and what each account is called there.

Rows are queued in the transaction that writes them to the ledger (billing.posting), and leave the queue when their
destination has them. A claim moves `next_attempt_at` ahead before anything is sent, so that what a process did not
finish is sent again; the identifier, which follows from the ledger's key, makes that harmless.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Literal, get_args

import msgspec
from sqlalchemy import ColumnElement, Connection, func, select, text
from sqlalchemy.dialects.postgresql import insert

from relay.errors import NotFound
from relay.store import accounts
from relay.store.charges import Charge, of_ids
from relay.store.tables import export_customers, exports, ledger

DestinationName = Literal["lago", "openmeter", "stripe"]
DESTINATIONS: Final[tuple[DestinationName, ...]] = get_args(DestinationName)

# What was sent and never answered may have been taken, and by now forgotten: only an operator can know.
UNKNOWN_OUTCOME: Final = "unknown_outcome"


class Customer(msgspec.Struct, frozen=True, kw_only=True):
    """What an account is called at a destination. Its rows from `first_ledger_id` on were queued for it."""

    account_id: str
    destination: str
    customer: str
    created_at: datetime
    first_ledger_id: int


class Claimed(msgspec.Struct, frozen=True, kw_only=True):
    """A row to send.

    attempt     counts from 1, and is this one
    claimed_at  when that was, by the database's clock
    sent_at     since when the destination may have it already; None: it has not
    customer    what its account is called there; None if it has no name there any more
    """

    charge: Charge
    attempt: int
    claimed_at: datetime
    sent_at: datetime | None
    customer: str | None


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """What is to become of a row that was not taken.

    attempt       as it was claimed
    wait_seconds  until the next attempt; None: there is none
    sent_at       since when the destination may have it all the same
    counts        False: it was not sent, and this was no attempt
    """

    ledger_id: int
    attempt: int
    wait_seconds: float | None
    code: str | None
    sent_at: datetime | None
    counts: bool = True


class Backlog(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What waits for a destination, since when, and what nobody tries any more."""

    destination: str
    waiting: int
    dead: int
    oldest_at: datetime | None
    oldest_age_seconds: float


class Dead(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of one account that were taken up again, or given up."""

    account_id: str
    destination: str
    count: int


_CLAIM: Final = text("""
    WITH due AS (
        SELECT destination, ledger_id, sent_at FROM exports
        WHERE destination = :destination AND next_attempt_at <= now()
        ORDER BY next_attempt_at LIMIT :most FOR UPDATE SKIP LOCKED
    )
    UPDATE exports e SET attempts = e.attempts + 1, next_attempt_at = now() + :lease,
        sent_at = COALESCE(e.sent_at, now())
    FROM due WHERE e.destination = due.destination AND e.ledger_id = due.ledger_id
    RETURNING e.ledger_id, e.account_id, e.attempts, due.sent_at, now() AS claimed_at
""")
# A row that another process has claimed since is its own to settle.
_SETTLE: Final = text("""
    UPDATE exports e SET attempts = e.attempts - CASE WHEN r.counts THEN 0 ELSE 1 END, code = COALESCE(r.code, e.code),
        next_attempt_at = now() + make_interval(secs => r.wait_seconds), sent_at = r.sent_at
    FROM jsonb_to_recordset(CAST(:rows AS jsonb))
        AS r(ledger_id bigint, attempt int, wait_seconds double precision, code text, sent_at timestamptz,
            counts boolean)
    WHERE e.destination = :destination AND e.ledger_id = r.ledger_id AND e.attempts = r.attempt
""")
_BACKLOGS: Final = text("""
    SELECT destination, count(next_attempt_at) AS waiting, count(*) - count(next_attempt_at) AS dead,
        min(created_at) FILTER (WHERE next_attempt_at IS NOT NULL) AS oldest_at,
        COALESCE(EXTRACT(EPOCH FROM now() - min(created_at) FILTER (WHERE next_attempt_at IS NOT NULL)), 0)::float8
            AS oldest_age_seconds
    FROM exports WHERE CAST(:account_id AS text) IS NULL OR account_id = :account_id
    GROUP BY destination ORDER BY destination
""")
_BACKFILL: Final = text("""
    INSERT INTO exports (destination, ledger_id, account_id)
    SELECT :destination, id, account_id FROM ledger WHERE account_id = :account_id AND id >= :first AND id < :end
    ON CONFLICT DO NOTHING
""")


def put_customer(connection: Connection, *, account_id: str, destination: str, customer: str) -> Customer:
    """Name an account at a destination, or rename it there: what is still queued goes to the new name.

    Whoever calls this keeps others from posting to the account meanwhile: no row is missed, and none is queued twice.
    Raises NotFound for the account.
    """
    accounts.get(connection, account_id)
    newest = select(func.coalesce(func.max(ledger.c.id), 0) + 1).where(ledger.c.account_id == account_id)
    row = {"account_id": account_id, "destination": destination, "customer": customer}
    named = insert(export_customers).values(row | {"first_ledger_id": newest.scalar_subquery()})
    again = named.on_conflict_do_update(index_elements=["account_id", "destination"], set_={"customer": customer})
    made = connection.execute(again.returning(*export_customers.c)).mappings().one()
    return Customer(**made)


def find_customer(connection: Connection, *, account_id: str, destination: str) -> Customer | None:
    """What an account is called at a destination, if it has a name there."""
    this = select(export_customers).where(_this(account_id, destination))
    row = connection.execute(this).mappings().one_or_none()
    return None if row is None else Customer(**row)


def get_customer(connection: Connection, *, account_id: str, destination: str) -> Customer:
    """The same. Raises NotFound."""
    found = find_customer(connection, account_id=account_id, destination=destination)
    if found is None:
        raise NotFound("this account has no name at this destination")
    return found


def customers(connection: Connection, *, account_id: str | None = None) -> list[Customer]:
    """The names of one account, or of all."""
    found = select(export_customers).order_by(export_customers.c.account_id, export_customers.c.destination)
    if account_id is not None:
        found = found.where(export_customers.c.account_id == account_id)
    return [Customer(**row) for row in connection.execute(found).mappings()]


def remove_customer(connection: Connection, *, account_id: str, destination: str) -> int:
    """Send nothing more of an account to a destination. Returns how many rows were taken off the queue."""
    connection.execute(export_customers.delete().where(_this(account_id, destination)))
    queued = (exports.c.account_id == account_id) & (exports.c.destination == destination)
    return connection.execute(exports.delete().where(queued)).rowcount


def backfill(connection: Connection, customer: Customer, *, since: datetime) -> int:
    """Queue the account's rows that were written since a moment and before it had its name; how many.

    Each row once, however often this is done. The same holds for who calls this as for `put_customer`.
    """
    older = (ledger.c.account_id == customer.account_id) & (ledger.c.created_at >= since)
    first = connection.execute(select(func.min(ledger.c.id)).where(older)).scalar_one()
    if first is None or first >= customer.first_ledger_id:
        return 0
    this = _this(customer.account_id, customer.destination)
    connection.execute(export_customers.update().where(this).values(first_ledger_id=first))
    rows = {"account_id": customer.account_id, "destination": customer.destination}
    return connection.execute(_BACKFILL, rows | {"first": first, "end": customer.first_ledger_id}).rowcount


def claim(connection: Connection, destination: str, *, most: int, lease: timedelta) -> list[Claimed]:
    """Take up to `most` rows that are due, for as long as `lease`, unless another process has them; oldest due first.

    What is not settled by then is due again.
    """
    found = connection.execute(_CLAIM, {"destination": destination, "most": most, "lease": lease}).all()
    if not found:
        return []
    charges = {charge.id: charge for charge in of_ids(connection, [row.ledger_id for row in found])}
    named = select(export_customers.c.account_id, export_customers.c.customer).where(
        export_customers.c.destination == destination,
        export_customers.c.account_id.in_({row.account_id for row in found}),
    )
    names = {row.account_id: row.customer for row in connection.execute(named)}
    claimed = [
        Claimed(
            charge=charges[row.ledger_id],
            attempt=row.attempts,
            claimed_at=row.claimed_at,
            sent_at=row.sent_at,
            customer=names.get(row.account_id),
        )
        for row in found
        if row.ledger_id in charges
    ]
    return sorted(claimed, key=lambda one: one.charge.id)


def remove(connection: Connection, destination: str, ledger_ids: Collection[int]) -> None:
    """The destination has these."""
    if ledger_ids:
        done = (exports.c.destination == destination) & exports.c.ledger_id.in_(ledger_ids)
        connection.execute(exports.delete().where(done))


def settle(connection: Connection, destination: str, rows: Sequence[Settled]) -> None:
    """Note what becomes of rows that were not taken."""
    if rows:
        connection.execute(_SETTLE, {"destination": destination, "rows": msgspec.json.encode(rows).decode()})


def backlogs(connection: Connection, *, account_id: str | None = None) -> list[Backlog]:
    """What waits for each destination that has anything in the queue: of one account, or of all."""
    return [Backlog(**row) for row in connection.execute(_BACKLOGS, {"account_id": account_id}).mappings()]


def dead_codes(connection: Connection, *, account_id: str | None = None) -> dict[str, dict[str, int]]:
    """Why rows are not tried any more: how many for each code, by destination."""
    counted = select(exports.c.destination, exports.c.code, func.count().label("rows")).where(
        exports.c.next_attempt_at.is_(None)
    )
    if account_id is not None:
        counted = counted.where(exports.c.account_id == account_id)
    ordered = counted.group_by(exports.c.destination, exports.c.code).order_by(exports.c.destination, exports.c.code)
    found: dict[str, dict[str, int]] = {}
    for row in connection.execute(ordered):
        found.setdefault(row.destination, {})[row.code or ""] = row.rows
    return found


def take_up(
    connection: Connection, *, account_id: str | None = None, destination: str | None = None, code: str | None = None
) -> list[Dead]:
    """Have rows that nobody tries any more tried again, from the first attempt.

    Rows with the code UNKNOWN_OUTCOME only where it is named: a destination that forgot them would count them twice.
    """
    again = exports.update().values(next_attempt_at=func.now(), attempts=0, code=None, sent_at=None)
    rows = again.where(*_dead(account_id, destination, code)).returning(exports.c.account_id, exports.c.destination)
    return _counted(connection.execute(rows))


def give_up(
    connection: Connection, *, account_id: str | None = None, destination: str | None = None, code: str | None = None
) -> list[Dead]:
    """Forget rows that nobody tries any more: the destination has them, or is not to have them."""
    rows = exports.delete().where(*_dead(account_id, destination, code))
    return _counted(connection.execute(rows.returning(exports.c.account_id, exports.c.destination)))


def _dead(account_id: str | None, destination: str | None, code: str | None) -> list[ColumnElement[bool]]:
    rows: list[ColumnElement[bool]] = [exports.c.next_attempt_at.is_(None)]
    if account_id is not None:
        rows.append(exports.c.account_id == account_id)
    if destination is not None:
        rows.append(exports.c.destination == destination)
    rows.append(exports.c.code.is_distinct_from(UNKNOWN_OUTCOME) if code is None else exports.c.code == code)
    return rows


def _counted(rows: Iterable[Any]) -> list[Dead]:
    counts = Counter((row.account_id, row.destination) for row in rows)
    return [
        Dead(account_id=account_id, destination=destination, count=count)
        for (account_id, destination), count in sorted(counts.items())
    ]


def _this(account_id: str, destination: str) -> ColumnElement[bool]:
    return (export_customers.c.account_id == account_id) & (export_customers.c.destination == destination)
