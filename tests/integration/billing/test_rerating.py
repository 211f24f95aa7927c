"""Rating charged calls again: the survey, what is posted, and what a later event makes of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import text

from billing import rerating
from billing.periods import begins
from billing.rerating import Change, Selection, Totals
from billing.statements.consequences import price_differences
from relay.errors import BadRequest, NotFound
from relay.store import audit, rate_cards
from relay.store.database import Database
from tests.integration.billing.months import JULY, JUNE, books, graduated
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
DAY = timedelta(days=1)


def of(account_id: str, **more: object) -> Selection:
    """The calls of the day."""
    return Selection(account_id=account_id, begin=NOON - DAY, end=NOON + DAY, **more)  # type: ignore[arg-type]


def another_card(database: Database, account_id: str, *, per_minute: str = "1", offered: bool = True) -> str:
    """A card that is in force for nobody by itself."""
    with database.begin() as connection:
        return rate_cards.add(connection, account_id, per_minute=Decimal(per_minute), offered=offered).id


def surveyed(database: Database, selection: Selection, change: Change) -> Totals:
    """What the survey comes to."""
    totals = Totals()
    for one in rerating.survey(database, selection, change):
        totals.add(one)
    return totals


def rerated(database: Database, selection: Selection, change: Change) -> Totals:
    """What was posted after a survey."""
    expected = surveyed(database, selection, change)
    return rerating.rerate(database, selection, change, actor="cli", expected=expected)


def included(fee: str) -> dict[str, Any]:
    """A hundred minutes for so much."""
    return {"model": "included", "minutes": "100", "unitPrice": "0.1", "monthlyFee": fee}


def test_survey_tells_the_difference_and_changes_nothing(database: Database) -> None:
    """Old and new amounts of what changes; the ledger stays."""
    account_id = an_account(database)
    write(database, ended(account_id, "a", seconds="60"), ended(account_id, "b", seconds="0"))
    card_id = another_card(database, account_id)
    totals = surveyed(database, of(account_id), Change(card_id=card_id))
    assert (totals.sessions, totals.changed, totals.refused) == (2, 2, 0)
    assert (totals.old_amount, totals.new_amount, totals.difference) == (Decimal("0.1"), Decimal(1), Decimal("0.9"))
    assert len(ledger_of(database, account_id)) == 2


def test_rating_again_posts_reversal_and_charge_once(database: Database) -> None:
    """Repeated, it posts nothing more; sums, usage and session agree."""
    account_id = an_account(database)
    write(database, ended(account_id, seconds="60"))
    change = Change(card_id=another_card(database, account_id))
    assert rerated(database, of(account_id), change).changed == 1
    assert rerated(database, of(account_id), change).changed == 0
    assert [(row.kind, row.sequence) for row in ledger_of(database, account_id)] == [
        ("charge", 1),
        ("reversal", 1),
        ("charge", 2),
    ]
    session = the_session(database, account_id)
    assert (session.cost, session.rate_card_id, session.pinned_card_id) == (Decimal(1), change.card_id, change.card_id)
    assert violations(database, account_id) == []


def test_what_is_rated_by_a_card_stays_so_when_an_event_corrects_it(database: Database) -> None:
    """The card is pinned."""
    account_id = an_account(database)
    write(database, ended(account_id, seconds="60"))
    rerated(database, of(account_id), Change(card_id=another_card(database, account_id)))
    write(database, ended(account_id, kind="call_analyzed", seconds="120"))
    assert the_session(database, account_id).cost == owed(database, account_id) == Decimal(2)


def test_without_a_card_the_ones_in_force_by_now_count(database: Database) -> None:
    """A card that was added for the past; what it does not cover stays."""
    account_id = an_account(database)
    early = ended(account_id, "early", seconds="60", started_at_ms=START_MS - 7_200_000)
    write(database, early, ended(account_id, "late", seconds="60"))
    with database.begin() as connection:
        begin = NOON - timedelta(hours=1)
        rate_cards.add(connection, account_id, per_minute=Decimal(3), effective_from=begin)
    assert rerated(database, of(account_id), Change()).changed == 1
    assert owed(database, account_id) == Decimal("3.1")


@pytest.mark.parametrize("seconds", ["120", "0"])
def test_what_is_waived_costs_nothing_and_stays_so(database: Database, seconds: str) -> None:
    """At 0, with reason and list price; a later event corrects the list price and charges nothing."""
    account_id = an_account(database)
    write(database, ended(account_id, seconds="60"))
    rerated(database, of(account_id), Change(waive="outage of 20 November"))
    session = the_session(database, account_id)
    assert (session.cost, session.list_cost) == (Decimal(0), Decimal("0.1"))
    write(database, ended(account_id, kind="call_analyzed", seconds=seconds))
    session, newest = the_session(database, account_id), ledger_of(database, account_id)[-1]
    assert session.waived_reason == newest.reason == "outage of 20 November"
    assert (session.cost, owed(database, account_id)) == (Decimal(0), Decimal(0))
    assert session.list_cost == newest.list_amount == Decimal(seconds) / 600
    assert violations(database, account_id) == []


def test_a_waived_call_can_be_charged_again(database: Database) -> None:
    """By the one change that says so; no other lifts a waiver."""
    account_id = an_account(database)
    write(database, ended(account_id, seconds="60"))
    rerated(database, of(account_id), Change(waive="goodwill"))
    rerated(database, of(account_id), Change(card_id=another_card(database, account_id)))
    assert the_session(database, account_id).cost == Decimal(0)
    rerated(database, of(account_id), Change(charge_waived=True))
    assert the_session(database, account_id).cost == owed(database, account_id) == Decimal(1)


def test_calls_on_a_customers_own_key_stay_free(database: Database) -> None:
    """Their reason is not an operator's to change."""
    account_id = an_account(database)
    write(database, ended(account_id, seconds="60"))
    tamper(database, "UPDATE sessions SET own_key = true WHERE account_id = :account", account=account_id)
    rerated(database, of(account_id), Change())
    assert the_session(database, account_id).waived_reason == "own_provider_key"
    for change in (Change(waive="goodwill"), Change(charge_waived=True)):
        assert rerated(database, of(account_id), change).changed == 0


def test_selection_is_half_open_and_by_template_and_tag(database: Database) -> None:
    """From counts, to does not."""
    account_id = an_account(database)
    hour = 3_600_000
    write(database, *[ended(account_id, f"c{n}", seconds="60", started_at_ms=START_MS + n * hour) for n in range(3)])
    tamper(
        database,
        "UPDATE sessions SET tag = 'vip', template_id = 7 WHERE account_id = :account AND conversation_id = 'c1'",
        account=account_id,
    )
    window = Selection(account_id=account_id, begin=NOON, end=NOON + timedelta(hours=2))
    change = Change(waive="goodwill")
    assert surveyed(database, window, change).changed == 2
    for more in ({"tag": "vip"}, {"template_id": 7}):
        assert surveyed(database, of(account_id, **more), change).changed == 1
    assert surveyed(database, of(account_id, tag="none"), change).sessions == 0


def test_more_than_a_page_is_rated_again_and_another_accounts_calls_are_not(database: Database) -> None:
    """Pages follow one another, also among calls that began at one moment."""
    account_id, other = an_account(database), an_account(database)
    count = rerating.PAGE + 5
    write(database, *[ended(account_id, f"c{number}", seconds="60") for number in range(count)], ended(other))
    pages: list[int] = []
    change = Change(card_id=another_card(database, account_id))
    expected = surveyed(database, of(account_id), change)
    rerating.rerate(
        database,
        of(account_id),
        change,
        actor="cli",
        expected=expected,
        on_page=lambda done: pages.append(done.changed),
    )
    assert pages == [rerating.PAGE, count]
    assert owed(database, account_id) == Decimal(count)
    assert owed(database, other) == Decimal("0.151667")
    assert violations(database, account_id) == []


def test_calls_of_a_closed_month_are_corrected_in_the_open_one(database: Database) -> None:
    """The rows count in the next month and refer to the closed one."""
    account_id = an_account(database)
    write(database, ended(account_id, seconds="60"))
    with database.begin() as connection:
        connection.execute(text("UPDATE accounts SET closed_through = '2026-11-01' WHERE id = :id"), {"id": account_id})
    rerated(database, of(account_id), Change(waive="goodwill"))
    late = ledger_of(database, account_id)[1:]
    assert {(f"{row.period:%Y-%m}", row.reference) for row in late} == {("2026-12", "2026-11")}


@pytest.mark.parametrize("is_closed", [True, False], ids=["closed", "open"])
@pytest.mark.parametrize(
    ("old", "new", "difference"),
    [
        # The fee is due, and 0.10 a minute of ten minutes is within it.
        (None, included("50"), 49),
        # The fee of the card that is in force stays due, and the minutes are not within it any more.
        (included("50"), None, 1),
        # Four minutes at 1 and six at 0.50 become ten at 2.
        (graduated(("4", "1"), (None, "0.5")), graduated((None, "2")), 13),
    ],
)
def test_survey_foretells_what_statements_change_by(
    shared_database: Database,
    *,
    old: dict[str, Any] | None,
    new: dict[str, Any] | None,
    difference: int,
    is_closed: bool,
) -> None:
    """Call by call and by the prices of whole months: what is posted then changes them by just that."""
    own = books(shared_database)
    own.card(month_price=old)
    own.talk(("a", 240), ("b", 360), ("of July", 60, JULY))
    if is_closed:
        own.close(JUNE)
    before = own.total(JUNE, JULY)
    june = Selection(account_id=own.account_id, begin=begins(JUNE), end=begins(JULY))
    change = Change(card_id=own.card(offered=True, month_price=new).id)
    foretold = surveyed(own.database, june, change)
    with own.database.begin() as connection:
        prices = price_differences(connection, own.account_id, foretold.minutes)
    rerated(own.database, june, change)
    told = foretold.difference + sum(one.amount for one in prices)
    assert own.total(JUNE, JULY) - before == told == difference


def test_command_tells_of_the_prices_of_months(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each by month and card, and what statements change by in all."""
    account_id = an_account(database)
    write(database, ended(account_id, seconds="60"))
    with database.begin() as connection:
        card = rate_cards.add(
            connection, account_id, per_minute=Decimal("0.1"), offered=True, month_price=included("50")
        )
    command = ["rerate", "--account", account_id, "--from", "2026-11-01", "--to", "2026-12-01", "--card", card.id]
    shown = run(database, monkeypatch, *command, "--dry-run").output
    assert f"The price of 2026-11 as a whole by {card.id} changes by +49.900000 USD" in shown
    assert "Statements change by +49.900000 USD in all" in shown
    told = json.loads(run(database, monkeypatch, *command, "--dry-run", "--json").output)
    assert [(one["month"], one["rateCardId"]) for one in told["monthPrices"]] == [("2026-11", card.id)]
    assert Decimal(told["statementDifference"]) == Decimal("49.9")


def test_what_cannot_be_rated_so_is_told_and_stays(database: Database) -> None:
    """A card with a markup needs the provider's cost."""
    account_id = an_account(database)
    write(database, ended(account_id, "known", seconds="60", cost_usd="0.5"), ended(account_id, "not", seconds="60"))
    with database.begin() as connection:
        card = rate_cards.add(connection, account_id, per_minute=Decimal(0), markup=Decimal(2), offered=True)
    totals = rerated(database, of(account_id), Change(card_id=card.id))
    assert (totals.changed, totals.refused) == (1, 1)
    assert owed(database, account_id) == Decimal("1.1")
    assert violations(database, account_id) == []


def test_another_accounts_card_is_refused(database: Database) -> None:
    """Before anything is looked at."""
    account_id, other = an_account(database), an_account(database)
    change = Change(card_id=another_card(database, other))
    with pytest.raises(NotFound):
        surveyed(database, of(account_id), change)
    with pytest.raises(NotFound):
        rerating.rerate(database, of(account_id), change, actor="cli", expected=Totals())


@pytest.mark.parametrize("reason", ["", "  ", "x" * 201, "two\nlines", "own_provider_key"])
def test_a_reason_that_says_nothing_is_refused(reason: str) -> None:
    """It is on every row, and on the statement. Whose key a call ran on nobody can say here."""
    with pytest.raises(BadRequest) as refused:
        rerating.check(Change(waive=reason))
    assert refused.value.field == "waive"


def test_rating_again_is_in_the_audit_trail_before_anything_is_posted(database: Database) -> None:
    """With what it was and will be."""
    account_id = an_account(database)
    write(database, ended(account_id, seconds="60"))

    def stop(_: Totals) -> None:
        raise KeyboardInterrupt

    change, expected = Change(waive="goodwill"), Totals(1, 1, 0, Decimal("0.1"), Decimal(0))
    with pytest.raises(KeyboardInterrupt):
        rerating.rerate(database, of(account_id), change, actor="cli", expected=expected, on_page=stop)
    with database.begin() as connection:
        (entry,) = audit.page(connection, account_id=account_id, action="charges.rerated")
    assert entry.actor == "cli"
    assert entry.before_sha256 != entry.after_sha256


def test_command_shows_the_difference_and_asks(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dry run changes nothing, nobody to ask is refused, --yes posts."""
    account_id = an_account(database)
    write(database, ended(account_id, seconds="60"))
    command = ["rerate", "--account", account_id, "--from", "2026-11-01", "--to", "2026-12-01"]
    command += ["--waive", "goodwill"]
    shown = run(database, monkeypatch, *command, "--dry-run")
    assert "1 charged call(s), 1 change: 0.100000 USD becomes 0.000000 USD (-0.100000 USD)" in shown.output
    assert run(database, monkeypatch, *command).exit_code == 2
    assert owed(database, account_id) == Decimal("0.1")
    posted = run(database, monkeypatch, *command, "--yes", "--json")
    assert '"posted":1' in posted.output, posted.output
    assert owed(database, account_id) == Decimal(0)


def test_command_says_who_when_and_that_nothing_changes(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Moments with their zone, no sums of nothing, and the name for the audit trail."""
    account_id = an_account(database)
    write(database, ended(account_id, seconds="60"))
    command = ["rerate", "--account", account_id, "--from", "2026-11-01", "--to", "2026-12-01T01:00+01:00", "--yes"]
    same = run(database, monkeypatch, *command)
    assert same.output.splitlines() == [
        "Calls that began from 2026-11-01 00:00:00Z on and before 2026-12-01 00:00:00Z:",
        "1 charged call(s), and none of them changes",
    ]
    changed = run(database, monkeypatch, *command, "--waive", "goodwill", "--by", "ann")
    assert "2026-11-20 12:00:00Z" in changed.output, changed.output
    with database.begin() as connection:
        (entry,) = audit.page(connection, account_id=account_id, action="charges.rerated")
    assert entry.actor == "cli:ann"
    assert run(database, monkeypatch, *command, "--by", " ").exit_code == 2
