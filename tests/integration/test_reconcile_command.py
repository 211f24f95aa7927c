"""`switchhook billing reconcile` and `differences`: what they read, print and exit with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
import redis
from click.testing import CliRunner, Result

from relay.cli import main
from relay.settings import Settings
from relay.store import reconciliations
from relay.store.database import Database
from tests.customers import Customer, Customers
from tests.fakes.retell import FakeRetell
from tests.integration.billing.called import HOUR, ago


@pytest.fixture
def retell() -> Iterator[FakeRetell]:
    """Retell, with one call of `agent_1` that ended an hour ago."""
    with FakeRetell() as fake:
        start_ms = int(ago(HOUR).timestamp() * 1000)
        fake.calls["call_1"] = {
            "call_id": "call_1",
            "agent_id": "agent_1",
            "call_status": "ended",
            "start_timestamp": start_ms,
            "end_timestamp": start_ms + 60_000,
            "duration_ms": 60_000,
        }
        yield fake


@pytest.fixture
def customer(settings: Settings, database: Database, redis_client: redis.Redis) -> Customer:
    """Its agent has been `agent_1` for a month."""
    customer = Customers(settings, database, redis_client).create()
    customer.grant("retell", "agent_1")
    with database.begin() as connection:
        connection.exec_driver_sql("UPDATE provider_grants SET created_at = now() - interval '30 days'")
    return customer


def ran(env: dict[str, str], *args: str, fake: FakeRetell | None = None) -> Result:
    """A command in this process."""
    access = {} if fake is None else {"SWITCHHOOK_RETELL_BASE_URL": fake.url, "SWITCHHOOK_RETELL_API_KEY": fake.key}
    return CliRunner().invoke(main, ["billing", *args], env=env | access)


def test_reads_the_lists_now_and_says_what_it_found(
    switchhook_env: dict[str, str], customer: Customer, retell: FakeRetell
) -> None:
    """As a table or as JSON; a second time there is nothing to find."""
    first = ran(switchhook_env, "reconcile", fake=retell)
    assert first.exit_code == 0, first.output
    row = first.stdout.splitlines()[1].split()
    assert row[:10] == ["retell", "operator", "done", "1", "1", "0", "0", "1", "0", "0"]
    again = ran(switchhook_env, "reconcile", "--since", "2d", "--provider", "retell", "--json", fake=retell)
    (told,) = json.loads(again.stdout)["lists"]
    assert (told["provider"], told["accountId"], told["outcome"]) == ("retell", None, "done")
    assert (told["found"], told["relayed"], told["differenceSeconds"]) == (0, 0, "0")
    assert {day["accountId"] for day in told["days"]} <= {customer.id}


def test_a_list_that_cannot_be_read_is_an_error(switchhook_env: dict[str, str], retell: FakeRetell) -> None:
    """The command says which, and exits with 1."""
    retell.key = "another"
    access = {"SWITCHHOOK_RETELL_BASE_URL": retell.url, "SWITCHHOOK_RETELL_API_KEY": "revoked"}
    result = ran(switchhook_env | access, "reconcile")
    assert result.exit_code == 1
    assert "failed" in result.stdout


def test_says_that_no_key_is_there(switchhook_env: dict[str, str]) -> None:
    """Nothing can be read without one."""
    result = ran(switchhook_env, "reconcile")
    assert (result.exit_code, "no key" in result.stdout) == (0, True)


def test_shows_what_days_came_to(switchhook_env: dict[str, str], database: Database, customer: Customer) -> None:
    """Calls, seconds, cost and margin of a range whose end is not within."""
    row: dict[str, Any] = {
        "account_id": customer.id,
        "provider": "retell",
        "sessions": 1,
        "provider_sessions": 2,
        "duration_seconds": 60,
        "provider_duration_seconds": 90,
        "amount": Decimal("0.1"),
        "currency": "USD",
        "provider_cost_usd": Decimal("0.07"),
    }
    last = date(2026, 10, 31)
    with database.begin() as connection:
        reconciliations.put(connection, [row | {"day": last - timedelta(days=number)} for number in range(3)])
    shown = ran(switchhook_env, "differences", "--from", "2026-10-30", "--to", "2026-10-31")
    line = shown.stdout.splitlines()[1].split()
    wanted = ["2026-10-30", customer.id, "retell", "1", "2", "0", "60", "90", "0.10", "USD", "0.07", "0.03"]
    assert line == wanted
    told = json.loads(ran(switchhook_env, "differences", "--account", customer.id, "--json").stdout)
    assert [(one["day"], one["margin"], one["differs"]) for one in told] == [
        ("2026-10-31", "0.03", True),
        ("2026-10-30", "0.03", True),
        ("2026-10-29", "0.03", True),
    ]
    assert ran(switchhook_env, "differences", "--from", "2026-10-31", "--to", "2026-10-31").exit_code == 2
    assert ran(switchhook_env, "differences", "--from", "today").exit_code == 2
