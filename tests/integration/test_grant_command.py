"""`switchhook grant add|list|remove`: what an operator lets an account use with their own keys."""

from __future__ import annotations

import json

import pytest
import redis
from click.testing import CliRunner, Result

from relay.cli import grants as grant_commands
from relay.cli import main
from relay.directory import Mirror
from relay.outbox import Outbox
from relay.provisioning import Provisioning
from relay.sealing import KeyRing
from relay.settings import Settings
from relay.store.database import Database


@pytest.fixture
def account_id(
    settings: Settings,
    database: Database,
    redis_client: redis.Redis,
    switchhook_env: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """An account, which the commands find."""
    for name, value in switchhook_env.items():
        monkeypatch.setenv(name, value)
    ring = KeyRing(settings.keys)
    made = Provisioning(settings, database, ring, Mirror(redis_client, ring), Outbox(redis_client))
    monkeypatch.setattr(grant_commands, "_provisioning", lambda: made)
    return made.create_account(name="Acme").account.id


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
