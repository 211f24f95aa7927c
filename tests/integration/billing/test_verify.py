"""Statements computed again from what the ledger froze: whoever has changed anything is found."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from billing.statements import credit_notes, verifying
from billing.statements.verifying import Difference
from relay.store import charges
from relay.store.database import Database
from tests.integration.billing.months import JULY, JUNE, Books, books, graduated


@pytest.fixture
def acme(shared_database: Database) -> Books:
    """An account with corrections, fees, month prices and a credit note in a closed June and July."""
    made = books(shared_database)
    made.card(
        components={"platform": "0.06", "llm": "0.04"},
        connect_fee="0.02",
        month_price=graduated(("5", "0.09"), (None, "0.07")),
    )
    made.talk(("a", 91), ("b", 7), ("c", 600), ("zero", 0))
    made.charge(made.call("b", 13, word=2))
    made.close(JUNE)
    credit_notes.issue(made.database, made.account_id, JUNE, amount="0.10", reason="r", actor="a", approver="b")
    made.charge(made.call("c", 333, word=2))
    made.talk(("d", 61, JULY))
    made.close(JULY)
    return made


def differences(own: Books, *months: object) -> list[Difference]:
    """All, of both months."""
    with own.database.begin() as connection:
        return [one for month in (JUNE, JULY) for one in verifying.verify(connection, own.account_id, month)]


def test_finds_nothing_where_nobody_has_changed_anything(acme: Books) -> None:
    """Corrections, reversals, adjustments and credit notes come out as they were closed; open months are none of it."""
    seen: list[tuple[str, int]] = []
    with acme.database.begin() as connection:
        found = verifying.verify(connection, acme.account_id, JUNE, on_progress=lambda *told: seen.append(told))
        assert list(found) == []
        assert verifying.months(connection, JUNE, account_id=acme.account_id) == [
            (acme.account_id, acme.statement().number)
        ]
    assert differences(acme) == []
    # Three rows for each call, one for that of 0 s; `b` was charged twice.
    assert seen == [(acme.statement().number, 13)]


def test_cards_that_are_made_later_change_nothing(acme: Books) -> None:
    """Only what was known when the month was closed counts."""
    price = {"model": "included", "minutes": "1", "unitPrice": "1", "monthlyFee": "50"}
    acme.card(month_price=price, effective_from=datetime(2026, 6, 1, tzinfo=UTC))
    acme.talk(("later", 60, JULY))
    assert differences(acme) == []


CARDS: list[dict[str, Any]] = [
    {"min_charge": "0.05", "max_charge": "0.10"},
    {"currency": "JPY", "per_minute": Decimal("15.5"), "decimals": 0, "max_charge": "20", "connect_fee": "1"},
    {"components": {"platform": "0.06", "llm": "0.04"}, "min_charge": "0.049999", "max_charge": "0.10"},
    {"per_minute": Decimal(0), "markup": "1.300001", "min_charge": "0.05", "max_charge": "0.10"},
]


@pytest.mark.parametrize("card", CARDS)
def test_finds_nothing_on_cards_with_bounds(shared_database: Database, card: dict[str, Any]) -> None:
    """What is missing of a minimum, or beyond a maximum, is a sixtieth that never ends. Every row multiplies out."""
    own = books(shared_database)
    own.card(**card)
    told = [own.call("short", 7), own.call("long", 91), own.call("short", 13, word=2), own.call("longest", 3601)]
    for facts, asked in zip(told, ("0.0123457", "0.0777777", "0.001", "9"), strict=True):
        ending = facts.call.ending
        assert ending is not None
        own.charge(replace(facts, call=replace(facts.call, ending=replace(ending, provider_cost_usd=asked))))
    own.close(JUNE)
    assert differences(own) == []
    with own.database.begin() as connection:
        rows = charges.page(connection, account_id=own.account_id, limit=100)
    assert {"minimum", "maximum"} & {row.line for row in rows}
    for row in rows:
        assert abs(row.quantity * row.unit_price - row.exact) < Decimal("1e-18"), row
    for one in own.statement().body["lines"]:
        assert abs(Decimal(one["quantity"]) * Decimal(one["unitPrice"]) - Decimal(one["amount"])) < 2, one


MINE = "account_id = :account"
TAMPERED = [
    (f"UPDATE ledger SET amount = amount + 1 WHERE {MINE} AND conversation_id = 'a' AND part = 0", "amount"),
    (f"UPDATE ledger SET unit_price = 0.07 WHERE {MINE} AND conversation_id = 'a' AND part = 0", "unit_price"),
    (f"UPDATE ledger SET duration_seconds = 9 WHERE {MINE} AND conversation_id = 'a'", "billed_seconds"),
    (f"UPDATE ledger SET list_amount = 9 WHERE {MINE} AND conversation_id = 'd'", "list_amount"),
    (f"UPDATE ledger SET rate_card_id = 'rc_none' WHERE {MINE} AND conversation_id = 'a'", "rateCardId"),
    (f"UPDATE ledger SET amount = -9 WHERE {MINE} AND kind = 'reversal' AND line = 'llm'", "charge"),
    (f"UPDATE ledger SET duration_seconds = 1 WHERE {MINE} AND kind = 'reversal'", "charge"),
    (f"UPDATE ledger SET amount = amount - 1 WHERE {MINE} AND line = 'month_price' AND reference IS NULL", "amount"),
    (f"UPDATE ledger SET amount = -0.01 WHERE {MINE} AND line = 'credit_note'", "amount"),
    (f"UPDATE ledger SET tag = 'other' WHERE {MINE} AND conversation_id = 'a'", "lines"),
    (f"UPDATE ledger SET conversation_id = 'x', session_id = 5 WHERE {MINE} AND conversation_id = 'a'", "ledger"),
    (f"DELETE FROM ledger WHERE {MINE} AND conversation_id = 'd' AND part = 1", "lines"),
    (f"DELETE FROM ledger WHERE {MINE} AND line = 'month_price'", "amount"),
]


@pytest.mark.parametrize(("change", "field"), TAMPERED)
def test_finds_a_row_that_was_tampered_with(acme: Books, change: str, field: str) -> None:
    """Whichever: the field is named, and the statement's digest is another."""
    acme.tamper(change)
    found = differences(acme)
    assert field in {one.field for one in found}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (f"UPDATE statements SET total = total + 1 WHERE {MINE}", "total"),
        (f"UPDATE statements SET body = replace(body, 'platform', 'plotform') WHERE {MINE}", "sha256"),
        (f"UPDATE statements SET sha256 = sha256(body::bytea || 'x') WHERE {MINE}", "sha256"),
    ],
)
def test_finds_a_statement_that_was_tampered_with(acme: Books, change: str, field: str) -> None:
    """Its text, its digest or its total."""
    acme.tamper(change, "statements")
    assert field in {one.field for one in differences(acme)}


def test_rows_of_before_lines_are_rated_as_one(acme: Books) -> None:
    """An older version put the connect fee of a call into the row of its minutes."""
    plain = books(acme.database)
    plain.card(connect_fee="0.02")
    plain.talk(("old", 91))
    plain.tamper(f"DELETE FROM ledger WHERE {MINE} AND line = 'connect_fee'")
    plain.tamper(f"UPDATE ledger SET amount = amount + 0.02, exact = exact + 0.02, quantity = 91 / 60.0 WHERE {MINE}")
    plain.close(JUNE)
    assert differences(plain) == []
    plain.tamper(f"UPDATE ledger SET amount = amount + 0.01 WHERE {MINE}")
    assert "amount" in {one.field for one in differences(plain)}
