"""`switchhook rate-card create|list` and `switchhook price`: prices from a shell."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from relay.cli import main
from relay.provisioning import Provisioning

pytestmark = pytest.mark.usefixtures("commands_provision")

INCLUDED = '{"model":"included","minutes":"500","unitPrice":"0.08"}'


@pytest.fixture
def template_of(provisioning: Provisioning) -> Callable[[str], int]:
    """Makes a template of an account, for sessions with the tag `sales`."""

    def make(account_id: str) -> int:
        made = provisioning.create_template(
            account_id=account_id, name="T", type="conversation", config={"tag": "sales"}, provider="agora"
        )
        return made.template.id

    return make


def run(*words: str) -> Result:
    """What a command answers."""
    return CliRunner().invoke(main, list(words))


def told(*words: str) -> Any:
    """The JSON that it prints."""
    result = run(*words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def create(account_id: str, *words: str) -> dict[str, Any]:
    """A card at ten cents a minute."""
    made: dict[str, Any] = told("rate-card", "create", "--account", account_id, "--per-minute", "0.10", *words)
    return made


def test_a_card_is_told_as_ever(account_id: str) -> None:
    """Scripts read the same keys, and others only where they say something."""
    made = create(account_id, "--card", "60/6")
    assert made == {
        "id": made["id"],
        "perMinute": "0.100000",
        "currency": "USD",
        "card": "60/6",
        "effectiveFrom": None,
    }


def test_a_card_says_all_of_a_price(account_id: str, tmp_path: Path) -> None:
    """Every option, and the list shows them."""
    stored = tmp_path / "price.json"
    stored.write_text(INCLUDED)
    first = create(account_id, "--connect-fee", "0.05", "--free-seconds", "10", "--min-charge", "0.06",
                   "--max-charge", "9", "--decimals", "4", "--rounding", "half_even",
                   "--component", "llm=0.04", "--component", "platform=0.06")  # fmt: skip
    monthly = create(account_id, "--tag", "sales", "--month-price", f"@{stored}")
    offered = create(account_id, "--offered")
    listed = told("rate-card", "list", "--account", account_id)
    assert [card["id"] for card in listed] == [first["id"], monthly["id"], offered["id"]]
    assert {name: listed[0][name] for name in ("connectFee", "freeSeconds", "minCharge", "maxCharge")} == {
        "connectFee": "0.05", "freeSeconds": 10, "minCharge": "0.06", "maxCharge": "9.00",
    }  # fmt: skip
    assert listed[0]["components"] == first["components"] == {"llm": "0.04", "platform": "0.06"}
    assert (listed[0]["decimals"], listed[0]["rounding"]) == (4, "half_even")
    assert (monthly["tag"], monthly["monthPrice"]) == ("sales", json.loads(INCLUDED) | {"monthlyFee": "0"})
    assert offered["offered"] is True
    shown = run("rate-card", "list", "--account", account_id).output
    assert "components llm 0.04, platform 0.06" in shown
    assert "monthPrice model included, minutes 500, unitPrice 0.08, monthlyFee 0" in shown
    assert "always" in shown
    assert [line.split()[0] for line in shown.splitlines()] == ["ID", first["id"], monthly["id"], offered["id"]]
    assert "tag sales" in shown


def test_a_new_card_is_told_in_words(account_id: str) -> None:
    """No Python: from when it holds with its zone, what it is made of, and yes."""
    card = ("rate-card", "create", "--account", account_id, "--per-minute", "0.10")
    first = run(*card, "--component", "llm=0.04", "--component", "platform=0.06").output
    assert re.search(r"components +llm 0.04, platform 0.06\n", first)
    assert re.search(r"effectiveFrom +always\n", first)
    assert re.search(r"effectiveFrom +2026-06-01 00:00:00Z\n", run(*card, "--from", "2026-06-01").output)
    assert re.search(r"effectiveFrom +2026-06-30 22:00:00Z\n", run(*card, "--from", "2026-07-01T00:00+02:00").output)
    assert re.search(r"offered +yes\n", run(*card, "--offered").output)
    assert "2026-06-01 00:00:00Z" in run("rate-card", "list", "--account", account_id).output


def test_a_markup_needs_no_price_of_a_minute(account_id: str) -> None:
    """It takes its place."""
    made = told("rate-card", "create", "--account", account_id, "--markup", "1.2")
    assert (made["perMinute"], made["markup"]) == ("0.000000", "1.20")


WRONG = (
    (("--per-minute", "-1"), "(perMinute)"),
    ((), "perMinute is needed"),
    (("--per-minute", "0.10", "--component", "llm=0.05"), "(components)"),
    (("--per-minute", "0.10", "--component", "jokes=0.05"), "NAME=PRICE"),
    (("--per-minute", "0.10", "--component", "llm=0.05", "--component", "llm=0.05"), "once"),
    (("--per-minute", "0.10", "--month-price", '{"model":"volume","tiers":[{}]}'), "monthPrice.tiers.0.unitPrice"),
    (("--per-minute", "0.10", "--month-price", "{"), "JSON"),
    (("--per-minute", "0.10", "--month-price", "[]"), "JSON object"),
    (("--per-minute", "0.10", "--month-price", "@/no/such/file"), "cannot be read"),
    (("--per-minute", "0.10", "--tag", "a", "--template", "1"), "(tag)"),
    (("--per-minute", "0.10", "--template", "7000000"), "(templateId)"),
    (("--per-minute", "0.10", "--currency", "usd"), "(currency)"),
)


def test_wrong_cards_are_refused(account_id: str) -> None:
    """In a sentence, and nothing is stored."""
    for words, said in WRONG:
        refused = run("rate-card", "create", "--account", account_id, *words)
        assert refused.exit_code != 0, words
        assert said in refused.output, words
    assert told("rate-card", "list", "--account", account_id) == []


def test_an_account_that_is_not_there_has_no_cards(account_id: str) -> None:
    """It is said so; one without cards is told that."""
    assert "no rate cards yet" in run("rate-card", "list", "--account", account_id).output
    assert run("rate-card", "list", "--account", "acc_x").exit_code == 1


def test_prices_are_those_of_the_card_in_force(account_id: str, template_of: Callable[[str], int]) -> None:
    """At a moment, and for a template or a tag; a template's sessions have its tag."""
    template_id = template_of(account_id)
    create(account_id)
    create(account_id, "--from", "2026-06-01", "--card", "60/60")
    create(account_id, "--tag", "sales", "--connect-fee", "1")

    def priced(*words: str) -> str:
        answer = told("price", "--seconds", "90", "--account", account_id, *words)
        return str(answer["calls"][0]["amount"])

    assert priced("--at", "2026-05-31T23:59:59Z") == "0.150000"
    assert priced("--at", "2026-06-01") == "0.200000"
    assert priced("--tag", "sales") == "1.150000"
    assert priced("--template", str(template_id)) == "1.150000"
    assert priced("--template", str(template_id), "--tag", "else", "--at", "2026-05-01") == "0.150000"
    card = ("--template", str(template_id))
    told("rate-card", "create", "--account", account_id, "--per-minute", "6", *card)
    assert priced(*card) == "9.000000"


def test_an_account_without_a_price_is_told_so(account_id: str, template_of: Callable[[str], int]) -> None:
    """No price is not a price of nothing; a template must be its own."""
    assert "unrated" in run("price", "--seconds", "1", "--account", account_id).output
    refused = run("price", "--seconds", "1", "--account", account_id, "--template", "7000000")
    assert (refused.exit_code, "templateId" in refused.output) == (1, True)
    assert run("price", "--seconds", "1", "--account", "acc_x").exit_code == 1
