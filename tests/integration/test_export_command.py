"""`switchhook billing export`: where accounts' charges go, what waits, and what is tried again."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

from relay.cli import main
from relay.store.database import Database

pytestmark = pytest.mark.usefixtures("commands_provision")


def run(command: str, *words: str) -> Result:
    """What a command answers."""
    return CliRunner().invoke(main, ["billing", "export", command, *words])


def told(command: str, *words: str) -> Any:
    """The same as JSON."""
    result = run(command, *words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def queue(database: Database, account_id: str, code: str | None, *, ledger_id: int) -> None:
    """Put a row into the queue: one that waits, or one that is dead for a reason."""
    due = "now()" if code is None else "NULL"
    with database.begin() as connection:
        connection.execute(
            text(f"""INSERT INTO exports (destination, ledger_id, account_id, code, next_attempt_at)
                     VALUES ('lago', :ledger_id, :account_id, :code, {due})"""),
            {"ledger_id": ledger_id, "account_id": account_id, "code": code},
        )


def test_a_name_is_set_listed_and_removed(account_id: str) -> None:
    """And whoever sets one for a destination that is not configured is told so."""
    set_it = run("set", "--account", account_id, "--destination", "lago", "--customer", "sub_1")
    assert set_it.exit_code == 0
    assert "not configured" in set_it.output
    (listed,) = told("list")
    assert (listed["accountId"], listed["destination"], listed["customer"]) == (account_id, "lago", "sub_1")
    assert run("remove", "--account", account_id, "--destination", "lago").exit_code == 0
    assert "no charges" in run("list").output
    assert "no name" in run("remove", "--account", account_id, "--destination", "lago").output


def test_what_waits_and_what_is_dead_is_told_with_its_reasons(account_id: str, database: Database) -> None:
    """For each destination."""
    assert "nothing waits" in run("status").output
    for number, code in enumerate((None, "refused_422", "refused_422", "unknown_outcome")):
        queue(database, account_id, code, ledger_id=number)
    (status,) = told("status", "--account", account_id)
    assert (status["waiting"], status["dead"]) == (1, 3)
    assert status["codes"] == {"refused_422": 2, "unknown_outcome": 1}
    assert "refused_422: 2" in run("status").output
    assert told("status", "--account", "acc_nobody") == []


def test_dead_rows_are_tried_again_or_dropped(account_id: str, database: Database) -> None:
    """Those that may be counted already only where they are named."""
    for number, code in enumerate(("refused_422", "timeout", "unknown_outcome")):
        queue(database, account_id, code, ledger_id=number)
    assert [one["rows"] for one in told("retry", "--code", "timeout")] == [1]
    assert [one["rows"] for one in told("retry", "--destination", "lago")] == [1]
    assert told("drop") == []
    assert [one["rows"] for one in told("drop", "--code", "unknown_outcome")] == [1]
    (status,) = told("status")
    assert (status["waiting"], status["dead"]) == (2, 0)
    with database.begin() as connection:
        actions = connection.execute(text("SELECT action FROM audit WHERE object_id = 'lago' ORDER BY id")).scalars()
        assert list(actions) == ["export.retried", "export.retried", "export.dropped"]


def test_a_backfill_tells_how_many_rows_it_queued(account_id: str) -> None:
    """And needs a name first."""
    words = ("--account", account_id, "--destination", "stripe", "--since", "30d")
    assert "no name" in run("backfill", *words).output
    run("set", "--account", account_id, "--destination", "stripe", "--customer", "cus_1")
    assert told("backfill", *words) == {"destination": "stripe", "queued": 0}
    future = run("backfill", *words[:-1], "2999-01-01T00:00:00Z")
    assert future.exit_code == 2
