"""Credit notes: what is given back, by whom, and where it counts."""

from __future__ import annotations

import threading
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select

from billing.money import BillingError
from billing.statements import credit_notes
from billing.statements.credit_notes import CreditNote
from relay.errors import Conflict, NotFound
from relay.store import audit
from relay.store.database import Database, StatementRefused
from relay.store.tables import credit_notes as credit_note_rows
from relay.store.tables import ledger
from tests.integration.billing.months import AUGUST, JULY, JUNE, Books, books


@pytest.fixture
def acme(shared_database: Database) -> Books:
    """An account with a closed June of 10 USD."""
    made = books(shared_database)
    made.card()
    made.talk(("a", 6000))
    made.close(JUNE)
    return made


def issue(own: Books, amount: Any = "2.50", **other: Any) -> CreditNote:
    """A credit note of June."""
    words = {"reason": "an outage on 3 June", "actor": "ann@operator.example", "approver": "ben@operator.example"}
    return credit_notes.issue(own.database, own.account_id, JUNE, amount=amount, **{**words, **other})


def test_is_taken_off_the_next_statement(acme: Books) -> None:
    """A row below zero in the first open month, with the closed statement's number; that one does not change."""
    june = acme.statement()
    note = issue(acme)
    acme.talk(("b", 6000, JULY))
    acme.close(JULY)
    body = acme.statement(JULY).body
    assert acme.statement() == june
    assert body["total"] == "7.50"
    (shown,) = body["creditNotes"]
    assert shown == {
        "number": note.number,
        "reference": june.number,
        "reason": "an outage on 3 June",
        "amount": "-2.500000",
    }
    with acme.database.begin() as connection:
        row = connection.execute(select(ledger).where(ledger.c.conversation_id == note.number)).one()
    assert (row.kind, row.line, row.amount, row.period) == ("adjustment", "credit_note", Decimal("-2.5"), JULY)
    assert row.quantity * row.unit_price == row.exact == row.amount


def test_numbers_are_in_a_row(acme: Books) -> None:
    """One refused in between leaves no gap."""
    first = issue(acme)
    with pytest.raises(Conflict):
        issue(acme, "1000")
    second = issue(acme)
    assert int(second.number[-6:]) == int(first.number[-6:]) + 1
    assert first.number.startswith("CN-")


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"amount": "0"}, "amount"),
        ({"amount": "-1"}, "amount"),
        ({"amount": "0.005"}, "amount"),
        ({"amount": 1.5}, "amount"),
        ({"reason": " "}, "reason"),
        ({"reason": "a\nb"}, "reason"),
        ({"approver": ""}, "approver"),
        # Nobody approves what is one's own.
        ({"approver": "ANN@operator.example "}, "approver"),
    ],
)
def test_refuses_what_nobody_could_sign(acme: Books, given: dict[str, Any], field: str) -> None:
    """The field is named, and nothing is written."""
    with pytest.raises(BillingError) as refused:
        issue(acme, **given)
    assert refused.value.field == field
    with acme.database.begin() as connection:
        assert credit_notes.listed(connection, account_id=acme.account_id) == []


def test_gives_back_no_more_than_is_left(acme: Books) -> None:
    """All credit notes of a statement together; also when they are written at once."""
    issue(acme, "9")
    results: list[str] = []
    barrier = threading.Barrier(4)

    def compete() -> None:
        barrier.wait()
        try:
            issue(acme, "1")
        except Conflict as refused:
            results.append(refused.code)
        else:
            results.append("issued")

    threads = [threading.Thread(target=compete) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["credit_exceeds_statement"] * 3 + ["issued"]
    with acme.database.begin() as connection:
        assert credit_notes.left_of(connection, acme.account_id, JUNE) == 0


@pytest.mark.parametrize(("seconds", "left", "july"), [(3600, "6.00", -10), (0, "0.00", -10), (9000, "10.00", -5)])
def test_what_was_corrected_below_is_not_left(acme: Books, seconds: int, left: str, july: int) -> None:
    """It is on the next statement already; what was corrected above is not of this one."""
    acme.charge(acme.call("a", seconds, word=2))
    with pytest.raises(Conflict, match=f"^{left} USD of this"):
        issue(acme, "10.01")
    if Decimal(left):
        issue(acme, left)
    assert acme.statement(JULY).total == july


@pytest.mark.parametrize("corrected", [(9000, 3600), (3600, 9000)], ids=["up, then down", "down, then up"])
def test_corrections_in_two_statements_leave_no_more_than_was_paid(acme: Books, corrected: tuple[int, int]) -> None:
    """What one of them adds is given back of its own statement, and not of the first one again."""
    for word, (month, seconds) in enumerate(zip((JULY, AUGUST), corrected, strict=True), 2):
        acme.charge(acme.call("a", seconds, word=word))
        acme.close(month)
    paid = acme.total(JUNE, JULY, AUGUST)
    with acme.database.begin() as connection:
        left = [credit_notes.left_of(connection, acme.account_id, month) for month in (JUNE, JULY, AUGUST)]
    assert sum(left) == paid > 0


@pytest.mark.parametrize("june_seconds", [1800, 0])
def test_a_late_call_that_is_taken_back_is_not_credited_too(acme: Books, june_seconds: int) -> None:
    """Its charge is in July's total, and what takes it back says June: both together are what was paid."""
    acme.charge(acme.call("a", june_seconds, word=2))
    acme.talk(("late", 3000))
    acme.close(JULY)
    acme.charge(acme.call("late", 0, word=2))
    given = Decimal(0)
    for month in (JULY, JUNE):
        with acme.database.begin() as connection:
            left = credit_notes.left_of(connection, acme.account_id, month)
        if left:
            credit_notes.issue(
                acme.database, acme.account_id, month, amount=left, reason="r", actor="ann", approver="ben"
            )
            given += left
    acme.close(AUGUST)
    assert given == Decimal(june_seconds) / 600
    assert acme.total(JUNE, JULY, AUGUST) == 0


def test_a_correction_counts_with_what_its_months_price_gives_back(shared_database: Database) -> None:
    """A fee covers the minutes: that a call was shorter changes nothing of what is owed."""
    own = books(shared_database)
    own.card(month_price={"model": "included", "minutes": "100", "unitPrice": "0.10", "monthlyFee": "20"})
    own.talk(("a", 6000))
    own.close(JUNE)
    own.charge(own.call("a", 3000, word=2))
    for _ in range(2):
        with own.database.begin() as connection:
            assert credit_notes.left_of(connection, own.account_id, JUNE) == 20
        own.close(JULY)


def test_needs_a_closed_statement(acme: Books) -> None:
    """An open month is corrected where the mistake is."""
    acme.talk(("b", 60, JULY))
    with pytest.raises(NotFound):
        credit_notes.issue(acme.database, acme.account_id, JULY, amount=1, reason="r", actor="a", approver="b")


def test_is_listed_audited_and_never_changed(acme: Books) -> None:
    """The database refuses to."""
    note = issue(acme)
    with acme.database.begin() as connection:
        assert credit_notes.listed(connection, account_id=acme.account_id) == [note]
        assert credit_notes.listed(connection, after=(note.created_at, note.number), account_id=acme.account_id) == []
        change = audit.page(connection, account_id=acme.account_id, action="credit_note.issued")[0]
    assert (change.object_id, change.actor) == (note.number, "ann@operator.example")
    with pytest.raises(StatementRefused), acme.database.begin() as connection:
        connection.execute(credit_note_rows.update().values(amount=1))
