"""Invariants of billing: each tells when it is broken, and all hold after any history."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from billing import inspection, rerating, unrated
from billing.invariants import Invariant
from billing.rerating import Change, Selection, Totals
from billing.statements import closing
from relay.calls import TRUST_KEY, TRUST_PROVIDER, TRUST_SOURCE, Facts
from relay.store import rate_cards
from relay.store.database import Database
from tests.integration.billing.told import (
    START_MS,
    an_account,
    ended,
    ledger_of,
    one_database,
    owed,
    run,
    tamper,
    the_session,
    violations,
    write,
)

# One for all tests here.
__all__ = ["one_database"]

NOON = datetime.fromtimestamp(START_MS / 1000, UTC)
HOUR_MS = 3_600_000


def a_corrected_call(database: Database) -> str:
    """An account with one call that was corrected: charge, reversal, charge."""
    account_id = an_account(database)
    write(database, ended(account_id, seconds="91"))
    write(database, ended(account_id, kind="call_analyzed", seconds="61"))
    return account_id


@pytest.mark.parametrize(
    ("statement", "broken"),
    [
        ("UPDATE sessions SET cost = cost + 0.000001", {"session_sum", "usage_sum"}),
        ("UPDATE ledger SET amount = 0.2 WHERE sequence = 2", {"session_sum"}),
        ("UPDATE sessions SET cost = NULL", {"session_sum", "one_net_charge", "usage_sum"}),
        ("UPDATE sessions SET charge_sequence = 1", {"one_net_charge"}),
        ("UPDATE sessions SET charge_sequence = 7", {"one_net_charge", "charge_there"}),
        ("UPDATE sessions SET terminal_ms = NULL", {"one_net_charge", "usage_sum"}),
        ("DELETE FROM ledger", {"session_sum", "one_net_charge", "charge_there"}),
        ("DELETE FROM ledger WHERE kind = 'reversal'", {"session_sum", "one_net_charge"}),
        ("UPDATE ledger SET amount = -0.1 WHERE kind = 'reversal'", {"session_sum", "reversal_mirrors"}),
        ("UPDATE ledger SET quantity = 9 WHERE kind = 'reversal'", {"reversal_mirrors"}),
        ("DELETE FROM ledger WHERE sequence = 1 AND kind = 'charge'", {"session_sum", "reversal_mirrors"}),
        ("UPDATE ledger SET currency = 'EUR'", {"one_currency"}),
        ("UPDATE sessions SET currency = 'EUR'", {"one_currency", "usage_sum"}),
        ("UPDATE ledger SET session_id = 1", {"row_has_session", "session_sum", "one_net_charge", "charge_there"}),
        ("DELETE FROM sessions", {"row_has_session", "usage_sum"}),
        ("UPDATE usage_quarters SET sessions = 2", {"usage_sum"}),
        ("UPDATE usage_quarters SET billed_seconds = 0", {"usage_sum"}),
        ("UPDATE usage_quarters SET duration_seconds = 1", {"usage_sum"}),
        ("UPDATE usage_quarters SET list_amount = 1", {"usage_sum"}),
        ("DELETE FROM usage_quarters", {"usage_sum"}),
        ("UPDATE sessions SET rated_at = rated_at + interval '1 hour'", {"usage_sum"}),
    ],
)  # fmt: skip
def test_each_invariant_tells_when_it_is_broken(database: Database, statement: str, broken: set[str]) -> None:
    """What somebody changed past the triggers is found by the invariants that it breaks, and by no others."""
    account_id = a_corrected_call(database)
    assert violations(database, account_id) == []
    whose = "account_id = :account"
    tamper(database, f"{statement} {'AND' if 'WHERE' in statement else 'WHERE'} {whose}", account=account_id)
    assert {name for name, _ in violations(database, account_id)} == broken
    for table in ("ledger", "sessions", "usage_quarters"):
        tamper(database, f"DELETE FROM {table} WHERE {whose}", account=account_id)


def test_closed_months_and_statements_are_checked(database: Database) -> None:
    """A row that was written into a closed month, and a statement that is not its rows."""
    account_id = an_account(database)
    write(database, ended(account_id, seconds="60"))
    later = datetime(2026, 12, 10, tzinfo=UTC)
    (closed,) = closing.close(database, account_id, NOON.date().replace(day=1), actor="cli", now=later, early=True)
    assert _of_statements(database) == []
    assert violations(database, account_id) == []
    tamper(database, "UPDATE ledger SET created_at = now() + interval '1 hour' WHERE account_id = :account",
           account=account_id)  # fmt: skip
    assert [name for name, _ in violations(database, account_id)] == ["closed_stands_still"]
    for broken in ("UPDATE ledger SET amount = amount + 1", "UPDATE statements SET total = total + 1"):
        tamper(database, f"{broken} WHERE account_id = :account", account=account_id)
        assert _of_statements(database) == [f"statement {closed.number}"]
        tamper(database, f"{broken.replace('+', '-')} WHERE account_id = :account", account=account_id)
    tamper(database, "UPDATE statements SET body = body || ' ' WHERE account_id = :account", account=account_id)
    assert _of_statements(database) == [f"statement {closed.number}"]
    for table in ("statements", "ledger", "sessions", "usage_quarters"):
        tamper(database, f"DELETE FROM {table} WHERE account_id = :account", account=account_id)


def _of_statements(database: Database) -> list[str]:
    report = inspection.everything(database)
    return [one.what for one in report.found[Invariant.STATEMENT_SUM].examples]


def test_recent_and_everything_find_what_is_theirs(database: Database) -> None:
    """What is old and untouched only everything finds; what was corrected lately, recent too, however old the call."""
    account_id = a_corrected_call(database)
    now = NOON + timedelta(days=60)
    tamper(database, "UPDATE ledger SET created_at = :old WHERE account_id = :account", old=NOON, account=account_id)
    assert inspection.recent(database, now=now).violations == 0
    tamper(database, "UPDATE sessions SET cost = 9 WHERE account_id = :account", account=account_id)
    assert inspection.everything(database).violations == 2
    assert inspection.recent(database, now=now + timedelta(days=60)).found[Invariant.USAGE_SUM].count in {0, 1}
    assert inspection.recent(database, now=NOON + timedelta(days=1)).violations == 2
    tamper(database, "UPDATE ledger SET created_at = :new WHERE account_id = :account AND sequence = 2",
           new=now, account=account_id)  # fmt: skip
    assert inspection.recent(database, now=now).violations == 2
    for table in ("ledger", "sessions", "usage_quarters"):
        tamper(database, f"DELETE FROM {table} WHERE account_id = :account", account=account_id)


def test_recent_looks_at_calls_without_rows_too(database: Database) -> None:
    """A call that ended yesterday, is not charged, and does not say why."""
    account_id = an_account(database)
    write(database, ended(account_id, seconds=None))
    tamper(database, "UPDATE sessions SET unrated_reason = NULL WHERE account_id = :account", account=account_id)
    found = inspection.recent(database, now=NOON + timedelta(days=1)).found
    assert found[Invariant.ONE_NET_CHARGE].count == 1
    for table in ("sessions", "usage_quarters"):
        tamper(database, f"DELETE FROM {table} WHERE account_id = :account", account=account_id)


def test_pages_cover_everything(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """In pages of two: each session and each row once."""
    monkeypatch.setattr(inspection, "_SESSIONS_AT_ONCE", 2)
    monkeypatch.setattr(inspection, "_ROWS_AT_ONCE", 2)
    account_id = an_account(database)
    write(database, *[ended(account_id, f"c{number}") for number in range(7)])
    for report in (inspection.everything(database), inspection.recent(database, now=NOON)):
        assert (report.sessions, report.violations) == (7, 0)
        assert report.rows >= 7
    for table in ("ledger", "sessions", "usage_quarters"):
        tamper(database, f"DELETE FROM {table} WHERE account_id = :account", account=account_id)


def test_command_ends_with_1_when_something_is_broken(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """And names it."""
    account_id = a_corrected_call(database)
    assert run(database, monkeypatch, "check", "--full").exit_code == 0
    tamper(database, "UPDATE sessions SET cost = 9 WHERE account_id = :account", account=account_id)
    broken = run(database, monkeypatch, "check", "--full")
    assert broken.exit_code == 1
    assert f"session_sum: session {the_session(database, account_id).id} of {account_id}" in broken.output
    assert '"session_sum":{"count":1' in run(database, monkeypatch, "check", "--full", "--json").output
    for table in ("ledger", "sessions", "usage_quarters"):
        tamper(database, f"DELETE FROM {table} WHERE account_id = :account", account=account_id)


def a_random_event(chance: random.Random, account_id: str) -> Facts:
    """A terminal event of one of ten calls, from whoever may sign it, with sense or without."""
    return ended(
        account_id,
        f"call_{chance.randrange(10)}",
        kind=chance.choice(("call_ended", "call_analyzed")),
        status=chance.choice(("completed", "completed", "failed")),
        seconds=chance.choice((None, "0", "-5", "soon", "1e6", "91", "0.5", str(chance.randrange(4000)))),
        started_at_ms=chance.choice((None, START_MS, START_MS - chance.randrange(60) * 24 * HOUR_MS)),
        accepted_at_ms=START_MS + chance.randrange(1000),
        code=chance.choice((None, None, "unreachable")),
        cost_usd=chance.choice((None, "0.07", "never")),
        trust=chance.choice((TRUST_KEY, TRUST_SOURCE, TRUST_PROVIDER)),
    )


@pytest.mark.parametrize("seed", range(6))
def test_they_hold_after_any_history(database: Database, seed: int) -> None:
    """Corrections, forged ends, nonsense, cards that come later, ratings by another card, waivers, closed months."""
    chance = random.Random(seed)
    account_id = an_account(database, per_minute=None)
    whole = Selection(account_id=account_id, begin=NOON - timedelta(days=100), end=NOON + timedelta(days=100))
    offered: list[str] = []

    def add_card() -> None:
        with database.begin() as connection:
            price = Decimal(chance.randrange(1, 500)) / 100
            fee = Decimal(chance.randrange(3)) / 10
            card = rate_cards.add(connection, account_id, per_minute=price, connect_fee=fee, offered=True)
            offered.append(card.id)
            began = None if chance.random() < 0.3 else NOON - timedelta(days=chance.randrange(90), seconds=len(offered))
            if not (began is None and _has_a_first(database, account_id)):
                rate_cards.add(connection, account_id, per_minute=price, connect_fee=fee, effective_from=began)

    def rerate() -> None:
        change = chance.choice((
            Change(card_id=chance.choice(offered) if offered else None),
            Change(),
            Change(waive="goodwill"),
            Change(charge_waived=True),
        ))  # fmt: skip
        rerating.rerate(database, whole, change, actor="cli", expected=Totals())

    def close() -> None:
        tamper(database, "UPDATE accounts SET closed_through = '2026-10-01' WHERE id = :account", account=account_id)

    for _ in range(60):
        step = chance.random()
        if step < 0.75:
            write(database, *[a_random_event(chance, account_id) for _ in range(chance.randrange(1, 6))])
        elif step < 0.85:
            add_card()
        elif step < 0.95:
            rerate()
        elif step < 0.98:
            unrated.rate_what_can_be(database, account_id=account_id)
        else:
            close()
    assert violations(database, account_id) == []
    assert any(row.kind == "reversal" for row in ledger_of(database, account_id))
    assert owed(database, account_id) >= 0


def _has_a_first(database: Database, account_id: str) -> bool:
    with database.begin() as connection:
        cards = rate_cards.of_account(connection, account_id=account_id)
    return any(card.effective_from is None and not card.offered for card in cards)
