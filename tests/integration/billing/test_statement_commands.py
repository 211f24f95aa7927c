"""`switchhook billing statements|statement|close|credit-note|verify`, and the hourly closing of workers."""

from __future__ import annotations

import csv
import io
import json
import re
from decimal import Decimal
from typing import Any

import pytest
from click.testing import CliRunner, Result

from billing.statements import DRAFT, closing, settlement
from relay.cli import main
from relay.errors import Unavailable
from relay.store.database import Database
from tests.integration.billing.months import JULY, JUNE, Books, books, following
from workers.close import close_months


@pytest.fixture
def acme(shared_database: Database, monkeypatch: pytest.MonkeyPatch) -> Books:
    """An account that calls in June and July, in the database that the commands find."""
    monkeypatch.setenv("DATABASE_URL", shared_database.engine.url.render_as_string(hide_password=False))
    monkeypatch.setenv("REDIS_URL", "redis://unused.invalid")
    monkeypatch.setenv("SWITCHHOOK_KEYS", "a passphrase for tests only, long enough to be taken")
    made = books(shared_database)
    made.card(per_minute=Decimal(10))
    made.talk(("a", 60, JUNE), ("b", 91, JUNE), ("c", 60, JULY))
    return made


def run(*words: str) -> Result:
    """What a command answers."""
    return CliRunner().invoke(main, ["billing", *words])


def told(*words: str) -> Any:
    """Its JSON."""
    result = run(*words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_closes_months_after_showing_which(acme: Books) -> None:
    """A dry run changes nothing; then each statement is told of."""
    mine = ("--account", acme.account_id)
    listed = [{"accountId": acme.account_id, "month": month, "unrated": 0} for month in ("2026-06", "2026-07")]
    assert told("close", "2026-07", "--dry-run", *mine) == listed
    assert run("close", "2026-07", "--dry-run", *mine).stdout.count(acme.account_id) == 2
    result = run("close", "2026-07", *mine)
    assert result.exit_code == 0
    assert str(acme.statement(JUNE).number) in result.stdout
    assert f"closing 2026-06 of {acme.account_id}" in result.stderr
    assert told("close", "2026-07", *mine) == []


def test_closing_says_how_many_calls_are_not_charged(acme: Books) -> None:
    """In each month that is closed, and of accounts that get no statement."""
    poor = books(acme.database)
    poor.talk(("x", 60), ("y", 60))
    acme.charge(acme.call("lost", "-1"))
    (row,) = [one for one in told("close", "2026-06", "--dry-run") if one["accountId"] == acme.account_id]
    assert row["unrated"] == 1
    shown = run("close", "2026-06", "--dry-run")
    assert re.search(rf"{acme.account_id} +2026-06 +1\n", shown.stdout)
    assert "3 call(s) of these months, of 2 account(s), are not charged" in shown.stderr
    done = run("close", "2026-06", "--account", acme.account_id)
    assert re.search(r"USD +1\n", done.stdout)
    assert "1 call(s) of these months, of 1 account(s), are not charged" in done.stderr
    assert "not charged" not in run("close", "2026-07", "--account", acme.account_id).stderr


def test_closes_all_accounts_and_says_which_it_could_not(acme: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is busy is no reason to leave the others; the command ends with 1."""
    other = books(acme.database)
    other.card()
    other.talk(("x", 60))
    close = closing.close

    def but_not_acme(database: Database, account_id: str, *given: Any, **named: Any) -> Any:
        if account_id == acme.account_id:
            raise Unavailable("busy")
        return close(database, account_id, *given, **named)

    monkeypatch.setattr(closing, "close", but_not_acme)
    result = run("close", "2026-06")
    assert result.exit_code == 1
    assert f"{acme.account_id} is not closed: busy" in result.stderr
    assert str(other.statement(JUNE).number) in result.stdout


def test_month_that_is_not_over_is_refused(acme: Books) -> None:
    """Before anything is touched; what is no month, too."""
    assert "is not over" in run("close", "2999-01", "--now").output
    assert run("close", "june").exit_code == 2


def test_lists_statements(acme: Books) -> None:
    """Of one account or of all, in every state."""
    acme.close(JUNE)
    listed = told("statements", "--account", acme.account_id)
    assert isinstance(listed, list)
    assert [(one["month"], one["state"], one["total"]) for one in listed[-2:]] == [
        ("2026-07", "draft", "10.00"),
        ("2026-06", "closed", "25.17"),
    ]
    assert str(acme.statement(JUNE).number) in run("statements", "--month", "2026-06").stdout


@pytest.mark.parametrize("by", ["number", "month"])
def test_shows_a_statement_in_every_form(acme: Books, by: str) -> None:
    """As text, JSON, CSV and a page; by its number, or by account and month."""
    acme.close(JUNE)
    number = acme.statement(JUNE).number or ""
    which = [number] if by == "number" else ["--account", acme.account_id, "--month", "2026-06"]
    shown = told("statement", *which)
    assert isinstance(shown, dict)
    assert shown["statement"] == acme.statement(JUNE).body
    text = run("statement", *which).stdout
    assert re.search(r"Usage +2 +2.516667 min +10.00 USD/min +25.166667 USD\n", text)
    assert "25.17 USD" in text
    rows = list(csv.DictReader(io.StringIO(run("statement", *which, "--csv").stdout)))
    assert sum(Decimal(row["BilledCost"]) for row in rows) == Decimal("25.17")
    page = run("statement", *which, "--html").stdout
    assert f"<h1>Statement {number}</h1>" in page
    assert "billed in 1/1 seconds" in page
    assert "10.00 USD<small>per minute</small>" in page


@pytest.mark.parametrize(
    "words", [(), ("--account", "acc_1"), ("S-2026-000001", "--month", "2026-06"), ("S-1", "--csv", "--json")]
)
def test_says_how_a_statement_is_named(acme: Books, words: tuple[str, ...]) -> None:
    """A usage error."""
    assert run("statement", *words).exit_code == 2


def test_provisional_statement_says_so(acme: Books) -> None:
    """On the terminal too."""
    assert "Provisional" in run("statement", "--account", acme.account_id, "--month", "2026-07").stdout


def test_writes_a_credit_note(acme: Books) -> None:
    """Of two people; the next statement has it."""
    acme.close(JUNE)
    words = ("credit-note", "--account", acme.account_id, "--month", "2026-06", "--amount", "5", "--reason", "outage")
    note = told(*words, "--by", "ann", "--approved-by", "ben")
    assert isinstance(note, dict)
    assert (note["reference"], note["amount"]) == (acme.statement(JUNE).number, "5.00")
    assert acme.statement(JULY).total == 5
    refused = run(*words, "--by", "ann", "--approved-by", "ann")
    assert refused.exit_code == 1
    assert "somebody else" in refused.output


def test_verifies_closed_statements(acme: Books) -> None:
    """0 and a count where all is well; 1 and a list where it is not."""
    acme.close(JULY)
    mine = ("--account", acme.account_id)
    assert told("verify", "2026-06", *mine) == {"statements": 1, "differences": []}
    assert "come out as they were closed" in run("verify", "2026-06").stdout
    acme.tamper("UPDATE ledger SET amount = amount + 1 WHERE account_id = :account AND conversation_id = 'a'")
    result = run("verify", "2026-06", *mine)
    assert result.exit_code == 1
    assert "charge 1 of a" in result.stdout
    assert run("verify", "2026-07", *mine).exit_code == 0


def test_worker_closes_what_is_due(acme: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """June three days after its end and not before; an account in trouble keeps no other from it."""
    other = books(acme.database)
    other.card()
    other.talk(("x", 60))
    hour = DRAFT / 72
    close_months(acme.database, now=following(JUNE) + 71 * hour)
    assert acme.statement(JUNE).state == "draft"
    begin = settlement.settle
    first, second = sorted((acme, other), key=lambda one: one.account_id)

    def in_trouble(connection: Any, account: Any, *given: Any, **named: Any) -> Any:
        if account.id == first.account_id:
            raise Unavailable
        return begin(connection, account, *given, **named)

    with monkeypatch.context() as broken:
        broken.setattr(settlement, "settle", in_trouble)
        with pytest.raises(Unavailable):
            close_months(acme.database, now=following(JUNE) + 72 * hour)
    assert second.statement(JUNE).state == "closed"
    heard: list[str | None] = []
    made = close_months(
        acme.database, now=following(JUNE) + 72 * hour, on_closed=lambda closed: heard.append(closed.number)
    )
    assert made == len(heard) >= 1
    assert first.statement(JUNE).number in heard
    assert acme.statement(JULY).state == "draft"
