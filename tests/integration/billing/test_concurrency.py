"""Fifty workers charge the same and different calls at once, out of order, while months are closed."""

from __future__ import annotations

import random
import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal
from functools import partial
from typing import Final

from sqlalchemy import Connection, func, select, text

from billing import periods
from billing.ledger import Rated, charge
from billing.posting import uncontended
from relay.calls import TRUST_KEY, TRUST_PROVIDER, Facts
from relay.connections import postgres_engine
from relay.settings import Settings
from relay.store import accounts, rate_cards
from relay.store.database import Database
from relay.store.tables import ledger, sessions, usage_quarters
from tests.integration.billing.told import ended, violations

WORKERS: Final = 50
CALLS: Final = 120
BATCH: Final = 6
MONTHS: Final = (date(2026, 9, 1), date(2026, 10, 1))
DAY_MS: Final = 86_400_000
RANKS: Final = {"call_ended": 2, "call_analyzed": 3}


def the_accounts(database: Database) -> list[str]:
    """Two accounts at 0.10 USD a minute, a minute at least and then every six seconds, and 0.05 USD to connect."""
    made = []
    with database.begin() as connection:
        for name in ("Acme", "Bolt"):
            made.append(accounts.create(connection, name=name).id)
            rate_cards.add(
                connection,
                made[-1],
                per_minute=Decimal("0.10"),
                initial_seconds=60,
                increment_seconds=6,
                connect_fee=Decimal("0.05"),
            )
    return made


def the_events(chance: random.Random, account_ids: Sequence[str]) -> list[Facts]:
    """Of each call both terminal events, some with corrections and forgeries; each told three times."""
    events = []
    for number in range(CALLS):
        began = int(datetime(2026, 9, 1, tzinfo=UTC).timestamp() * 1000) + chance.randrange(85) * DAY_MS
        about = partial(ended, chance.choice(account_ids), f"call_{number}", started_at_ms=began)
        seconds, accepted = str(chance.randrange(1, 900)), began + DAY_MS
        corrected = chance.choice((seconds, str(chance.randrange(1, 900)), "soon"))
        told = [
            about(kind="call_ended", seconds=seconds, accepted_at_ms=accepted),
            about(kind="call_analyzed", seconds=corrected, accepted_at_ms=accepted + 1),
        ]
        if chance.random() < 0.3:
            told.append(about(kind="call_analyzed", seconds="1", accepted_at_ms=accepted + 2, trust=TRUST_KEY))
        events += told * 3
    chance.shuffle(events)
    return events


def the_price(seconds: int) -> Decimal:
    """What the card says, by arithmetic of its own."""
    billed = 60 if seconds <= 60 else 60 + -(-(seconds - 60) // 6) * 6
    return (Decimal("0.05") + Decimal(billed) / 600).quantize(Decimal("0.000001"), ROUND_HALF_UP)


def what_is_owed(events: Iterable[Facts]) -> dict[str, Decimal]:
    """By account: each call at the duration that the most authoritative usable word gave it."""
    best: dict[tuple[str, str], tuple[tuple[int, int, int], int]] = {}
    for facts in events:
        ending = facts.call.ending
        assert ending is not None
        assert ending.duration_seconds is not None
        if ending.duration_seconds == "soon":
            continue
        authority = (facts.trust, RANKS[facts.call.kind], facts.accepted_at_ms)
        key = (facts.account_id, facts.call.conversation_id)
        if key not in best or best[key][0] < authority:
            best[key] = (authority, int(ending.duration_seconds))
    owed: dict[str, Decimal] = defaultdict(Decimal)
    for (account_id, _), (authority, seconds) in best.items():
        assert authority[0] == TRUST_PROVIDER
        owed[account_id] += the_price(seconds)
    return dict(owed)


def sums(connection: Connection, account_id: str, month: date) -> tuple[int, Decimal]:
    """How many rows count in a month, and what they come to."""
    these = (ledger.c.account_id == account_id, ledger.c.period == month)
    row = connection.execute(select(func.count(), func.coalesce(func.sum(ledger.c.amount), 0)).where(*these)).one()
    return row[0], row[1]


def test_fifty_workers_charge_each_call_once_while_months_are_closed(settings: Settings) -> None:
    """The ledger ends as arithmetic says, to the last decimal; usage is its sum; closed months stand still."""
    chance = random.Random(7)
    database = Database(postgres_engine(settings, pool_size=WORKERS + 2))
    account_ids = the_accounts(database)
    events = the_events(chance, account_ids)
    batches = [events[place : place + BATCH] for place in range(0, len(events), BATCH)]
    # One call is charged before all, and its correction comes when all months are closed.
    began = int(datetime(2026, 9, 1, tzinfo=UTC).timestamp() * 1000)
    about = partial(ended, account_ids[0], "call_corrected_late", started_at_ms=began)
    early, late = about(kind="call_ended", seconds="100"), about(kind="call_analyzed", seconds="700")
    done = threading.Semaphore(0)
    barrier = threading.Barrier(WORKERS + 1)
    frozen: dict[tuple[str, date], tuple[int, Decimal]] = {}

    def charged(batch: list[Facts]) -> list[Rated]:
        with database.begin() as connection:
            return charge(connection, batch)

    def work(worker: int) -> None:
        mine = batches[worker::WORKERS]
        # What another one has, too: the same calls at the same moment.
        theirs = batches[(worker + 1) % WORKERS :: WORKERS]
        barrier.wait()
        for batch in (*mine, *theirs):
            uncontended(partial(charged, batch), tries=50)
            done.release()

    def close() -> None:
        barrier.wait()
        for month in MONTHS:
            for _ in range(len(batches) // 2):
                done.acquire()
            for account_id in account_ids:
                with database.begin() as connection:
                    periods.alone(connection, account_id)
                    update = text("UPDATE accounts SET closed_through = :month WHERE id = :id")
                    connection.execute(update, {"month": month, "id": account_id})
                    frozen[account_id, month] = sums(connection, account_id, month)

    uncontended(partial(charged, [early]))
    with ThreadPoolExecutor(WORKERS + 1) as pool:
        running = [pool.submit(work, worker) for worker in range(WORKERS)] + [pool.submit(close)]
        for one in running:
            one.result()
    uncontended(partial(charged, [late]))

    owed = what_is_owed([*events, early, late])
    with database.begin() as connection:
        for account_id in account_ids:
            of_ledger = select(func.sum(ledger.c.amount)).where(ledger.c.account_id == account_id)
            of_sessions = select(func.sum(sessions.c.cost)).where(sessions.c.account_id == account_id)
            of_usage = select(func.sum(usage_quarters.c.amount)).where(usage_quarters.c.account_id == account_id)
            found = [connection.execute(one).scalar_one() for one in (of_ledger, of_sessions, of_usage)]
            assert found == [owed[account_id]] * 3
        assert {key: sums(connection, *key) for key in frozen} == frozen
        assert all(count for count, _ in frozen.values())
        corrections = select(func.count()).where(ledger.c.reference.is_not(None))
        assert connection.execute(corrections).scalar_one() > 0
        assert connection.execute(select(func.count()).select_from(sessions)).scalar_one() == CALLS + 1
    assert [violations(database, account_id) for account_id in account_ids] == [[], []]
    database.close()
