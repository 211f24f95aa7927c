"""What belongs to another account is not there: 404 for every operation with an id, and nothing happens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from relay.api.core.access import Access
from relay.settings import Settings
from tests.integration.api.belongings import (
    AGORA,
    APPID,
    INSIDE,
    MAKERS,
    MONTH,
    Fakes,
    Inside,
    Rows,
    fake_providers,
    maker_of,
    outbox_of,
    rows_of,
)
from tests.integration.api.conftest import Api
from tests.integration.api.requests import OPERATIONS, body_of, headers_of, path_of

# Their paths name no object of an account: a provider, or a project at Agora.
NAMING_NOTHING = {f"POST {AGORA}/join", f"GET {AGORA}/agents", "PUT /api/v1/provider-keys/<provider>"}
# Every account has a statement of each month.
NAMING_NOTHING |= {"GET /api/v1/statements/<month>"}
# Not built yet, for anybody.
NOT_BUILT = {f"POST {AGORA}/agents/<agent_id>/think"}
WITH_IDS = [
    key
    for key, operation in OPERATIONS.items()
    if "<" in operation.path and operation.access is not Access.OPERATE and key not in NAMING_NOTHING | NOT_BUILT
]


@pytest.fixture(scope="module")
def fakes() -> Iterator[Fakes]:
    """The providers."""
    with fake_providers() as fakes:
        yield fakes


@pytest.fixture(scope="module")
def api_settings(api_settings: Settings, fakes: Fakes) -> Settings:
    """With providers to go to."""
    return fakes.reached_by(api_settings)


@pytest.mark.parametrize("key", WITH_IDS)
def test_what_belongs_to_another_account_is_not_found(api: Api, fakes: Fakes, key: str) -> None:
    """Its rows and the outbox are as before, and no provider was asked. Its own account finds it."""
    operation = OPERATIONS[key]
    path = path_of(operation, maker_of(operation)(api, api.other))
    before = rows_of(api, api.other.id), outbox_of(api), fakes.asked()

    headers = headers_of(operation, api.account.key, api.account.key_id)
    refused = api.call(operation.method, path, body_of(operation), key="", headers=headers)

    assert refused.status_code == 404, refused.get_data(as_text=True)
    assert (rows_of(api, api.other.id), outbox_of(api), fakes.asked()) == before
    if operation.answers:
        headers = headers_of(operation, api.other.key, api.other.key_id)
        found = api.call(operation.method, path, body_of(operation), key="", headers=headers)
        assert found.status_code != 404, found.get_data(as_text=True)


@pytest.mark.parametrize("inside", INSIDE, ids=lambda inside: f"{inside.key} {inside.field}")
def test_nor_is_what_a_body_or_query_names(api: Api, fakes: Fakes, inside: Inside) -> None:
    """The same where the id is not in the path; its own account gets another answer."""
    operation = OPERATIONS[inside.key]
    named = inside.naming(inside.make(api, api.other))
    sent: dict[str, Any] = {"query_string": named} if operation.body is None else {"json": body_of(operation) | named}
    before = rows_of(api, api.other.id), _unused(rows_of(api, api.account.id)), outbox_of(api), fakes.asked()

    headers = headers_of(operation, api.account.key, api.account.key_id)
    refused = api.client.open(operation.path, method=operation.method, headers=headers, **sent)

    assert refused.status_code == inside.refusal, refused.get_data(as_text=True)
    after = rows_of(api, api.other.id), _unused(rows_of(api, api.account.id)), outbox_of(api), fakes.asked()
    assert after == before
    headers = headers_of(operation, api.other.key, api.other.key_id)
    found = api.client.open(operation.path, method=operation.method, headers=headers, **sent)
    assert found.status_code in {*operation.answers, 409}, found.get_data(as_text=True)


def test_every_operation_that_looks_for_something_inside_is_tried(api: Api) -> None:
    """What says 404 without an id in its path looks for what its body or query names. No account is the operator's."""
    looking = {
        key
        for key, operation in OPERATIONS.items()
        if 404 in operation.errors and "<" not in operation.path and operation.access is not Access.OPERATE
    }
    assert looking <= {inside.key for inside in INSIDE}, "add to INSIDE what makes the object, and how it is named"


def test_lists_show_nothing_of_another_account(api: Api) -> None:
    """Not one id of all that it has."""
    made = {value for make in set(MAKERS.values()) for value in make(api, api.other).values()}
    ids = {value for value in made if len(value) > len("elevenlabs")} - {APPID}
    lists = [key for key, one in OPERATIONS.items() if one.method == "GET" and one.access is Access.READ]
    asked = [key for key in lists if "<" not in key or key in NAMING_NOTHING]
    assert len(asked) > 8
    for key in asked:
        operation = OPERATIONS[key]
        headers = headers_of(operation, api.account.key, api.account.key_id)
        listed = api.call(
            operation.method, path_of(operation, {"appid": APPID, "month": MONTH}), key="", headers=headers
        )
        assert listed.status_code == 200, key
        shown = set(re.findall(r"[\w-]+", listed.get_data(as_text=True)))
        assert shown & {*ids, api.other.id} == set(), key


def _unused(rows: Rows) -> Rows:
    """Without when keys were used last: the caller's own is noted."""
    keys = [{name: row[name] for name in row if name != "last_used_at"} for row in rows["api_keys"]]
    return rows | {"api_keys": keys}
