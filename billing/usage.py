"""What a session adds to the usage of its quarter of an hour; sums of those answer for every day of every time zone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import Connection, text

from billing.money import ARITHMETIC, ZERO

QUARTER: Final = timedelta(minutes=15)

_ADD: Final = text("""
    INSERT INTO usage_quarters AS u (account_id, quarter, provider, template_id, tag, status, currency,
        sessions, unrated, duration_seconds, billed_seconds, amount, list_amount)
    SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(
        account_id text, quarter timestamptz, provider text, template_id bigint, tag text, status text, currency text,
        sessions bigint, unrated bigint, duration_seconds numeric, billed_seconds bigint, amount numeric,
        list_amount numeric)
    ON CONFLICT (account_id, quarter, provider, template_id, tag, status, currency) DO UPDATE SET
        sessions = u.sessions + EXCLUDED.sessions,
        unrated = u.unrated + EXCLUDED.unrated,
        duration_seconds = u.duration_seconds + EXCLUDED.duration_seconds,
        billed_seconds = u.billed_seconds + EXCLUDED.billed_seconds,
        amount = u.amount + EXCLUDED.amount,
        list_amount = u.list_amount + EXCLUDED.list_amount
""")


class Key(NamedTuple):
    """Where a session is counted. A template of 0, and a tag or currency of '', is none."""

    account_id: str
    quarter: datetime
    provider: str
    template_id: int
    tag: str
    status: str
    currency: str


@dataclass(slots=True)
class Sums:
    """What is counted: sessions, those of them that could not be rated, seconds, and money in the key's currency."""

    sessions: int = 0
    unrated: int = 0
    duration_seconds: Decimal = ZERO
    billed_seconds: int = 0
    amount: Decimal = ZERO
    list_amount: Decimal = ZERO

    def add(self, other: Sums, *, times: int = 1) -> None:
        """Count another's in, or with -1 out."""
        self.sessions += times * other.sessions
        self.unrated += times * other.unrated
        self.billed_seconds += times * other.billed_seconds
        factor = Decimal(times)
        self.duration_seconds = ARITHMETIC.fma(other.duration_seconds, factor, self.duration_seconds)
        self.amount = ARITHMETIC.fma(other.amount, factor, self.amount)
        self.list_amount = ARITHMETIC.fma(other.list_amount, factor, self.list_amount)


Counted = tuple[Key, Sums]
"""One session's part."""


def quarter_of(moment: datetime) -> datetime:
    """When the quarter of an hour began that a moment is in."""
    return moment.replace(minute=moment.minute - moment.minute % 15, second=0, microsecond=0)


def add(connection: Connection, changes: Iterable[tuple[Counted | None, Counted | None]]) -> None:
    """Count sessions: each as it was counted before (None: not at all), and as it is now.

    Rows are written in the order of their keys, so that two transactions never wait for each other in a circle.
    """
    deltas: dict[Key, Sums] = {}
    for before, now in changes:
        if before == now:
            continue
        for counted, times in ((before, -1), (now, 1)):
            if counted is not None:
                deltas.setdefault(counted[0], Sums()).add(counted[1], times=times)
    rows = [_row(key, deltas[key]) for key in sorted(deltas) if deltas[key] != _NOTHING]
    if rows:
        connection.execute(_ADD, {"rows": msgspec.json.encode(rows).decode()})


def _row(key: Key, sums: Sums) -> dict[str, Any]:
    return key._asdict() | {name: getattr(sums, name) for name in Sums.__slots__}


_NOTHING: Final = Sums()
