"""`/api/v1/accounts/<id>/exports/<destination>`: where an account's charges go, and under which name."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from tests.integration.api.conftest import Api


def path(api: Api, destination: str = "stripe", *, account_id: str | None = None) -> str:
    """Of the account's name at a destination."""
    return f"/api/v1/accounts/{account_id or api.account.id}/exports/{destination}"


def test_an_account_is_named_shown_renamed_and_taken_away(api: Api) -> None:
    """Each change is in its audit trail; taken away, nothing of it waits any more."""
    for customer in ("cus_1", "cus_2"):
        put = api.put(path(api), {"customer": customer}, key=api.operator_key)
        assert (put.status_code, put.get_json()["customer"]) == (200, customer)
    with api.database.begin() as connection:
        queued = (
            "INSERT INTO exports (destination, ledger_id, account_id, next_attempt_at) VALUES ('stripe', {}, :a, {})"
        )
        for number, due in ((1, "now()"), (2, "NULL")):
            connection.execute(text(queued.format(number, due)), {"a": api.account.id})

    shown = api.get(path(api), key=api.operator_key).get_json()
    assert (shown["destination"], shown["customer"], shown["waiting"], shown["dead"]) == ("stripe", "cus_2", 1, 1)
    assert shown["oldestAt"].endswith("Z")

    assert api.delete(path(api), key=api.operator_key).status_code == 204
    assert api.get(path(api), key=api.operator_key).status_code == 404
    assert api.delete(path(api), key=api.operator_key).status_code == 404
    with api.database.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM exports")).scalar_one() == 0
    changes = api.get("/api/v1/audit").get_json()["data"]
    assert [(one["actor"], one["action"], one["objectId"]) for one in changes] == [
        ("operator", "export.removed", "stripe"),
        ("operator", "export.set", "stripe"),
        ("operator", "export.set", "stripe"),
    ]


@pytest.mark.parametrize("method", ["PUT", "GET", "DELETE"])
@pytest.mark.parametrize("wrong", ["destination", "account"])
def test_what_is_nowhere_is_not_found(api: Api, method: str, wrong: str) -> None:
    """Neither a billing system that is none, nor an account that is nobody's."""
    where = path(api, "chargebee") if wrong == "destination" else path(api, account_id="acc_" + "a" * 26)
    body = {"customer": "cus_1"} if method == "PUT" else None
    assert api.call(method, where, body, key=api.operator_key).status_code == 404


@pytest.mark.parametrize("customer", ["", " ", "a\u0000b", "x" * 257, 7, None])
def test_a_name_that_cannot_be_one_is_refused(api: Api, customer: object) -> None:
    """By its field."""
    refused = api.put(path(api), {"customer": customer}, key=api.operator_key)
    assert refused.status_code == 400
    assert "customer" in refused.get_data(as_text=True)


def test_only_operators_say_where_charges_go(api: Api) -> None:
    """The account itself may not."""
    assert api.put(path(api), {"customer": "cus_1"}, key=api.account.key).status_code in (401, 403)
