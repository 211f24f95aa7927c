"""What days came to here and at the providers, as the operator lists them."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from relay.store import reconciliations
from tests.integration.api.conftest import Api

PATH = "/api/v1/reconciliations"
LAST = date(2026, 10, 31)


def compared(api: Api, account_id: str, day: date, **changes: Any) -> None:
    """A day was compared."""
    row = {
        "account_id": account_id,
        "provider": "retell",
        "day": day,
        "sessions": 2,
        "provider_sessions": 2,
        "duration_seconds": Decimal("120.500"),
        "provider_duration_seconds": Decimal("120.5"),
        "amount": Decimal("0.20"),
        "currency": "USD",
        "provider_cost_usd": Decimal("0.08"),
    }
    with api.database.begin() as connection:
        reconciliations.put(connection, [row | changes])


def listed(api: Api, **query: Any) -> dict[str, Any]:
    """The answer to the operator."""
    answer = api.get(PATH, key=api.operator_key, query_string=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.get_json()
    return found


def test_a_day_is_listed_with_its_margin(api: Api) -> None:
    """Exact numbers as text; what differs says so."""
    compared(api, api.account.id, LAST)
    compared(api, api.account.id, date(2026, 10, 30), sessions=3, currency="EUR")
    newest, older = listed(api, account=api.account.id)["data"]
    checked_at = newest.pop("checkedAt")
    assert checked_at.endswith("Z")
    assert newest == {
        "accountId": api.account.id,
        "provider": "retell",
        "day": "2026-10-31",
        "sessions": 2,
        "providerSessions": 2,
        "found": 0,
        "durationSeconds": "120.5",
        "providerDurationSeconds": "120.5",
        "amount": "0.20",
        "currency": "USD",
        "providerCostUsd": "0.08",
        "margin": "0.12",
        "differs": False,
    }
    assert (older["differs"], older["margin"], older["currency"]) == (True, None, "EUR")


def test_days_are_narrowed_and_paged(api: Api) -> None:
    """By account, provider and range, whose end is not within; the newest first."""
    for day in range(1, 6):
        compared(api, api.account.id, date(2026, 9, day))
    compared(api, api.other.id, date(2026, 9, 2), provider="elevenlabs")
    mine: dict[str, Any] = {"account": api.account.id, "from": "2026-09-02", "to": "2026-09-05", "limit": 2}
    first = listed(api, **mine)
    last = listed(api, **mine, cursor=first["nextCursor"])
    assert [one["day"] for one in first["data"] + last["data"]] == ["2026-09-04", "2026-09-03", "2026-09-02"]
    assert last["nextCursor"] is None
    (theirs,) = listed(api, provider="elevenlabs", **{"from": "2026-09-01"})["data"]
    assert theirs["accountId"] == api.other.id


def test_an_account_that_does_not_exist_is_not_found(api: Api) -> None:
    """It is mistyped, and not without any days."""
    refused = api.get(PATH, key=api.operator_key, query_string={"account": api.account.id[:-1]})
    assert (refused.status_code, refused.get_json()["detail"]) == (404, "there is no account by this id")
    assert listed(api, account=api.account.id) == {"data": [], "nextCursor": None}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"from": "yesterday"}, "from"),
        ({"from": "2026-09-02", "to": "2026-09-02"}, "to"),
        ({"to": "10000-01-01"}, "to"),
        ({"cursor": "bm9uZQ"}, "cursor"),
        ({"account": ""}, "account"),
    ],
)
def test_a_range_that_makes_no_sense_is_refused(api: Api, query: dict[str, str], field: str) -> None:
    """With the field's name."""
    answer = api.get(PATH, key=api.operator_key, query_string=query)
    assert answer.status_code == 400
    told = answer.get_json()
    assert field in (told.get("field"), *(one.get("field") for one in told.get("errors", ())))


def test_only_the_operator_sees_them(api: Api) -> None:
    """They show what the operator pays."""
    assert api.get(PATH).status_code == 403
