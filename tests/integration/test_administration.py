"""`switchhook key`, `endpoint list|rotate|test|delete` and `audit`: what operators do by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis
from click.testing import CliRunner, Result

from relay.cli import main
from relay.outbox import keys
from relay.provisioning import Provisioning
from relay.queues import RELAY
from relay.store.endpoints import Endpoint

pytestmark = pytest.mark.usefixtures("commands_provision")

URL = "http://127.0.0.1:9/hook"


@pytest.fixture
def endpoint(provisioning: Provisioning, account_id: str) -> Endpoint:
    """An endpoint of the account."""
    return provisioning.create_endpoint(account_id=account_id, url=URL)


def run(*words: str) -> Result:
    """A command that does what it should."""
    outcome = CliRunner().invoke(main, words)
    assert outcome.exit_code == 0, outcome.output
    return outcome


def told(*words: str) -> Any:
    """What a command prints with --json."""
    return json.loads(run(*words, "--json").output)


def test_keys_come_and_go(account_id: str) -> None:
    """Shown once, listed by their first characters; an operator may revoke the last one too."""
    expires = "2999-01-01T00:00:00.000Z"
    made = told("key", "create", "--account", account_id, "--permissions", "read", "--name", "CI", "--expires", expires)
    assert (made["permissions"], made["expiresAt"]) == ("read", expires)
    first, second = told("key", "list", "--account", account_id)
    assert (second["id"], second["name"], made["key"].startswith(second["prefix"])) == (made["id"], "CI", True)
    for key in (first, second):
        assert run("key", "revoke", "--account", account_id, key["id"]).output == f"{key['id']} is revoked\n"
    assert None not in [key["revokedAt"] for key in told("key", "list", "--account", account_id)]
    shown = run("key", "list", "--account", account_id).output
    assert shown.startswith("KEY")
    assert made["key"] not in shown


def test_endpoints_are_listed(account_id: str, endpoint: Endpoint) -> None:
    """As the API shows them, or as a table."""
    (listed,) = told("endpoint", "list", "--account", account_id)
    assert (listed["id"], listed["url"], listed["state"]) == (endpoint.id, URL, "active")
    assert endpoint.signing_secrets[0] not in json.dumps(listed)
    assert endpoint.id in run("endpoint", "list", "--account", account_id).output
    run("endpoint", "delete", "--account", account_id, endpoint.id)
    assert run("endpoint", "list", "--account", account_id).output == "no endpoints yet\n"


def test_an_endpoint_gets_a_new_secret(account_id: str, endpoint: Endpoint) -> None:
    """Shown this once, with the end of the overlap; without one there is no end."""
    rotated = told("endpoint", "rotate", "--account", account_id, endpoint.id)
    assert rotated["signingSecret"] != endpoint.signing_secrets[0]
    assert ("webhookSecret" in rotated, rotated["overlapUntil"] is None) == (False, False)
    refused = CliRunner().invoke(main, ["endpoint", "rotate", "--account", account_id, endpoint.id])
    assert (refused.exit_code, rotated["overlapUntil"] in refused.output) == (1, True)
    assert "rotation_under_way" in refused.output
    at_once = told(
        "endpoint", "rotate", "--account", account_id, "--overlap-hours", "0", "--webhook-secret", endpoint.id
    )
    assert (at_once["webhookSecret"] != endpoint.webhook_secret, at_once["overlapUntil"]) == (True, None)


def test_a_test_event_waits_for_a_worker(account_id: str, endpoint: Endpoint, redis_client: redis.Redis) -> None:
    """In the endpoint's line, with no bell held back; an account over its quota is told so."""
    event_id = told("endpoint", "test", "--account", account_id, endpoint.id)["id"]
    waiting: Any = redis_client.zrange(keys.line(RELAY, endpoint.id), 0, -1)
    assert waiting == [event_id.encode()]
    assert not redis_client.exists(keys.ring(RELAY))
    redis_client.set(keys.held_bytes(account_id), 1 << 40)
    refused = CliRunner().invoke(main, ["endpoint", "test", "--account", account_id, endpoint.id])
    assert (refused.exit_code, "undelivered" in refused.output) == (1, True)


def test_the_audit_says_who_changed_what(account_id: str, endpoint: Endpoint) -> None:
    """The newest first, narrowed by account, action, object and time."""
    run("endpoint", "disable", "--account", account_id, endpoint.id)
    listed = told("audit", "--account", account_id, "--object", endpoint.id, "--since", "1h")
    assert [(one["actor"], one["action"]) for one in listed] == [
        ("cli", "endpoint.disabled"),
        ("cli", "endpoint.created"),
    ]
    assert (listed[0]["before"], listed[0]["accountId"]) == (listed[1]["after"], account_id)
    assert len(told("audit", "--action", "account.created")) == 1
    shown = run("audit", "--limit", "1").output.splitlines()
    assert (len(shown), shown[0].split()) == (
        2,
        ["AT", "ACCOUNT", "ACTOR", "ACTION", "OBJECT", "BEFORE", "AFTER"],
    )


@pytest.mark.parametrize("command", [["key", "list"], ["endpoint", "list"], ["key", "create"]])
def test_an_unknown_account_is_named(provisioning: Provisioning, command: list[str]) -> None:
    """Instead of an empty list."""
    outcome = CliRunner().invoke(main, [*command, "--account", "acc_nobody"])
    assert (outcome.exit_code, outcome.output) == (1, "Error: there is no account by this id [not_found]\n")
