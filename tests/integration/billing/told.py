"""Facts of terminal events for tests of billing, and what became of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import func, select, text

from billing import invariants
from billing.ledger import charge
from relay.calls import TRUST_PROVIDER, CallEvent, CallStatus, Ending, Facts, derived_session_id
from relay.cli import main
from relay.connections import postgres_engine
from relay.demo.embedded import EmbeddedPostgres
from relay.settings import Settings
from relay.store import accounts, charges, rate_cards, sessions
from relay.store.charges import Charge
from relay.store.database import Database
from relay.store.sessions import Session
from relay.store.tables import ledger as ledger_table
from relay.store.tables import sessions as sessions_table

START_MS = int(datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp() * 1000)
_numbers = itertools.count(1)


def an_account(database: Database, *, per_minute: str | None = "0.10") -> str:
    """An account, at a price a minute unless it has no rate card."""
    with database.begin() as connection:
        account_id = accounts.create(connection, name="Acme").id
        if per_minute is not None:
            rate_cards.add(connection, account_id, per_minute=Decimal(per_minute))
    return account_id


def ended(
    account_id: str,
    conversation_id: str = "call_1",
    *,
    provider: str = "retell",
    kind: str = "call_ended",
    status: CallStatus = "completed",
    seconds: str | None = "91",
    started_at_ms: int | None = START_MS,
    ended_at_ms: int | None = None,
    accepted_at_ms: int = START_MS + 3_600_000,
    cost_usd: str | None = None,
    code: str | None = None,
    trust: int = TRUST_PROVIDER,
    session_id: int | None = None,
    template_id: int | None = None,
    livemode: bool = True,
) -> Facts:
    """The facts of a terminal event that the provider signed for us, unless its `trust` is another."""
    call = CallEvent(
        provider=provider,
        kind=kind,
        event_class="complete",
        conversation_id=conversation_id,
        livemode=livemode,
        ending=Ending(
            status=status,
            duration_seconds=seconds,
            started_at_ms=started_at_ms,
            ended_at_ms=ended_at_ms,
            provider_cost_usd=cost_usd,
            code=code,
        ),
    )
    return Facts(
        event_id=f"evt_{next(_numbers)}",
        account_id=account_id,
        call=call,
        session_id=session_id or derived_session_id(account_id, provider, conversation_id),
        accepted_at_ms=accepted_at_ms,
        template_id=template_id,
        trust=trust,
    )


def write(database: Database, *events: Facts) -> None:
    """Charge events as one batch."""
    with database.begin() as connection:
        charge(connection, events)


def the_session(database: Database, account_id: str) -> Session:
    """The one session of an account."""
    with database.begin() as connection:
        (session,) = sessions.page(connection, account_id=account_id)
    return session


def ledger_of(database: Database, account_id: str) -> list[Charge]:
    """The account's ledger, oldest first."""
    with database.begin() as connection:
        return charges.page(connection, account_id=account_id, limit=100_000)[::-1]


def owed(database: Database, account_id: str) -> Decimal:
    """What the account pays."""
    return sum((row.amount for row in ledger_of(database, account_id)), Decimal(0))


def violations(database: Database, account_id: str) -> list[tuple[str, str]]:
    """What of an account breaks an invariant, by name."""
    with database.begin() as connection:
        ids = list(
            connection.execute(select(sessions_table.c.id).where(sessions_table.c.account_id == account_id)).scalars()
        )
        mine = ledger_table.c.account_id == account_id
        first, last = connection.execute(
            select(func.coalesce(func.min(ledger_table.c.id), 0), func.coalesce(func.max(ledger_table.c.id), 0)).where(
                mine
            )
        ).one()
        begin, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC)
        found = [
            *invariants.of_sessions(connection, account_id, ids),
            *(one for one in invariants.of_rows(connection, first, last) if one.account_id == account_id),
            *invariants.of_usage(connection, account_id, begin, end),
        ]
    return [(one.invariant.value, one.what) for one in found]


def tamper(database: Database, statement: str, **given: object) -> None:
    """Change what nobody may change: without triggers."""
    with database.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text(statement), given)


def run(database: Database, monkeypatch: pytest.MonkeyPatch, *command: str) -> Result:
    """What a command of `switchhook billing` does with this database."""
    url = database.engine.url.render_as_string(hide_password=False)
    for name, value in {"DATABASE_URL": url, "REDIS_URL": "redis://unused", "SWITCHHOOK_KEYS": "k" * 32}.items():
        monkeypatch.setenv(name, value)
    return CliRunner().invoke(main, ["billing", *command])


@pytest.fixture(scope="module", name="database")
def one_database(
    embedded_postgres: EmbeddedPostgres, migrated_template: str, request: pytest.FixtureRequest
) -> Iterator[Database]:
    """One migrated database for all tests of a module: each has accounts of its own."""
    name = request.module.__name__.rpartition(".")[2]
    url = embedded_postgres.create_database(name, template=migrated_template)
    url = url.replace("postgresql://", "postgresql+psycopg://", 1)
    database = Database(postgres_engine(Settings(database_url=url, redis_url="", keys="")))
    yield database
    database.close()
    embedded_postgres.drop_database(name)
