"""`switchhook billing budget set|list|remove`: what an operator does with the budgets of an account."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

import pytest
from click.testing import CliRunner, Result

from relay.cli import main
from relay.store import accounts, rate_cards
from relay.store.database import Database

pytestmark = pytest.mark.usefixtures("commands_provision")


@pytest.fixture
def account_id(database: Database) -> str:
    """An account with a price, and so a currency."""
    with database.begin() as connection:
        made = accounts.create(connection, name="Acme").id
        rate_cards.add(connection, made, per_minute=Decimal(1))
    return made


def run(account_id: str, command: str, *words: str) -> Result:
    """What a command answers."""
    return CliRunner().invoke(main, ["billing", "budget", command, "--account", account_id, *words])


def said(account_id: str, command: str, *words: str) -> Any:
    """The same as JSON."""
    done = run(account_id, command, *words, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


def test_a_budget_is_made_changed_listed_and_removed(account_id: str) -> None:
    """As the API shows it; what is not given stays."""
    assert run(account_id, "list").output == "no budgets yet\n"
    made = said(account_id, "set", "--tag", "support", "--amount", "10", "--threshold", "90", "--threshold", "10")
    assert (made["amount"], made["thresholds"], made["hardLimit"]) == ("10.00", [10, 90], False)
    changed = said(account_id, "set", "--tag", "support", "--hard-limit")
    assert changed | {"hardLimit": False, "updatedAt": made["updatedAt"]} == made
    assert said(account_id, "set", "--tag", "support", "--no-hard-limit", "--amount", "20")["amount"] == "20.00"
    whole = said(account_id, "set", "--amount", "5")
    assert (whole["tag"], whole["thresholds"]) == (None, [50, 80, 100])
    listed = {one["id"]: one for one in said(account_id, "list")}
    assert set(listed) == {made["id"], whole["id"]}
    assert listed[whole["id"]] | whole == listed[whole["id"]]
    assert (listed[whole["id"]]["spent"], listed[whole["id"]]["currency"]) == ("0.00", "USD")
    assert "50,80,100" in run(account_id, "list").output
    assert whole["currency"] == "USD"
    assert re.search(r"currency +USD\n", run(account_id, "set", "--amount", "5").output)
    assert run(account_id, "remove").exit_code == 0
    assert [one["id"] for one in said(account_id, "list")] == [made["id"]]
    assert said(account_id, "remove", "--tag", "support") == {"id": made["id"], "removed": True}
    assert said(account_id, "list") == []
    assert "no such budget" in run(account_id, "remove").output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "--amount"),
        (("--amount", "0"), "(amount)"),
        (("--amount", "1", "--threshold", "0"), "(thresholds)"),
        (("--amount", "1", "--tag", "a\tb"), "(tag)"),
        (("--amount", "1", "--tag", ""), "(tag)"),
    ],
)
def test_what_makes_no_sense_is_refused(account_id: str, words: tuple[str, ...], told: str) -> None:
    """By the name of what is wrong, and nothing is made."""
    done = run(account_id, "set", *words)
    assert done.exit_code != 0
    assert told in done.output
    assert said(account_id, "list") == []


def test_no_tag_at_all_is_not_the_whole_account(account_id: str) -> None:
    """A shell passes a variable that is not set as nothing: it takes no budget away, and changes none."""
    whole = said(account_id, "set", "--amount", "5", "--hard-limit")
    assert "no such budget" in run(account_id, "remove", "--tag", "").output
    assert run(account_id, "set", "--tag", "", "--amount", "6").exit_code == 1
    (left,) = said(account_id, "list")
    assert (left["id"], left["amount"], left["hardLimit"]) == (whole["id"], "5.00", True)


def test_an_unknown_account_is_told(account_id: str) -> None:
    """By every command."""
    assert account_id
    nobody = "acc_" + "a" * 26
    for command, words in (("set", ("--amount", "1")), ("list", ()), ("remove", ())):
        done = run(nobody, command, *words)
        assert done.exit_code == 1
        assert "no account" in done.output or "no such budget" in done.output
