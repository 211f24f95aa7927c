"""`switchhook grant add|list|remove`: what an operator lets an account use with their own keys."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from relay.cli import main

pytestmark = pytest.mark.usefixtures("commands_provision")


def run(account_id: str, command: str, *words: str) -> Result:
    """What a command answers."""
    return CliRunner().invoke(main, ["grant", command, "--account", account_id, *words])


def test_a_grant_is_added_listed_and_removed(account_id: str) -> None:
    """As the API shows it."""
    retell = ("--provider", "retell", "agent_1")
    assert json.loads(run(account_id, "add", *retell, "--json").output)["objectId"] == "agent_1"
    assert run(account_id, "add", "--provider", "agora", "0123456789abcdef").exit_code == 0

    listed = json.loads(run(account_id, "list", "--json").output)
    assert [(one["provider"], one["objectId"]) for one in listed] == [
        ("agora", "0123456789abcdef"),
        ("retell", "agent_1"),
    ]
    assert run(account_id, "remove", *retell).exit_code == 0
    assert "agent_1" not in run(account_id, "list").output
    assert "no such grant" in run(account_id, "remove", *retell).output


def test_an_account_without_grants_is_told_so(account_id: str) -> None:
    """And one that is not there is refused."""
    assert run(account_id, "list").output == "no grants yet\n"
    assert run("acc_" + "a" * 26, "list").exit_code == 1
