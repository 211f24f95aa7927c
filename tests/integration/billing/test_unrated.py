"""Calls that could not be charged: counted, listed, and charged once what was missing is there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import text

from billing import unrated
from billing.unrated import Outcome
from relay.calls import TRUST_PROVIDER
from relay.errors import BadRequest, Conflict, NotFound
from relay.store import audit, rate_cards
from relay.store.database import Database
from tests.integration.billing.told import (
    START_MS,
    an_account,
    ended,
    ledger_of,
    one_database,
    owed,
    run,
    the_session,
    violations,
    write,
)

# One for all tests here.
__all__ = ["one_database"]


def stated(database: Database, account_id: str, seconds: str = "120", reason: str = "from the dashboard") -> None:
    """Say how long the one session of an account was."""
    session_id = the_session(database, account_id).id
    unrated.state_duration(
        database, account_id=account_id, session_id=session_id, seconds=seconds, reason=reason, actor="cli"
    )


def test_counts_by_account_and_reason(database: Database) -> None:
    """Charged calls and tests are not among them; every reason has a number for the metrics."""
    first, second = an_account(database), an_account(database, per_minute=None)
    write(database, ended(first, "a", seconds="never"), ended(first, "b", seconds=None), ended(first, "c"))
    write(database, ended(second, "a"), ended(second, "b"))
    with database.begin() as connection:
        counted = unrated.counts(connection)
        mine = unrated.counts(connection, account_id=second)
    ours = [one for one in counted if one.account_id in {first, second}]
    assert {(one.account_id, one.reason, one.sessions) for one in ours} == {
        (first, "duration_invalid", 1),
        (first, "duration_missing", 1),
        (second, "no_rate_card", 2),
    }
    assert [one.account_id for one in mine] == [second]
    by_reason = unrated.by_reason(ours)
    assert (by_reason["no_rate_card"], by_reason["duration_negative"]) == (2, 0)


def test_calls_without_a_card_are_charged_once_there_is_one(database: Database) -> None:
    """By the duration that was kept; only those whose beginning the card covers, and once."""
    account_id = an_account(database, per_minute=None)
    write(database, *[ended(account_id, f"c{number}", seconds="60") for number in range(300)])
    with database.begin() as connection:
        rate_cards.add(connection, account_id, per_minute=Decimal("0.10"))
    assert unrated.rate_what_can_be(database, account_id=account_id) == Outcome(300, 300)
    assert unrated.rate_what_can_be(database, account_id=account_id) == Outcome(0, 0)
    assert owed(database, account_id) == Decimal(30)
    assert violations(database, account_id) == []


def test_only_calls_since_a_moment_are_tried(database: Database) -> None:
    """Half-open: at the moment itself counts."""
    account_id = an_account(database, per_minute=None)
    write(database, ended(account_id, seconds="60"))
    began = datetime.fromtimestamp(START_MS / 1000, UTC)
    assert unrated.rate_what_can_be(database, account_id=account_id, since=began + timedelta(seconds=1)).seen == 0
    assert unrated.rate_what_can_be(database, account_id=account_id, since=began) == Outcome(1, 0)


def test_a_markup_is_charged_once_the_providers_cost_is_known(database: Database) -> None:
    """It may be told later than the call, by whoever asks the provider."""
    account_id = an_account(database, per_minute=None)
    with database.begin() as connection:
        rate_cards.add(connection, account_id, per_minute=Decimal(0), markup=Decimal("1.5"))
    write(database, ended(account_id, seconds="60"))
    assert the_session(database, account_id).unrated_reason == "provider_cost_missing"
    assert unrated.rate_what_can_be(database, account_id=account_id) == Outcome(1, 0)
    with database.begin() as connection:
        connection.execute(
            text("UPDATE sessions SET provider_cost_usd = 0.4 WHERE account_id = :id"), {"id": account_id}
        )
    assert unrated.rate_what_can_be(database, account_id=account_id) == Outcome(1, 1)
    assert owed(database, account_id) == Decimal("0.6")


@pytest.mark.parametrize("seconds", ["never", None, "-1", "90000"])
def test_a_stated_duration_charges_a_call_and_is_explained(database: Database, seconds: str | None) -> None:
    """The row says who said it and why, the audit trail too; a repeat of the bad event changes nothing."""
    account_id = an_account(database)
    bad = ended(account_id, kind="call_analyzed", seconds=seconds)
    write(database, bad)
    stated(database, account_id)
    write(database, bad)
    session, (row,) = the_session(database, account_id), ledger_of(database, account_id)
    assert (session.cost, session.unrated_reason, session.duration_seconds) == (Decimal("0.2"), None, 120)
    assert row.steps[0] == "120 s as stated by cli: from the dashboard"
    with database.begin() as connection:
        (entry,) = audit.page(connection, account_id=account_id, action="session.rated")
    assert entry.object_id == str(session.id)
    assert violations(database, account_id) == []


@pytest.mark.parametrize(("trust", "cost"), [(TRUST_PROVIDER, "0.1"), (TRUST_PROVIDER - 1, "0.2")])
def test_a_stated_duration_yields_to_the_providers_own_word_alone(database: Database, trust: int, cost: str) -> None:
    """What the account may sign itself does not outdo what was looked up."""
    account_id = an_account(database)
    write(database, ended(account_id, seconds=None, trust=trust))
    stated(database, account_id)
    write(database, ended(account_id, kind="call_analyzed", seconds="60", accepted_at_ms=START_MS + 9, trust=trust))
    assert the_session(database, account_id).cost == owed(database, account_id) == Decimal(cost)


@pytest.mark.parametrize(
    ("seconds", "reason", "field"),
    [
        ("-1", "x", "seconds"),
        ("1e9", "x", "seconds"),
        ("1.0001", "x", "seconds"),
        ("abc", "x", "seconds"),
        ("1", " ", "reason"),
    ],
)
def test_nonsense_is_not_stated(database: Database, seconds: str, reason: str, field: str) -> None:
    """Refused by the field's name."""
    account_id = an_account(database)
    write(database, ended(account_id, seconds=None))
    with pytest.raises(BadRequest) as refused:
        stated(database, account_id, seconds, reason)
    assert refused.value.field == field


def test_only_an_unrated_session_takes_a_stated_duration(database: Database) -> None:
    """Neither a charged one, nor one that is not there, nor one without a card."""
    account_id, bare = an_account(database), an_account(database, per_minute=None)
    write(database, ended(account_id), ended(bare, seconds=None))
    with pytest.raises(Conflict) as charged:
        stated(database, account_id)
    with pytest.raises(Conflict) as without_a_card:
        stated(database, bare)
    assert (charged.value.code, without_a_card.value.code) == ("session_not_unrated", "session_unratable")
    with pytest.raises(NotFound):
        unrated.state_duration(database, account_id=bare, session_id=1, seconds="1", reason="x", actor="cli")


def test_commands_list_and_charge(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is open, what to do, and that it was done."""
    account_id = an_account(database)
    write(database, ended(account_id, seconds=None))
    listed = run(database, monkeypatch, "unrated", "--account", account_id)
    assert "duration_missing" in listed.output
    assert "rate-unrated --session" in listed.output
    session_id = str(the_session(database, account_id).id)
    command = ["rate-unrated", "--account", account_id, "--session", session_id, "--seconds", "60"]
    assert run(database, monkeypatch, *command).exit_code == 2
    charged = run(database, monkeypatch, *command, "--reason", "looked up", "--json")
    assert '"cost":"0.100000"' in charged.output, charged.output
    assert run(database, monkeypatch, "unrated", "--account", account_id).output == "every call is charged\n"
    assert run(database, monkeypatch, "rate-unrated", "--account", account_id).exit_code == 0
