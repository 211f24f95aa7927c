"""Closing months: in order, once, whatever happens in between, and without losing what is charged meanwhile."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Literal

import pytest
from sqlalchemy import Connection, select, text

from billing.statements import DRAFT, closing, period_rows, settlement
from billing.statements.numbering import next_number
from relay.errors import Conflict, NotFound
from relay.store import audit
from relay.store.database import Database
from relay.store.tables import accounts, ledger
from tests.integration.billing.months import AUGUST, JULY, JUNE, LATER, Books, books, following, graduated

MAY = date(2026, 5, 1)


class CrashError(RuntimeError):
    """The process dies here."""


@pytest.fixture
def acme(shared_database: Database) -> Books:
    """An account at 0.10 a minute."""
    made = books(shared_database)
    made.card()
    return made


def closed_through(own: Books) -> date | None:
    """The newest month that is closed."""
    with own.database.begin() as connection:
        found: date | None = connection.execute(
            select(accounts.c.closed_through).where(accounts.c.id == own.account_id)
        ).scalar_one()
    return found


@pytest.mark.parametrize(
    ("after", "early", "code"),
    [
        (timedelta(microseconds=-1), False, "month_open"),
        # Nobody closes a month that is not over.
        (timedelta(microseconds=-1), True, "month_open"),
        (DRAFT - timedelta(microseconds=1), False, "month_in_draft"),
        (DRAFT - timedelta(microseconds=1), True, None),
        (DRAFT, False, None),
    ],
)
def test_closes_a_month_once_its_draft_is_over_or_the_operator_says_so(
    acme: Books, after: timedelta, early: bool, code: str | None
) -> None:
    """72 hours after its end by itself; never before its end."""
    acme.talk(("a", 60))
    now = following(JUNE) + after
    if code is None:
        assert [one.month for one in acme.close(now=now, early=early)] == [JUNE]
        return
    with pytest.raises(Conflict) as refused:
        acme.close(now=now, early=early)
    assert refused.value.code == code
    assert closed_through(acme) is None


def test_closes_earlier_months_first_and_each_once(acme: Books) -> None:
    """In order, with numbers in a row; a month without anything gets none, and closing again does nothing."""
    acme.talk(("a", 60, MAY), ("b", 60, JULY))
    made = acme.close(AUGUST)
    assert [one.month for one in made] == [MAY, JULY]
    numbers = [int(one.number[-6:]) for one in made if one.number]
    assert numbers == [numbers[0], numbers[0] + 1]
    assert closed_through(acme) == AUGUST
    assert acme.close(AUGUST) == acme.close(JUNE) == []


def test_numbers_have_no_gap_after_a_refused_closing(acme: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """A number that was taken by a transaction that failed is given to the next."""
    acme.talk(("a", 60))
    with monkeypatch.context() as broken:
        broken.setattr(closing, "next_number", _numbered_and_dead)
        with pytest.raises(CrashError):
            acme.close()
    assert closed_through(acme) is None
    with acme.database.begin() as connection:
        last = connection.execute(text("SELECT max(last) FROM document_numbers")).scalar_one() or 0
    (closed,) = acme.close()
    assert closed.number == f"S-2026-{last + 1:06d}"


def _numbered_and_dead(connection: Connection, kind: Literal["S", "CN"], *, year: int) -> str:
    next_number(connection, kind, year=year)
    raise CrashError


@pytest.mark.parametrize("dies_in", ["_end", "settlement.post", "made_body", "audit.record"])
def test_what_dies_in_between_is_ended_by_running_it_again(
    acme: Books, dies_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the halves, or anywhere in the second: the same number and text; what comes meanwhile counts later."""
    acme.card(month_price=graduated((None, "0.05")), effective_from=following(MAY))
    acme.talk(("a", 91))
    undisturbed = acme.statement().body

    def die(*_: object, **__: object) -> None:
        raise CrashError

    module, _, name = dies_in.rpartition(".")
    with monkeypatch.context() as broken:
        broken.setattr({"settlement": settlement, "audit": audit}.get(module, closing), name, die)
        with pytest.raises(CrashError):
            acme.close()
    acme.talk(("late", 60))
    assert acme.statement().state == "draft"
    (closed,) = acme.close()
    body = acme.statement().body
    assert closed.number == body["number"]
    assert body | {"number": None, "ledger": None} == undisturbed
    assert [one["class"] for one in acme.statement(JULY).body["lines"]] == ["Correction"]


def test_unfinished_month_is_ended_before_the_next_is_begun(acme: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later month's adjustments follow from an earlier one's."""
    acme.talk(("a", 60, JUNE), ("b", 60, JULY))
    with monkeypatch.context() as broken:
        broken.setattr(closing, "_end", lambda *_, **__: (_ for _ in ()).throw(CrashError()))
        with pytest.raises(CrashError):
            acme.close(JUNE)
    assert [one.month for one in acme.close(JULY)] == [JUNE, JULY]


def test_processes_that_close_one_month_at_once_close_it_once(acme: Books) -> None:
    """One makes the statement, the others find it made."""
    acme.talk(*((f"call_{number}", 60) for number in range(30)), ("july", 60, JULY))
    made: list[str | None] = []
    barrier = threading.Barrier(4)

    def compete() -> None:
        barrier.wait()
        made.extend(one.number for one in acme.close(JULY))

    _together([compete] * 4)
    assert len(made) == len(set(made)) == 2


def test_charging_while_months_are_closed_loses_nothing(acme: Books) -> None:
    """Every row is in exactly one statement, and the statements' ledgers come to what the ledger does."""
    acme.talk(("first", 60))
    is_over = threading.Event()
    charged = threading.Semaphore(0)
    numbers = itertools.count()

    def charge() -> None:
        while not is_over.is_set():
            number = next(numbers)
            acme.talk((f"call_{number}", 60 + number, JUNE if number % 2 else JULY))
            charged.release()

    def close() -> None:
        try:
            for month in (JUNE, JULY, AUGUST):
                for _ in range(6):
                    assert charged.acquire(timeout=20)
                acme.close(month)
        finally:
            is_over.set()

    _together([charge, charge, close])
    september = date(2026, 9, 1)
    acme.close(september)
    with acme.database.begin() as connection:
        own = ledger.c.account_id == acme.account_id
        whole = connection.execute(select(ledger.c.id, ledger.c.amount).where(own)).all()
        seen: list[int] = []
        for month in (JUNE, JULY, AUGUST, september):
            wanted = period_rows.of(acme.account_id, month)
            found = connection.execute(text(f"SELECT id FROM ({period_rows.ROWS}) r"), wanted)
            seen += found.scalars()
    assert sorted(seen) == sorted(row.id for row in whole)
    ledgers = [acme.statement(month).body["ledger"] for month in (JUNE, JULY, AUGUST, september)]
    assert sum(Decimal(one["amount"]) for one in ledgers if one) == sum(row.amount for row in whole)


def test_tells_of_each_statement_once_it_is_committed(acme: Books) -> None:
    """`on_closed` finds it in the database; the audit trail has it too."""
    acme.talk(("a", 60))
    told = []
    acme.close(on_closed=lambda closed: told.append((closed.number, acme.statement().number)))
    assert told == [(acme.statement().number,) * 2]
    with acme.database.begin() as connection:
        (change,) = audit.page(connection, account_id=acme.account_id)
    assert (change.action, change.object_id, change.actor) == ("statement.closed", acme.statement().number, "test")


def test_finds_what_is_due(acme: Books) -> None:
    """Accounts with months behind the last whose draft is over, and no others."""
    acme.talk(("a", 60))
    with acme.database.begin() as connection:
        month, waiting = closing.due(connection, now=following(JUNE) + DRAFT)
        listed = list(closing.waiting(connection, JUNE, account_id=acme.account_id))
    assert month == JUNE
    assert acme.account_id in waiting
    assert listed == [(acme.account_id, JUNE)]
    acme.close()
    with acme.database.begin() as connection:
        assert acme.account_id not in closing.due(connection, now=following(JUNE) + DRAFT)[1]
        assert list(closing.waiting(connection, JUNE, account_id=acme.account_id)) == []


@pytest.mark.parametrize(
    ("days", "hours", "month"),
    [(3, 0, JUNE), (2, 23, MAY), (30, 0, JUNE)],
)
def test_last_due_month_is_the_last_whose_draft_is_over(days: int, hours: int, month: date) -> None:
    """Days and hours after the end of June."""
    assert closing.last_due(following(JUNE) + timedelta(days=days, hours=hours)) == month


def test_an_account_that_is_not_there_has_nothing_to_close(shared_database: Database) -> None:
    """It is said so."""
    with pytest.raises(NotFound):
        closing.close(shared_database, "acc_nobodys", JUNE, actor="test", now=LATER)


def _together(jobs: Sequence[Callable[[], None]]) -> None:
    failures: list[BaseException] = []

    def run(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
