"""Calls of chosen moments, charged straight away, and months closed: what tests of statements are made of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import text

from billing import statements
from billing.ledger import charge
from billing.periods import next_month
from billing.statements import Statement, closing
from billing.statements.closing import Closed
from relay.calls import TRUST_PROVIDER, CallEvent, Ending, Facts, derived_session_id
from relay.store import accounts, rate_cards
from relay.store.database import Database
from relay.store.rate_cards import RateCardRow

JUNE: Final = date(2026, 6, 1)
JULY: Final = date(2026, 7, 1)
AUGUST: Final = date(2026, 8, 1)
LATER: Final = datetime(2027, 3, 1, tzinfo=UTC)
RANKS: Final = {1: "call_ended", 2: "call_analyzed", 3: "call_analyzed"}


@dataclass(frozen=True, slots=True)
class Books:
    """An account whose calls are charged in this process."""

    database: Database
    account_id: str

    def card(self, **card: Any) -> RateCardRow:
        """A rate card, at 0.10 a minute unless it says otherwise."""
        with self.database.begin() as connection:
            return rate_cards.add(connection, self.account_id, **{"per_minute": Decimal("0.10"), **card})

    def charge(self, *events: Facts) -> None:
        """Charge calls in one batch."""
        with self.database.begin() as connection:
            charge(connection, events)

    def call(
        self, name: str, seconds: int | str, *, at: date | datetime = JUNE, word: int = 1, template: int | None = None
    ) -> Facts:
        """A call of some seconds that began then; of two words about one call the higher counts."""
        began = at if isinstance(at, datetime) else datetime(at.year, at.month, 10, 12, tzinfo=UTC)
        began_ms = int(began.timestamp() * 1000)
        kind = RANKS[word]
        ending = Ending(status="completed", duration_seconds=str(seconds), started_at_ms=began_ms)
        call = CallEvent(
            provider="retell",
            kind=kind,
            event_class="event",
            conversation_id=name,
            dedupe=(kind, name),
            ending=ending,
        )
        return Facts(
            event_id=f"evt_{name}",
            account_id=self.account_id,
            call=call,
            session_id=derived_session_id(self.account_id, "retell", name),
            accepted_at_ms=began_ms + word,
            template_id=template,
            trust=TRUST_PROVIDER,
        )

    def talk(self, *calls: tuple[str, int] | tuple[str, int, date]) -> None:
        """Charge calls by their names, seconds and months."""
        self.charge(*(self.call(name, seconds, at=at[0] if at else JUNE) for name, seconds, *at in calls))

    def close(self, month: date = JUNE, **options: Any) -> list[Closed]:
        """Close everything up to a month."""
        return closing.close(self.database, self.account_id, month, actor="test", **{"now": LATER, **options})

    def statement(self, month: date = JUNE, *, now: datetime = LATER) -> Statement:
        """A month's statement as it is now."""
        with self.database.begin() as connection:
            return statements.of_month(connection, self.account_id, month, now=now)

    def total(self, *months: date) -> Decimal:
        """What some months come to together."""
        return sum((self.statement(month).total for month in months), Decimal(0))

    def tamper(self, change: str, table: str = "ledger") -> None:
        """Change what nothing may change, as somebody with the database's own password might."""
        with self.database.begin() as connection:
            connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
            connection.execute(text(change), {"account": self.account_id})
            connection.execute(text(f"ALTER TABLE {table} ENABLE TRIGGER USER"))

    def forget(self) -> None:
        """Have everything as before the first call."""
        for table in ("ledger", "sessions", "usage_quarters"):
            self.tamper(f"DELETE FROM {table} WHERE account_id = :account", table)
        # Everybody's, with the numbers.
        for table in ("credit_notes", "statements", "document_numbers"):
            self.tamper(f"DELETE FROM {table}", table)
        self.tamper("UPDATE accounts SET closed_through = NULL WHERE id = :account", "accounts")


def books(database: Database, name: str = "Acme", *, made: date = JUNE) -> Books:
    """The books of a new account, made then."""
    with database.begin() as connection:
        account_id = accounts.create(connection, name=name).id
        connection.execute(
            text("UPDATE accounts SET created_at = :made WHERE id = :account"),
            {"made": datetime(made.year, made.month, made.day, tzinfo=UTC), "account": account_id},
        )
    return Books(database, account_id)


def graduated(*tiers: tuple[str | None, str]) -> dict[str, Any]:
    """A month's price in tiers: up to so many minutes, each at so much."""
    return {"model": "graduated", "tiers": [{"upTo": bound, "unitPrice": price} for bound, price in tiers]}


def printed(statement: Statement) -> Iterable[Decimal]:
    """Every amount that a statement prints above its subtotal."""
    body = statement.body
    for part in ("lines", "monthPrices", "creditNotes"):
        yield from (Decimal(one["amount"]) for one in body[part])


def following(month: date) -> datetime:
    """The first moment after a month."""
    after = next_month(month)
    return datetime(after.year, after.month, 1, tzinfo=UTC)
