"""Rate cards: which one holds when, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from relay.errors import Conflict, NotFound
from relay.store import accounts, rate_cards
from relay.store.database import Database, StatementRefused

PRICE = Decimal("0.10")
MAY = datetime(2031, 5, 1, tzinfo=UTC)
JUNE = datetime(2031, 6, 1, tzinfo=UTC)


def test_the_first_card_holds_from_the_beginning_of_time_and_later_ones_from_now(
    database: Database, account_id: str
) -> None:
    """Calls from before the account had a card are charged by its first one."""
    with database.begin() as connection:
        first = rate_cards.add(connection, account_id, per_minute=PRICE)
        later = rate_cards.add(connection, account_id, per_minute=PRICE * 2)

        assert first.effective_from is None
        assert later.effective_from is not None
        assert abs(later.effective_from - later.created_at) < timedelta(minutes=1)
        assert accounts.get(connection, account_id).currency == "USD"


def test_keeps_every_term_of_a_card(database: Database, account_id: str) -> None:
    """What is read is what was added, to the last decimal."""
    with database.begin() as connection:
        added = rate_cards.add(
            connection,
            account_id,
            per_minute=Decimal("0.123456"),
            currency="EUR",
            initial_seconds=60,
            increment_seconds=6,
            connect_fee=Decimal("0.05"),
            free_seconds=10,
            min_charge=Decimal("0.01"),
            max_charge=Decimal(9),
            decimals=4,
            rounding="half_even",
            effective_from=MAY,
        )
        assert rate_cards.of_accounts(connection, [account_id])[account_id].by_id == {added.id: added}

    assert (added.per_minute, added.currency, added.effective_from) == (Decimal("0.123456"), "EUR", MAY)
    assert (added.initial_seconds, added.increment_seconds, added.free_seconds) == (60, 6, 10)
    assert (added.connect_fee, added.min_charge, added.max_charge) == (Decimal("0.05"), Decimal("0.01"), Decimal(9))
    assert (added.decimals, added.rounding) == (4, "half_even")


@pytest.mark.parametrize(
    ("minutes_from_may", "expected"),
    [
        (-(10**6), "first"),
        (-1, "first"),
        (0, "may"),  # ranges are half-open: a card holds at its own moment
        (31 * 24 * 60 - 1, "may"),
        (31 * 24 * 60, "june"),
        (10**6, "june"),
    ],
)
def test_the_card_in_force_is_chosen_by_moment(
    database: Database, account_id: str, minutes_from_may: int, expected: str
) -> None:
    """Whatever the order in which cards were added."""
    with database.begin() as connection:
        added = {
            "first": rate_cards.add(connection, account_id, per_minute=PRICE),
            "june": rate_cards.add(connection, account_id, per_minute=PRICE, effective_from=JUNE),
            "may": rate_cards.add(connection, account_id, per_minute=PRICE, effective_from=MAY),
        }
        cards = rate_cards.of_accounts(connection, [account_id])[account_id]

    assert cards.at(MAY + timedelta(minutes=minutes_from_may)) == added[expected]


def test_no_card_is_in_force_before_a_dated_first_one(database: Database, account_id: str) -> None:
    """Such a call is unrated, never free."""
    with database.begin() as connection:
        rate_cards.add(connection, account_id, per_minute=PRICE, effective_from=MAY)
        cards = rate_cards.of_accounts(connection, [account_id, "acc_none"])

    assert cards[account_id].at(MAY - timedelta(microseconds=1)) is None
    assert cards["acc_none"].at(MAY) is None


def test_an_account_has_one_currency(database: Database, account_id: str) -> None:
    """The refusal names the field."""
    with database.begin() as connection:
        rate_cards.add(connection, account_id, per_minute=PRICE, currency="EUR")
    with pytest.raises(Conflict) as refused, database.begin() as connection:
        rate_cards.add(connection, account_id, per_minute=PRICE, currency="USD")

    assert (refused.value.code, refused.value.field) == ("currency_mismatch", "currency")


def test_two_cards_cannot_begin_at_one_moment(database: Database, account_id: str) -> None:
    """Which of them held would be anyone's guess."""
    with database.begin() as connection:
        rate_cards.add(connection, account_id, per_minute=PRICE, effective_from=MAY)
    with pytest.raises(Conflict) as refused, database.begin() as connection:
        rate_cards.add(connection, account_id, per_minute=PRICE * 2, effective_from=MAY)

    assert refused.value.code == "rate_card_overlaps"


def test_an_unknown_account_gets_no_card(database: Database) -> None:
    """It is not found."""
    with pytest.raises(NotFound), database.begin() as connection:
        rate_cards.add(connection, "acc_none", per_minute=PRICE)


def test_a_card_that_makes_no_sense_is_refused_by_the_database_too(database: Database, account_id: str) -> None:
    """An increment of nothing would divide by zero."""
    with pytest.raises(StatementRefused) as refused, database.begin() as connection:
        rate_cards.add(connection, account_id, per_minute=PRICE, increment_seconds=0)

    assert refused.value.constraint == "rate_cards_increment_seconds_check"


def test_a_price_for_whole_months_ends_with_a_month(database: Database, account_id: str) -> None:
    """The card after it may not begin within one; where a month begins it may."""
    price = {"model": "included", "minutes": "100", "unitPrice": "0.10", "monthlyFee": "20"}
    july = JUNE.replace(month=7)
    with database.begin() as connection:
        for moment in (None, JUNE + timedelta(days=14), july.replace(month=8)):
            rate_cards.add(connection, account_id, per_minute=PRICE, effective_from=moment)
    for moment in (MAY, JUNE):
        with pytest.raises(Conflict) as refused, database.begin() as connection:
            rate_cards.add(connection, account_id, per_minute=PRICE, effective_from=moment, month_price=price)
        assert (refused.value.code, refused.value.field) == ("rate_card_mid_month", "from")
    with database.begin() as connection:
        rate_cards.add(connection, account_id, per_minute=PRICE, effective_from=july, month_price=price)
