"""Rate cards: the operator prices an account, the account reads its prices."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from relay.store import rate_cards
from tests.integration.api.conftest import Api


def path(api: Api) -> str:
    """Where the operator makes cards for the account."""
    return f"/api/v1/accounts/{api.account.id}/rate-cards"


def create(api: Api, **body: Any) -> dict[str, Any]:
    """A new card."""
    answer = api.post(path(api), {"perMinute": "0.10"} | body, key=api.operator_key)
    assert answer.status_code == 201, answer.get_json()
    made: dict[str, Any] = answer.get_json()
    return made


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
        "from": None,
        "offered": False,
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
    ],
)
def test_wrong_cards_are_refused(api: Api, body: dict[str, Any], field: str) -> None:
    """By the name of the field as it is written, and nothing is stored."""
    answer = api.post(path(api), {"perMinute": "0.10"} | body, key=api.operator_key)
    assert (answer.status_code, answer.get_json()["field"]) == (400, field)
    assert "_" not in answer.get_json()["detail"].replace("half_", "")
    assert api.get("/api/v1/rate-cards").get_json()["data"] == []


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
