"""`switchhook price`: any card can be tried, with neither a database nor Redis."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from relay.cli import main


def run(*words: str) -> Result:
    """What it prints where no setting is there."""
    nothing = {"DATABASE_URL": None, "REDIS_URL": None, "SWITCHHOOK_KEYS": None}
    return CliRunner(env=nothing).invoke(main, ["price", *words])


def test_tells_every_step() -> None:
    """The card, the seconds, and what comes of them; ten cents a minute unless it says otherwise."""
    result = run("--card", "60/6", "--seconds", "91")
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "91 s: 0.160000 USD",
        "  91 s on 60/6 bills 96 s",
        "  96 s x 0.10 USD/min = 0.16",
        "  rounded half up to 6 decimals: 0.160000",
        "  - usage: 1.6 x 0.1 = 0.160000",
        "  billed seconds 96, exact 0.16, rounded 0.160000",
    ]


def test_prices_several_calls_as_json() -> None:
    """One line, in the order in which they were given."""
    words = (
        "--per-minute",
        "0.15",
        "--currency",
        "EUR",
        "--decimals",
        "2",
        "--rounding",
        "up",
        "--connect-fee",
        "0.05",
    )
    result = run(*words, "--seconds", "29", "--seconds", "0.4", "--json")
    found = json.loads(result.output)
    assert result.output.count("\n") == 1
    calls = [(one["seconds"], one["billedSeconds"], one["amount"], one["currency"]) for one in found["calls"]]
    assert calls == [("29", 29, "0.13", "EUR"), ("0.4", 1, "0.06", "EUR")]
    assert [line["line"] for line in found["calls"][0]["lines"]] == ["usage", "connect_fee"]
    assert found["month"] is None


def test_prices_a_month() -> None:
    """Slice by slice; a number with a point is no float on its way."""
    tiers = '{"model":"graduated","tiers":[{"upTo":1000,"unitPrice":0.08},{"unitPrice":"0.05"}]}'
    assert run("--month-minutes", "1200", "--month-price", tiers).output.splitlines() == [
        "a month of 1200 min: 90.000000 USD",
        "  1000 min, up to 1000 x 0.08 = 80.00",
        "  200 min x 0.05 = 10.00",
    ]


def test_prices_a_markup() -> None:
    """Times the provider's cost."""
    found = json.loads(run("--markup", "1.2", "--provider-cost", "0.071", "--seconds", "10", "--json").output)
    assert found["calls"][0]["amount"] == "0.085200"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "--seconds"),
        (("--seconds", "-1"), "(seconds)"),
        (("--seconds", "long"), "(seconds)"),
        (("--seconds", "1", "--card", "0/6"), "(increments) [rate_card_invalid, --card]"),
        (("--seconds", "1", "--min-charge", "2", "--max-charge", "1"), "(minCharge)"),
        (("--seconds", "1", "--markup", "2"), "(providerCostUsd)"),
        (("--seconds", "1", "--markup", "2", "--provider-cost", "-1"), "(providerCostUsd)"),
        (("--seconds", "1", "--markup", "2", "--per-minute", "1"), "(perMinute)"),
        (("--month-minutes", "1"), "(monthMinutes)"),
        (("--month-minutes", "x", "--month-price", '{"model":"package","size":1,"unitPrice":1}'), "(monthMinutes)"),
        (("--seconds", "1", "--tag", "sales"), "--account"),
        (("--seconds", "1", "--account", "acc_1", "--connect-fee", "1"), "--account"),
    ],
)
def test_what_makes_no_sense_is_refused(words: tuple[str, ...], said: str) -> None:
    """In a sentence with the name of the field."""
    refused = run(*words)
    assert refused.exit_code != 0
    assert said in refused.output
