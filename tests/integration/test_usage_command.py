"""`switchhook billing usage`: the report of the API for whoever runs Switchhook."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner, Result

from relay.cli import main
from relay.store import accounts
from relay.store.database import Database
from tests.integration.api.used import called, priced

pytestmark = pytest.mark.usefixtures("commands_connect")


@pytest.fixture
def account_id(database: Database) -> str:
    """An account with two calls on one day of Kathmandu, and one on the next."""
    with database.begin() as connection:
        made = accounts.create(connection, name="Acme").id
    priced(database, made)
    called(database, made, datetime(2026, 3, 1, 18, 15, tzinfo=UTC), tag="sales")
    called(database, made, datetime(2026, 3, 2, 18, 14, tzinfo=UTC), seconds=None)
    called(database, made, datetime(2026, 3, 2, 18, 15, tzinfo=UTC))
    return made


def run(account_id: str, *words: str) -> Result:
    """What it answers for two days of Kathmandu."""
    days = ("--from", "2026-03-02", "--to", "2026-03-04", "--tz", "Asia/Kathmandu")
    return CliRunner().invoke(main, ["billing", "usage", "--account", account_id, *days, *words])


def test_prints_a_table_with_a_total(account_id: str) -> None:
    """Of the days of the zone."""
    lines = [line.split() for line in run(account_id).output.splitlines()]
    assert lines[:4] == [
        ["DAY", "SESSIONS", "UNRATED", "SECONDS", "MINUTES", "AMOUNT"],
        ["2026-03-02", "2", "1", "60.0", "1.00", "0.10", "USD"],
        ["2026-03-03", "1", "0", "60.0", "1.00", "0.10", "USD"],
        ["total", "3", "1", "120.0", "2.00", "0.20", "USD"],
    ]


def test_prints_what_the_api_answers(account_id: str) -> None:
    """As JSON, and as CSV."""
    report = json.loads(run(account_id, "--json", "--group-by", "tag").output)
    assert [(one["tag"], one["sessions"]) for one in report["data"]] == [(None, 2), ("sales", 1)]
    assert (report["totals"]["amount"], report["tz"]) == ("0.20", "Asia/Kathmandu")
    rows = list(csv.DictReader(io.StringIO(run(account_id, "--csv", "--group-by", "tag").output)))
    assert [(row["Tags"], row["BilledCost"]) for row in rows] == [("", "0.100000"), ('{"tag":"sales"}', "0.100000")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--tz", "Mars"), "(tz)"),
        (("--to", "2026-03-02"), "(to)"),
        (("--from", "2026-03-02T10:00"), "(from)"),
        (("--group-by", "colour"), "--group-by"),
        (("--json", "--csv"), "not both"),
        (("--account", "acc_nobodys"), "no account"),
    ],
    ids=str,
)
def test_says_what_makes_no_sense(account_id: str, words: tuple[str, ...], said: str) -> None:
    """In a line, without a traceback."""
    result = run(account_id, *words)
    assert result.exit_code != 0
    assert said in result.output
    assert "Traceback" not in result.output
