"""Commands that look at one account: a mistyped id is no account without anything in it."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from relay.cli import main
from relay.store import accounts
from relay.store.database import Database

COMMANDS = [
    ("sessions",),
    ("charges",),
    ("deliveries",),
    ("audit",),
    ("billing", "unrated"),
    ("billing", "unrated", "--list"),
    ("billing", "rate-unrated"),
    ("billing", "differences"),
    ("billing", "recharge", "--since", "1h"),
    ("billing", "recharge", "--since", "1h", "--dry-run"),
]
VERIFY = ("billing", "verify", "2026-06")


def run(env: dict[str, str], *words: str) -> Result:
    """What a command answers."""
    return CliRunner().invoke(main, words, env=env)


@pytest.fixture
def account_id(database: Database) -> str:
    """An account without anything."""
    with database.begin() as connection:
        return accounts.create(connection, name="Acme").id


def test_an_account_that_is_not_there_is_an_error(switchhook_env: dict[str, str], account_id: str) -> None:
    """Of all of these, with 1; the one that is there, and all accounts, are not."""
    for command in COMMANDS:
        unknown = run(switchhook_env, *command, "--account", account_id[:-1])
        assert unknown.exit_code == 1, command
        assert "there is no account by this id" in unknown.output, command
        known = [run(switchhook_env, *command, *whose) for whose in ((), ("--account", account_id))]
        assert [one.exit_code for one in known] == [0, 0], (command, known[0].output, known[1].output)


def test_verifying_a_month_without_a_statement_says_so(switchhook_env: dict[str, str], account_id: str) -> None:
    """It is an error where an account was named: somebody expects one."""
    everybody, named, unknown = (
        run(switchhook_env, *VERIFY, *whose) for whose in ((), ("--account", account_id), ("--account", "acc_nobody"))
    )
    assert (everybody.exit_code, everybody.output) == (0, "no statement of 2026-06 is closed\n")
    assert json.loads(run(switchhook_env, *VERIFY, "--json").stdout) == {"statements": 0, "differences": []}
    assert named.exit_code == unknown.exit_code == 1
    assert "this account has no closed statement of 2026-06" in named.output
    assert "there is no account by this id" in unknown.output
