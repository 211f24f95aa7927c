"""Rate cards: the operator prices an account, the account reads its prices."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from relay.store import rate_cards
from tests.integration.api.conftest import Api

INCLUDED = {"model": "included", "minutes": "500", "unitPrice": "0.08"}


def tiered(*tiers: dict[str, Any]) -> dict[str, Any]:
    """A graduated price for the month."""
    return {"model": "graduated", "tiers": list(tiers)}


def path(api: Api) -> str:
    """Where the operator makes cards for the account."""
    return f"/api/v1/accounts/{api.account.id}/rate-cards"


def create(api: Api, **body: Any) -> dict[str, Any]:
    """A new card."""
    answer = api.post(path(api), {"perMinute": "0.10"} | body, key=api.operator_key)
    assert answer.status_code == 201, answer.get_json()
    made: dict[str, Any] = answer.get_json()
    return made


def a_template(api: Api, *, key: str | None = None) -> int:
    """A template of the account's, or of whoever has the key."""
    wish = {"name": "T", "type": "conversation", "systemPrompt": "-", "provider": "agora"}
    answer = api.post("/api/convagents/templates", wish, key=key)
    assert answer.status_code == 201, answer.get_json()
    return int(answer.get_json()["data"]["id"])


def test_a_card_says_all_of_a_price(api: Api) -> None:
    """Money is text with its currency; the first card holds from the beginning of time."""
    given = {
        "perMinute": "0.0125",
        "currency": "EUR",
        "increments": "60/6",
        "connectFee": "0.05",
        "freeSeconds": 10,
        "minCharge": "0.10",
        "maxCharge": "99.999999",
        "decimals": 2,
        "rounding": "up",
    }
    made = create(api, **given)
    assert {name: made[name] for name in given} == given
    assert made["from"] is None
    assert api.get("/api/v1/rate-cards").get_json()["data"] == [made]
    assert api.get(f"/api/v1/accounts/{api.account.id}", key=api.operator_key).get_json()["currency"] == "EUR"


def test_defaults_are_those_of_the_command_line(api: Api) -> None:
    """By the second, in dollars, to the millionth."""
    made = create(api, perMinute="15")
    del made["id"], made["createdAt"]
    assert made == {
        "perMinute": "15.00",
        "currency": "USD",
        "increments": "1/1",
        "connectFee": "0.00",
        "freeSeconds": 0,
        "minCharge": None,
        "maxCharge": None,
        "decimals": 6,
        "rounding": "half_up",
        "components": None,
        "markup": None,
        "monthPrice": None,
        "from": None,
        "offered": False,
        "templateId": None,
        "tag": None,
    }


def test_an_offered_card_is_in_force_nowhere(api: Api) -> None:
    """It has no beginning, beside any other; only templates that choose it are charged by it."""
    create(api)
    offered = [create(api, offered=True, perMinute=price) for price in ("0.05", "0.06")]
    assert [(one["offered"], one["from"]) for one in offered] == [(True, None)] * 2
    with api.database.begin() as connection:
        card = rate_cards.of_accounts(connection, [api.account.id])[api.account.id].at(datetime.now(UTC))
    assert card is not None
    assert card.per_minute == Decimal("0.10")
    begun = {"perMinute": "1", "offered": True, "from": "2026-12-31T23:00:00Z"}
    answer = api.post(path(api), begun, key=api.operator_key)
    assert (answer.status_code, answer.get_json()["field"]) == (400, "from")


def test_later_cards_begin_at_their_moment(api: Api) -> None:
    """The one that is given, else now; two cannot begin at once."""
    create(api)
    dated = create(api, **{"from": "2027-01-01T00:00:00+01:00"})
    assert dated["from"] == "2026-12-31T23:00:00.000Z"
    assert create(api)["from"] is not None
    answer = api.post(path(api), {"perMinute": "1", "from": "2026-12-31T23:00:00Z"}, key=api.operator_key)
    assert (answer.status_code, answer.get_json()["code"], answer.get_json()["field"]) == (
        409,
        "rate_card_overlaps",
        "from",
    )
    listed = api.get("/api/v1/rate-cards", query_string={"limit": "2"}).get_json()
    rest = api.get("/api/v1/rate-cards", query_string={"cursor": listed["nextCursor"]}).get_json()
    assert (len(listed["data"]), len(rest["data"]), rest["nextCursor"]) == (2, 1, None)


def test_an_account_has_one_currency(api: Api) -> None:
    """That of its first card."""
    create(api, currency="EUR")
    answer = api.post(path(api), {"perMinute": "1", "currency": "USD"}, key=api.operator_key)
    assert (answer.status_code, answer.get_json()["code"]) == (409, "currency_mismatch")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"perMinute": 0.1}, "perMinute"),
        ({"perMinute": "-1"}, "perMinute"),
        ({"perMinute": "0.1234567"}, "perMinute"),
        ({"perMinute": "1e3"}, "perMinute"),
        ({"perMinute": "\u0661"}, "perMinute"),
        ({"perMinute": "100000001"}, "perMinute"),
        ({"perMinute": None}, "perMinute"),
        ({"currency": "usd"}, "currency"),
        ({"currency": "XXX"}, "currency"),
        ({"increments": "0/1"}, "increments"),
        ({"increments": "86401/1"}, "increments"),
        ({"increments": "60"}, "increments"),
        ({"connectFee": "-0.1"}, "connectFee"),
        ({"freeSeconds": -1}, "freeSeconds"),
        ({"freeSeconds": 86_401}, "freeSeconds"),
        ({"minCharge": "2", "maxCharge": "1"}, "minCharge"),
        ({"decimals": 7}, "decimals"),
        ({"rounding": "nearest"}, "rounding"),
        ({"from": "2026-01-01T00:00:00"}, "from"),
        ({"effectiveFrom": "2026-01-01T00:00:00Z"}, "effectiveFrom"),
        ({"components": {"llm": "0.09"}}, "components"),
        ({"components": {"jokes": "0.10"}}, "components"),
        ({"components": {"llm": 0.1}}, "components.llm"),
        ({"components": {"llm": "-0.1"}}, "components.llm"),
        ({"perMinute": "0", "markup": "0"}, "markup"),
        ({"perMinute": "0", "markup": "1.2", "currency": "EUR"}, "currency"),
        ({"perMinute": "0", "markup": "1.2", "freeSeconds": 1}, "freeSeconds"),
        ({"perMinute": "0", "markup": "1.2", "monthPrice": INCLUDED}, "monthPrice"),
        ({"monthPrice": INCLUDED, "minCharge": "1"}, "minCharge"),
        ({"monthPrice": INCLUDED, "maxCharge": "1"}, "maxCharge"),
        ({"monthPrice": {}}, "monthPrice.model"),
        ({"monthPrice": {"model": "stairs"}}, "monthPrice.model"),
        ({"monthPrice": {"model": "included", "minutes": "1"}}, "monthPrice.unitPrice"),
        ({"monthPrice": INCLUDED | {"size": "1"}}, "monthPrice.size"),
        ({"monthPrice": {"model": "package", "size": "0", "unitPrice": "1"}}, "monthPrice.size"),
        ({"monthPrice": {"model": "volume", "tiers": []}}, "monthPrice.tiers"),
        ({"monthPrice": tiered({"upTo": "9", "unitPrice": "1"})}, "monthPrice.tiers.0.upTo"),
        ({"monthPrice": tiered({"unitPrice": 1})}, "monthPrice.tiers.0.unitPrice"),
        (
            {
                "monthPrice": tiered(
                    {"upTo": "9", "unitPrice": "1"}, {"upTo": "9", "unitPrice": "1"}, {"unitPrice": "1"}
                )
            },
            "monthPrice.tiers.1.upTo",
        ),
        ({"templateId": 1, "tag": "sales"}, "tag"),
        ({"tag": ""}, "tag"),
        ({"tag": "a\nb"}, "tag"),
        ({"tag": "sales", "offered": True}, "tag"),
        ({"templateId": 1, "offered": True}, "templateId"),
        ({"templateId": 0}, "templateId"),
    ],
)
def test_wrong_cards_are_refused(api: Api, body: dict[str, Any], field: str) -> None:
    """By the name of the field as it is written, and nothing is stored."""
    answer = api.post(path(api), {"perMinute": "0.10"} | body, key=api.operator_key)
    assert (answer.status_code, answer.get_json()["field"]) == (400, field)
    assert "_" not in re.sub("half_|(speech|text)_to_(text|speech)", "", answer.get_json()["detail"])
    assert api.get("/api/v1/rate-cards").get_json()["data"] == []


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"perMinute": "-1"}, "must be a decimal of 0 or more, such as 0.10, with at most 6 decimals"),
        ({"perMinute": 0.1}, "must be a string"),
        ({"currency": "usd"}, "must be a currency's code in capitals, such as USD"),
        ({"increments": "60"}, "must be the first and the further seconds, such as 60/6"),
        (
            {"monthPrice": INCLUDED | {"minutes": "-5"}},
            "must be minutes, 0 or more, such as 1000, with at most 6 decimals",
        ),
    ],
)
def test_what_a_price_must_be_is_said_in_words(api: Api, body: dict[str, Any], said: str) -> None:
    """Whoever writes prices reads no regular expressions."""
    (issue,) = api.post(path(api), {"perMinute": "0.10"} | body, key=api.operator_key).get_json()["issues"]
    assert issue["message"] == said


def test_whoever_pays_does_not_write_the_price(api: Api) -> None:
    """No key of an account makes a card, for itself or another; a reading key sees its own."""
    create(api)
    for key in (api.account.key, api.account.reading_key, api.other.key):
        assert api.post(path(api), {"perMinute": "0"}, key=key).status_code == 403
    assert len(api.get("/api/v1/rate-cards", key=api.account.reading_key).get_json()["data"]) == 1
    assert api.get("/api/v1/rate-cards", key=api.other.key).get_json()["data"] == []
    with api.database.begin() as connection:
        assert rate_cards.of_account(connection, account_id=api.other.id) == []


def test_an_unknown_account_gets_no_card(api: Api) -> None:
    """404."""
    unknown = "/api/v1/accounts/acc_" + "a" * 26 + "/rate-cards"
    assert api.post(unknown, {"perMinute": "1"}, key=api.operator_key).status_code == 404


def test_a_card_of_the_providers_cost_needs_no_price(api: Api) -> None:
    """As on the command line; its minutes cost nothing of themselves."""
    answer = api.post(path(api), {"markup": "1.25"}, key=api.operator_key)
    assert (answer.status_code, answer.get_json()["perMinute"], answer.get_json()["markup"]) == (201, "0.00", "1.25")
    refused = api.post(path(api), {"tag": "sales"}, key=api.operator_key)
    assert (refused.status_code, refused.get_json()["field"]) == (400, "perMinute")


@pytest.mark.parametrize(
    "given",
    [
        {"components": {"llm": "0.04", "platform": "0.05", "text_to_speech": "0.01"}},
        {"perMinute": "0.00", "markup": "1.25", "connectFee": "0.01"},
        {"tag": "sales"},
        {
            "monthPrice": tiered(
                {"upTo": "1000", "unitPrice": "0.08", "flatFee": "0"},
                {"upTo": None, "unitPrice": "0.05", "flatFee": "7"},
            )
        },
        {"monthPrice": {"model": "volume", "tiers": [{"upTo": None, "unitPrice": "0.08", "flatFee": "0"}]}},
        {"monthPrice": {"model": "package", "size": "100", "unitPrice": "9", "freeMinutes": "20"}},
        {"monthPrice": INCLUDED | {"monthlyFee": "20"}},
    ],
)
def test_what_is_said_of_a_card_is_shown_of_it(api: Api, given: dict[str, Any]) -> None:
    """When it is made, and in the list."""
    made = create(api, **given)
    assert {name: made[name] for name in given} == given
    assert api.get("/api/v1/rate-cards").get_json()["data"] == [made]


def test_a_months_price_has_defaults(api: Api) -> None:
    """They are shown; money is text, without zeros that say nothing."""
    made = create(api, monthPrice=tiered({"upTo": "0100.50", "unitPrice": "0.080"}, {"unitPrice": "1"}))
    assert made["monthPrice"]["tiers"] == [
        {"upTo": "100.5", "unitPrice": "0.08", "flatFee": "0"},
        {"upTo": None, "unitPrice": "1", "flatFee": "0"},
    ]


def test_a_template_and_a_tag_have_cards_of_their_own(api: Api) -> None:
    """Each scope has its own beginning; a template must be the account's own."""
    template_id = a_template(api)
    create(api)
    for_template = create(api, templateId=template_id, perMinute="0.05")
    for_tag = create(api, tag="sales", perMinute="0.07")
    assert [(card["templateId"], card["tag"], card["from"]) for card in (for_template, for_tag)] == [
        (template_id, None, None),
        (None, "sales", None),
    ]
    with api.database.begin() as connection:
        cards = rate_cards.of_accounts(connection, [api.account.id])[api.account.id]
    now = datetime.now(UTC)
    chosen = [cards.at(now, template_id=template_id, tag="sales"), cards.at(now, tag="sales"), cards.at(now)]
    assert [str(card and card.per_minute.normalize()) for card in chosen] == ["0.05", "0.07", "0.1"]


@pytest.mark.parametrize("whose", ["another's", "nobody's", "deleted"])
def test_a_template_of_somebody_else_has_no_card(api: Api, whose: str) -> None:
    """404 with the field, and nothing is stored."""
    template_id = 7_000_000
    if whose == "another's":
        template_id = a_template(api, key=api.other.key)
    elif whose == "deleted":
        template_id = a_template(api)
        assert api.delete(f"/api/convagents/templates/{template_id}").status_code < 300
    answer = api.post(path(api), {"perMinute": "0.10", "templateId": template_id}, key=api.operator_key)
    assert (answer.status_code, answer.get_json()["field"]) == (404, "templateId")
    assert api.get("/api/v1/rate-cards").get_json()["data"] == []


def test_prices_for_months_begin_with_a_month(api: Api) -> None:
    """One in the middle of a month is refused; without a moment it begins with the next one."""
    create(api)
    begun = {"perMinute": "0.10", "monthPrice": INCLUDED, "from": "2027-01-02T00:00:00Z"}
    answer = api.post(path(api), begun, key=api.operator_key)
    assert (answer.status_code, answer.get_json()["code"], answer.get_json()["field"]) == (
        409,
        "rate_card_mid_month",
        "from",
    )
    assert create(api, monthPrice=INCLUDED)["from"].endswith("-01T00:00:00.000Z")


# The preview


def preview(api: Api, **body: Any) -> dict[str, Any]:
    """What a call would cost, by the reading key."""
    answer = api.post(PREVIEW, {"seconds": 91} | body, key=api.account.reading_key)
    assert answer.status_code == 200, answer.get_json()
    shown: dict[str, Any] = answer.get_json()
    return shown


PREVIEW = "/api/v1/rate-cards/preview"
OF_91_SECONDS = {
    "billedSeconds": 96,
    "exact": "0.16",
    "amount": "0.160000",
    "currency": "USD",
    "steps": ["91 s on 60/6 bills 96 s", "96 s x 0.10 USD/min = 0.16", "rounded half up to 6 decimals: 0.160000"],
    "lines": [{"line": "usage", "quantity": "1.6", "unitPrice": "0.1", "exact": "0.16", "amount": "0.160000"}],
    "month": None,
}


def test_a_card_is_tried_before_it_is_made(api: Api) -> None:
    """With its steps and lines, and nothing is stored."""
    assert preview(api, perMinute="0.10", increments="60/6") == OF_91_SECONDS
    assert api.get("/api/v1/rate-cards").get_json()["data"] == []


def test_a_card_that_is_there_is_tried(api: Api) -> None:
    """By its id, in force or not."""
    made = create(api, increments="60/6", offered=True)
    assert preview(api, rateCardId=made["id"]) == OF_91_SECONDS


def test_part_of_a_second_is_tried(api: Api) -> None:
    """It counts as a whole one."""
    assert preview(api, perMinute="0.10", seconds=0.4)["steps"][0] == "0.4 s counts as 1 s"


def test_a_markup_is_tried_with_what_the_provider_asks(api: Api) -> None:
    """Without it nobody knows."""
    assert preview(api, markup="1.2", providerCostUsd="0.071")["amount"] == "0.085200"
    answer = api.post(PREVIEW, {"markup": "1.2", "seconds": 1})
    assert (answer.status_code, answer.get_json()["field"]) == (400, "providerCostUsd")


def test_a_months_minutes_are_tried(api: Api) -> None:
    """With its slices in words."""
    tiers = tiered({"upTo": "1000", "unitPrice": "0.08"}, {"unitPrice": "0.05"})
    month = preview(api, perMinute="0.10", monthPrice=tiers, monthMinutes="1200")["month"]
    assert (month["minutes"], month["amount"], month["currency"]) == ("1200", "90.000000", "USD")
    assert [one["words"] for one in month["slices"]] == ["1000 min, up to 1000 x 0.08", "200 min x 0.05"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "perMinute"),
        ({"perMinute": "0.10", "seconds": -1}, "seconds"),
        ({"perMinute": "0.10", "seconds": None}, "seconds"),
        ({"perMinute": "0.10", "seconds": 10**10}, "seconds"),
        ({"perMinute": "0.10", "seconds": "NaN"}, "seconds"),
        ({"perMinute": "0.10", "monthMinutes": "1"}, "monthMinutes"),
        ({"perMinute": "0.10", "monthPrice": INCLUDED, "monthMinutes": "-1"}, "monthMinutes"),
        ({"perMinute": "0.10", "rateCardId": "rc_" + "a" * 26}, "rateCardId"),
        ({"rateCardId": "rc_" + "a" * 26}, "rateCardId"),
        ({"rateCardId": "x"}, "rateCardId"),
        ({"perMinute": "0.10", "tag": "sales"}, "tag"),
        ({"monthPrice": {"model": "graduated", "tiers": [{}]}}, "monthPrice.tiers.0.unitPrice"),
    ],
)
def test_wrong_previews_are_refused(api: Api, body: dict[str, Any], field: str) -> None:
    """By the name of the field."""
    answer = api.post(PREVIEW, {"seconds": 91} | body)
    assert (answer.status_code, answer.get_json()["field"]) == (400, field), answer.get_json()


def test_the_card_of_another_account_is_not_tried(api: Api) -> None:
    """It is unknown, as one that never was."""
    made = create(api)
    answer = api.post(PREVIEW, {"rateCardId": made["id"], "seconds": 91}, key=api.other.key)
    assert (answer.status_code, answer.get_json()["code"]) == (400, "rate_card_unknown")


def test_a_month_is_tried_without_a_call(api: Api) -> None:
    """Its minutes are enough; one of the two is needed."""
    tried = {"perMinute": "0.10", "monthPrice": INCLUDED, "monthMinutes": "600"}
    answer = api.post(PREVIEW, tried)
    assert answer.status_code == 200, answer.get_json()
    shown = answer.get_json()
    assert (shown["month"]["amount"], shown["currency"]) == ("8.000000", "USD")
    assert (shown["billedSeconds"], shown["amount"], shown["lines"]) == (None, None, [])
    assert answer.get_json() == api.post(PREVIEW, tried | {"seconds": None}).get_json()
    refused = api.post(PREVIEW, {"perMinute": "0.10"})
    assert (refused.status_code, refused.get_json()["field"]) == (400, "seconds")
    assert "monthMinutes" in refused.get_json()["detail"]


@pytest.mark.parametrize("seconds", [True, [], "long"])
def test_seconds_that_are_no_number_are_called_so(api: Api, seconds: Any) -> None:
    """In words, whatever they are."""
    (issue,) = api.post(PREVIEW, {"perMinute": "0.10", "seconds": seconds}).get_json()["issues"]
    assert issue["message"] == "must be a number"
