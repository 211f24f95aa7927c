"""Statements: what they say, in every state, and that they add up as they are printed."""

from __future__ import annotations

import hashlib
from csv import DictReader
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO
from itertools import pairwise

import pytest
from msgspec.structs import replace

from billing import statements
from billing.statements import State, state_of
from billing.statements.body import canonical
from billing.statements.table import table
from relay.errors import NotFound
from relay.store.database import Database
from relay.store.rate_cards import Scope
from tests.integration.billing.months import AUGUST, JULY, JUNE, Books, books, following, graduated, printed


@pytest.fixture
def acme(shared_database: Database) -> Books:
    """An account without a card."""
    return books(shared_database)


@pytest.mark.parametrize(
    ("after", "is_closed", "state"),
    [
        (timedelta(microseconds=-1), False, State.OPEN),
        (timedelta(), False, State.DRAFT),
        (timedelta(hours=72), False, State.DRAFT),
        (timedelta(days=400), False, State.DRAFT),
        (timedelta(), True, State.CLOSED),
    ],
)
def test_a_month_is_open_then_a_draft_then_closed(after: timedelta, is_closed: bool, state: State) -> None:
    """It is a draft until somebody has closed it, however late that is."""
    assert state_of(JUNE, now=following(JUNE) + after, is_closed=is_closed) is state


@pytest.mark.parametrize(
    ("currency", "price", "total", "rounding"),
    [
        # 91 s, 7 s and 125 s, each rounded to six decimals.
        ("USD", "0.10", "0.37", "-0.001667"),
        ("JPY", "15.5", "58", "0.391667"),
        ("KWD", "0.0333", "0.124", "0.000235"),
    ],
)
def test_lines_add_up_as_printed(acme: Books, currency: str, price: str, total: str, rounding: str) -> None:
    """Lines and adjustments are the subtotal, and with one rounding line the total, in what the currency is paid in."""
    acme.card(per_minute=Decimal(price), currency=currency, connect_fee=Decimal(0))
    acme.talk(("a", 91), ("b", 7), ("c", 125))
    for statement in (acme.statement(now=following(JUNE)), (acme.close(), acme.statement())[1]):
        body = statement.body
        assert sum(printed(statement), Decimal(0)) == Decimal(body["subtotal"])
        assert Decimal(body["subtotal"]) + Decimal(body["rounding"]) == Decimal(body["total"]) == statement.total
        assert (body["total"], body["rounding"], body["currency"]) == (total, rounding, currency)
        assert "net of tax" in body["tax"]


def test_groups_lines_by_what_is_paid_for(acme: Books) -> None:
    """By kind, card, price, tag and class; each with its calls, minutes, quantity, list amount and amount."""
    card = acme.card(connect_fee=Decimal("0.02"), max_charge=Decimal("0.30"))
    other = acme.card(per_minute=Decimal("0.50"), scope=Scope(template_id=7))
    acme.talk(("a", 60), ("b", 120), ("long", 600))
    acme.charge(acme.call("t", 30, template=7))
    lines = {(one["line"], one["rateCardId"]): one for one in acme.statement().body["lines"]}
    usage = lines["usage", card.id]
    assert (usage["sessions"], usage["billedMinutes"], usage["unitPrice"]) == (3, "13.000000", "0.10")
    assert (usage["amount"], usage["listAmount"], usage["class"]) == ("1.300000", "1.300000", "Regular")
    assert lines["connect_fee", card.id]["quantity"] == "3.000000"
    most = lines["maximum", card.id]
    assert (most["sessions"], most["billedMinutes"], most["amount"]) == (1, None, "-0.720000")
    assert (most["quantity"], most["unitPrice"]) == ("0.720000", "-1.00")
    units = {row["x_Line"]: row["PricingUnit"] for row in DictReader(StringIO(table(acme.statement())))}
    assert units == {"usage": "Minutes", "connect_fee": "Calls", "maximum": "USD", "rounding": ""}
    assert (lines["usage", other.id]["templateId"], lines["usage", other.id]["amount"]) == (7, "0.250000")
    assert (acme.statement().body["sessions"], acme.statement().body["billedMinutes"]) == (4, "13.500000")


def test_what_was_taken_back_within_the_month_is_on_no_line(acme: Books) -> None:
    """A call that turned out to belong to a template's card leaves nothing on the other's."""
    acme.card()
    acme.charge(acme.call("a", 91), acme.call("a", 61, word=2))
    (line,) = acme.statement().body["lines"]
    assert (line["sessions"], line["amount"]) == (1, "0.101667")


def test_call_moved_to_another_month_counts_there_alone(acme: Books) -> None:
    """A better start takes the charge out of one open month and into the next."""
    acme.card()
    acme.charge(acme.call("a", 60, at=JUNE))
    acme.charge(acme.call("a", 60, at=JULY, word=2))
    assert acme.statement(JUNE).body["lines"] == []
    assert acme.total(JUNE, JULY) == Decimal("0.10")


def test_counts_what_could_not_be_charged(acme: Books) -> None:
    """Beside what is owed: absent is not zero."""
    acme.card()
    acme.talk(("a", 60))
    told = acme.call("b", 60)
    assert told.call.ending is not None
    ending = replace(told.call.ending, duration_seconds=None)
    acme.charge(replace(told, call=replace(told.call, ending=ending)))
    assert acme.statement().body["unrated"] == [{"reason": "duration_missing", "sessions": 1}]


def test_digest_is_of_the_canonical_text(acme: Books) -> None:
    """Whoever has the text can compute it, and it is what the database keeps."""
    acme.card(month_price=graduated((None, "0.05")))
    acme.talk(("a", 91))
    acme.close()
    statement = acme.statement()
    assert hashlib.sha256(canonical(statement.body)).hexdigest() == statement.sha256
    assert statement.body["ledger"]["amount"] == statement.body["subtotal"]


def test_ledgers_digest_is_of_each_sessions_net_position_in_order(acme: Books) -> None:
    """A JSON array on a line of its own, in the order of their bytes; corrections within the month do not show."""
    card = acme.card(connect_fee=Decimal("0.02"))
    events = [acme.call(f"call_{number}", 91) for number in range(9)]
    acme.charge(*events, acme.call("call_0", 61, word=2))
    acme.close()
    said = []
    for event in events:
        of_all = f'["retell", "{event.session_id}"'
        seconds, minutes, amount = 91, "1.51666666666666666667", "0.151667"
        if event.call.conversation_id == "call_0":
            seconds, minutes, amount = 61, "1.01666666666666666667", "0.101667"
        rest = f'"{card.id}", {{}}, null, null, "USD", 1, {seconds}'
        said.append(f'{of_all}, "usage", {rest.format("0.1")}, {minutes}, {amount}]\n')
        said.append(f'{of_all}, "connect_fee", {rest.format("0.02")}, 1, 0.02]\n')
    ledger = acme.statement().body["ledger"]
    assert ledger["sha256"] == hashlib.sha256("".join(sorted(said)).encode()).hexdigest()
    assert (ledger["positions"], ledger["billedSeconds"]) == (18, 8 * 91 + 61)


def test_lists_months_newest_first_across_states(acme: Books) -> None:
    """Open, draft and closed ones; a page goes on where the last one ended."""
    acme.card()
    acme.talk(("a", 60, JUNE), ("b", 60, JULY), ("c", 60, AUGUST))
    acme.close(JUNE)
    now = datetime(2026, 8, 2, tzinfo=UTC)
    with acme.database.begin() as connection:
        pages, before = [], None
        for _ in range(3):
            (one,) = statements.listed(connection, acme.account_id, now=now, before=before, limit=1)
            pages.append((one.month, one.state.value, one.number))
            before = one.month
        assert statements.listed(connection, acme.account_id, now=now, before=before, limit=1) == []
        whole = statements.listed(connection, acme.account_id, now=now, limit=10)
    assert pages == [(AUGUST, "open", None), (JULY, "draft", None), (JUNE, "closed", acme.statement().number)]
    assert all(one.month > other.month for one, other in pairwise(whole))


def test_provisional_corrections_name_the_statement_that_they_correct(acme: Books) -> None:
    """By its number, of month prices as of charges; as the closed statement will."""
    acme.card(month_price=graduated((None, "0.05")))
    acme.talk(("a", 91))
    acme.close(JUNE)
    acme.charge(acme.call("a", 31, word=2))
    acme.talk(("b", 60, JULY))
    number = acme.statement(JUNE).number
    provisional, _, closed = acme.statement(JULY).body, acme.close(JULY), acme.statement(JULY).body
    for body in (provisional, closed):
        assert {one["reference"] for one in body["lines"]} == {None, number}
        assert {one["month"]: one["reference"] for one in body["monthPrices"]} == {"2026-06": number, "2026-07": None}
    assert provisional["monthPrices"] == closed["monthPrices"]


def test_closed_month_without_anything_says_so(acme: Books) -> None:
    """It has no number, and nothing that could change."""
    acme.card()
    acme.close(JULY)
    statement = acme.statement(JULY)
    assert (statement.state, statement.number, statement.total) == (State.CLOSED, None, Decimal(0))


def test_month_that_has_not_begun_has_no_statement(acme: Books) -> None:
    """Nor has an account that is not there."""
    with pytest.raises(NotFound):
        acme.statement(AUGUST, now=following(JUNE))
    with pytest.raises(NotFound):
        Books(acme.database, "acc_nobodys").statement()
