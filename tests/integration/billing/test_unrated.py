"""Calls that could not be charged: counted, listed, and charged once what was missing is there."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from billing import unrated
from billing.unrated import Outcome
from relay.calls import TRUST_PROVIDER
from relay.cli import main
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


def test_a_stated_duration_yields_to_whatever_the_provider_says_later(database: Database) -> None:
    """Also to its lesser word: Retell's end of the call, after an analysis that could not be charged."""
    account_id = an_account(database)
    write(database, ended(account_id, kind="call_analyzed", seconds="-5"))
    stated(database, account_id, "10")
    write(database, ended(account_id, kind="call_ended", seconds="600", accepted_at_ms=START_MS))
    assert the_session(database, account_id).cost == owed(database, account_id) == Decimal(1)
    with pytest.raises(Conflict) as refused:
        stated(database, account_id, "10")
    assert refused.value.code == "session_not_unrated"
    assert violations(database, account_id) == []


def test_a_stated_duration_may_be_stated_again(database: Database) -> None:
    """A slip of the hand is taken back and charged anew; what is said twice changes nothing. Each is audited."""
    account_id = an_account(database)
    write(database, ended(account_id, seconds=None))
    stated(database, account_id, "6000", "dashbord")
    stated(database, account_id, "60", "a digit too many")
    stated(database, account_id, "60", "once more")
    rows = ledger_of(database, account_id)
    assert [(row.kind, row.amount) for row in rows] == [("charge", 10), ("reversal", -10), ("charge", Decimal("0.1"))]
    assert rows[1].steps == ["reverses charge 1: a duration was stated"]
    assert rows[2].steps[0] == "60 s as stated by cli: a digit too many"
    with database.begin() as connection:
        assert len(audit.page(connection, account_id=account_id, action="session.rated")) == 2
    assert the_session(database, account_id).cost == Decimal("0.1")
    assert violations(database, account_id) == []


@pytest.mark.parametrize(
    ("provider", "seconds", "is_taken"),
    [
        ("retell", "86400", True),
        ("retell", "86400.001", False),
        ("agora", "259500", True),
        ("agora", "259501", False),
    ],
)
def test_no_longer_call_is_stated_than_its_provider_allows(
    database: Database, provider: str, seconds: str, is_taken: bool
) -> None:
    """The limit that the provider's own word has; it is refused by the field's name."""
    account_id = an_account(database)
    write(database, ended(account_id, provider=provider, seconds=None))
    if is_taken:
        stated(database, account_id, seconds)
        assert the_session(database, account_id).unrated_reason is None
        return
    with pytest.raises(BadRequest) as refused:
        stated(database, account_id, seconds)
    assert refused.value.field == "seconds"
    assert ledger_of(database, account_id) == []


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


def test_commands_list_each_call(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """What somebody needs who looks it up at the provider; tests are not listed, and the rest is counted."""
    account_id = an_account(database)
    calls = [ended(account_id, name, seconds=None) for name in ("open", "late")]
    write(database, *calls, ended(account_id, "fine"), ended(account_id, "test", seconds=None, livemode=False))
    whole = ["unrated", "--account", account_id, "--list"]
    listed = json.loads(run(database, monkeypatch, *whole, "--json").output)
    (one,) = [each for each in listed if each["conversationId"] == "open"]
    assert one == {
        "sessionId": one["sessionId"], "accountId": account_id, "provider": "retell", "conversationId": "open",
        "reason": "duration_missing", "durationSeconds": None, "ratedAt": "2026-11-20T12:00:00.000Z",
    }  # fmt: skip
    assert len(listed) == 2
    shown = run(database, monkeypatch, *whole, "--limit", "1").output.splitlines()
    assert shown[1].endswith("duration_missing           2026-11-20 12:00:00Z")
    assert shown[2:] == ["... and 1 more"]
    assert "2026-11-20 12:00:00Z" in run(database, monkeypatch, *whole[:-1]).output
    found = CliRunner().invoke(main, ["sessions", "--account", account_id, "--unrated", "--json"])
    assert {each["conversationId"] for each in json.loads(found.output)} == {"open", "late"}


def test_who_states_a_duration_is_in_the_audit_trail(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """By --by, which nothing else takes."""
    account_id = an_account(database)
    write(database, ended(account_id, seconds=None))
    mine = ["rate-unrated", "--account", account_id, "--by", "ann"]
    assert run(database, monkeypatch, *mine).exit_code == 2
    said = ["--session", str(the_session(database, account_id).id), "--seconds", "60", "--reason", "looked up"]
    assert run(database, monkeypatch, *mine, *said).exit_code == 0
    with database.begin() as connection:
        (entry,) = audit.page(connection, account_id=account_id, action="session.rated")
    assert entry.actor == "cli:ann"
