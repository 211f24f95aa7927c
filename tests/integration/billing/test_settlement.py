"""Prices of a month, settled over real ledgers: every model, corrections, and any order of arrival."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select, text

from billing.periods import begins
from billing.rerating import Change, Selection, Totals, rerate
from billing.statements import verifying
from relay.store import rate_cards
from relay.store.database import Database
from relay.store.rate_cards import Scope
from relay.store.tables import ledger
from tests.integration.billing.months import AUGUST, JULY, JUNE, Books, books, graduated
from tests.waiting import eventually

VOLUME = graduated(("100", "0.08"), (None, "0.05")) | {"model": "volume"}
# 0.10 a minute call by call; what the month costs in the end.
MODELS = [
    # 150 min: 100 at 0.08 and 50 at 0.05.
    (graduated(("100", "0.08"), (None, "0.05")), 150, "10.50"),
    # A bound is inclusive: the hundredth minute is of the first tier, for all of them.
    (VOLUME, 100, "8"),
    # One minute more, and all are of the second.
    (VOLUME, 101, "5.05"),
    # A begun package is paid for: 150 min less 10 free are two packages of 100.
    ({"model": "package", "size": "100", "unitPrice": "9", "freeMinutes": "10"}, 150, "18"),
    # The fee covers 120 min, 30 more at 0.20.
    ({"model": "included", "minutes": "120", "unitPrice": "0.20", "monthlyFee": "15"}, 150, "21"),
]


@pytest.fixture
def acme(shared_database: Database) -> Books:
    """An account without a card."""
    return books(shared_database)


def adjustments(own: Books) -> list[Any]:
    """The adjustments that were posted, in their order."""
    with own.database.begin() as connection:
        found = select(ledger).where(ledger.c.kind == "adjustment", ledger.c.account_id == own.account_id)
        return list(connection.execute(found.order_by(ledger.c.id)))


@pytest.mark.parametrize(("price", "minutes", "total"), MODELS)
def test_settles_a_month_by_its_model(acme: Books, price: dict[str, Any], minutes: int, total: str) -> None:
    """What the calls were charged and the adjustment are together what the month costs; provisional until then."""
    acme.card(month_price=price)
    acme.talk(*((f"call_{number}", 60) for number in range(minutes - 1)), ("last", 60))
    before = acme.statement()
    acme.close()
    after = acme.statement()
    assert before.total == after.total == Decimal(total)
    (row,) = adjustments(acme)
    assert row.amount == Decimal(total) - minutes * Decimal("0.10")
    assert (row.quantity, row.unit_price, row.exact) == (1, row.amount, row.amount)
    assert row.steps[-1] == f"leaves {row.amount:f}"
    assert before.body["monthPrices"] == after.body["monthPrices"]


def test_keeps_what_is_not_a_minute_as_it_was_charged(acme: Books) -> None:
    """Connect fees stay beside the month's price, and components are settled together."""
    acme.card(
        connect_fee=Decimal("0.03"),
        components={"platform": "0.06", "llm": "0.04"},
        month_price=graduated((None, "0.05")),
    )
    acme.talk(("a", 90), ("b", 30))
    assert acme.statement().total == Decimal("0.16")  # 2 min at 0.05 and two fees


def test_waived_calls_count_in_no_tier(acme: Books) -> None:
    """A call on the customer's own key uses up no included minute."""
    acme.card(month_price={"model": "included", "minutes": "1", "unitPrice": "1", "monthlyFee": "0"})
    acme.talk(("a", 60))
    acme.charge(acme.call("b", 600))
    acme.tamper("UPDATE ledger SET amount = 0, exact = 0, unit_price = 0, reason = 'own_provider_key', "
                "list_amount = 1 WHERE conversation_id = 'b' AND account_id = :account")  # fmt: skip
    assert acme.statement().total == 0


def test_fee_is_due_in_a_month_without_calls(shared_database: Database) -> None:
    """From the month in which the account was made, for the card that is the account's; not for one of a tag."""
    acme = books(shared_database, made=date(2026, 1, 20))
    included = {"model": "included", "minutes": "100", "unitPrice": "0.10", "monthlyFee": "20"}
    acme.card(month_price=included)
    acme.card(month_price={**included, "monthlyFee": "99"}, scope=Scope(tag="sales"))
    acme.close(JUNE)
    assert acme.total(JUNE) == 20
    assert [row.started_at.month for row in adjustments(acme)] == [1, 2, 3, 4, 5, 6]


def test_fee_of_a_card_with_a_beginning_is_due_from_then_on(acme: Books) -> None:
    """A month before it has no statement, and says so with a total of nothing."""
    price = {"model": "included", "minutes": "0", "unitPrice": "0", "monthlyFee": "20"}
    acme.card(month_price=price, effective_from=datetime(2026, 6, 1, tzinfo=UTC))
    assert [(one.month, one.total) for one in acme.close(JULY)] == [(JUNE, Decimal(20)), (JULY, Decimal(20))]


def test_no_fee_is_due_before_the_account_was_made(acme: Books) -> None:
    """Not in a draft that nobody would close, and not because a call claims to be older than the account."""
    acme.card(month_price=fee_of("20"), effective_from=datetime(2020, 1, 1, tzinfo=UTC))
    assert acme.statement(date(2021, 3, 1)).total == 0
    acme.talk(("old", 0, date(2026, 3, 1)))
    acme.close(JULY)
    assert acme.total(date(2026, 4, 1), date(2026, 5, 1), JUNE, JULY) == 40


def test_card_added_for_a_closed_month_leaves_its_fee_as_it_was_settled(acme: Books) -> None:
    """Its only call is taken back, and a dearer card is added for it: the month still costs the fee of then."""
    acme.card(month_price=fee_of("50"))
    acme.talk(("a", 600))
    acme.close(JUNE)
    acme.charge(acme.call("a", 0, word=2))
    acme.card(month_price=fee_of("70"), effective_from=datetime(2026, 6, 1, tzinfo=UTC))
    assert [acme.total(month) for month in (JUNE, JULY)] == [50, 70]
    acme.close(JULY)
    with acme.database.begin() as connection:
        assert list(verifying.verify(connection, acme.account_id, JULY)) == []


def test_card_whose_making_overlaps_a_closing_is_settled_in_it_or_made_after_it(acme: Books) -> None:
    """The closing waits for a card that is being added, whose transaction began before: both agree on which it was."""
    acme.card()
    acme.talk(("a", 600))
    held, checked = threading.Event(), threading.Event()

    def add() -> None:
        with acme.database.begin() as connection:
            june = datetime(2026, 6, 1, tzinfo=UTC)
            rate_cards.add(
                connection,
                acme.account_id,
                per_minute=Decimal("0.10"),
                month_price=fee_of("50"),
                effective_from=june,
            )
            held.set()
            assert checked.wait(timeout=20)

    def has_waited() -> bool:
        waiting = text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        with acme.database.begin() as connection:
            return connection.execute(waiting).scalar_one() > 0 or closing.done()

    def begin_adding(_: str, month: date) -> None:
        """Between the two halves of closing."""
        assert month == JUNE
        pool.submit(add)
        assert held.wait(timeout=20)

    with ThreadPoolExecutor(2) as pool:
        closing = pool.submit(acme.close, JUNE, on_step=begin_adding)
        assert held.wait(timeout=20)
        eventually(has_waited, within_seconds=20, what="a closing that waits, or has not")
        checked.set()
        closing.result()
    acme.talk(("b", 60, JULY), ("late", 60))
    acme.close(JULY)
    with acme.database.begin() as connection:
        found = [one for month in (JUNE, JULY) for one in verifying.verify(connection, acme.account_id, month)]
    assert found == []


def test_calls_rated_again_by_a_card_added_for_a_closed_month_pay_its_fee_alone(acme: Books) -> None:
    """The fee of the card that they were on is given back."""
    acme.card(month_price=fee_of("50"))
    acme.talk(("a", 600))
    acme.close(JUNE)
    acme.card(month_price=fee_of("70"), effective_from=datetime(2026, 6, 1, tzinfo=UTC))
    june = Selection(account_id=acme.account_id, begin=begins(JUNE), end=begins(JULY))
    rerate(acme.database, june, Change(), actor="test", expected=Totals())
    assert acme.total(JUNE, JULY) == 140


def fee_of(fee: str) -> dict[str, Any]:
    """A hundred minutes for so much."""
    return {"model": "included", "minutes": "100", "unitPrice": "0.10", "monthlyFee": fee}


def corrected(own: Books, *, is_late: bool) -> None:
    """June with one call corrected, one late, one taken back, closed before all that or only after."""
    own.card(month_price=graduated(("3", "0.10"), (None, "0.01")))
    own.talk(("a", 120), ("b", 60), ("c", 60), ("other", 60, JULY))
    if is_late:
        own.close(JUNE)
    own.charge(own.call("a", 240, word=2))
    own.talk(("late", 90))
    own.charge(own.call("b", 0, word=2))
    own.close(JULY)


def test_corrections_of_a_closed_month_make_of_it_what_it_would_have_cost(shared_database: Database) -> None:
    """They are in the next statement, with its number; both together are what the month costs with all known."""
    late, early = books(shared_database), books(shared_database, "Early")
    corrected(late, is_late=True)
    corrected(early, is_late=False)
    assert late.total(JUNE, JULY) == early.total(JUNE, JULY)
    june, july = late.statement(JUNE), late.statement(JULY)
    assert {one["reference"] for one in july.body["lines"] if one["class"] == "Correction"} == {june.number}
    price = [one for one in july.body["monthPrices"] if one["class"] == "Correction"]
    assert [(one["reference"], one["month"]) for one in price] == [(june.number, "2026-06")]
    assert [row.sequence for row in adjustments(late) if row.started_at.month == 6] == [1, 2]


def test_second_correction_settles_only_what_is_left(acme: Books) -> None:
    """Each period takes off what the ones before it have settled already."""
    acme.card(month_price=graduated(("2", "1"), (None, "0.5")))
    acme.talk(("a", 60))
    acme.close(JUNE)
    acme.talk(("b", 60))
    acme.close(JULY)
    acme.talk(("c", 120))
    acme.close(AUGUST)
    assert acme.total(JUNE, JULY, AUGUST) == 3  # 2 at 1 and 2 at 0.5
    assert [row.sequence for row in adjustments(acme)] == [1, 2, 3]


def test_correction_that_changes_nothing_of_the_price_adds_no_row(acme: Books) -> None:
    """One call shorter and one longer by the same: the month costs what it did."""
    acme.card(month_price=graduated((None, "0.05")))
    acme.talk(("a", 60), ("b", 120))
    acme.close(JUNE)
    acme.charge(acme.call("a", 120, word=2), acme.call("b", 60, word=2))
    acme.close(JULY)
    assert len(adjustments(acme)) == 1


@pytest.mark.parametrize(("price", "total"), [(None, "1152000000000"), (graduated((None, "0.01")), "115.2")])
def test_sums_hold_many_calls_at_the_highest_price(acme: Books, price: dict[str, Any] | None, total: str) -> None:
    """Eight days of talk in a quarter of an hour: each call fits its columns, and so does what they come to."""
    acme.card(per_minute=Decimal(100_000_000), month_price=price)
    acme.talk(*((f"call_{number}", 86_400) for number in range(8)))
    acme.close()
    assert acme.statement().total == Decimal(total)


def test_shuffled_arrival_gives_the_identical_statement(acme: Books) -> None:
    """Calls, corrections and repeats in four orders and batches: the same text to the last byte."""
    acme.card(month_price=graduated(("10", "0.10"), (None, "0.07")))
    events = [acme.call(f"call_{number}", 7 + 13 * number) for number in range(40)]
    events += [acme.call(f"call_{number}", 11 + 17 * number, word=2) for number in range(0, 40, 3)]
    # What turns out to be of another month leaves nothing behind in this one.
    events += [acme.call("moved", 60), acme.call("moved", 60, at=JULY, word=2)]
    # Nor does the order in which its template becomes known.
    events += [acme.call("of a template", 60), acme.call("of a template", 61, word=2, template=7)]
    events += [acme.call("as long", 60), acme.call("as long", 60, word=2, template=7)]
    told = []
    for order in range(4):
        acme.forget()
        random.Random(order).shuffle(events)
        for start in range(0, len(events), 7 + order):
            acme.charge(*events[start : start + 7 + order])
        acme.close(JUNE)
        told.append(acme.statement())
    assert told[0].number == "S-2026-000001"
    assert {one.sha256 for one in told} == {told[0].sha256}
    assert all(one.body == told[0].body for one in told)


def test_a_month_without_prices_for_it_is_settled_by_nobody(acme: Books) -> None:
    """Cards of single calls need no adjustment."""
    acme.card()
    acme.talk(("a", 60))
    acme.close(date(2026, 6, 1))
    assert adjustments(acme) == []
