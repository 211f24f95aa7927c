"""Nobody gets further than their key: every operation, with every kind of key."""

from __future__ import annotations

import pytest

from relay.api.core.access import Access
from relay.api.core.families import FAMILIES, Family
from relay.api.core.operations import Operation
from tests.integration.api.conftest import Api
from tests.integration.api.requests import OPERATIONS, body_of, headers_of, path_of, proof

GUARDED = [key for key, operation in OPERATIONS.items() if operation.access is not Access.PUBLIC]
WRITING = [key for key in GUARDED if OPERATIONS[key].access is Access.WRITE]
OPERATED = [key for key in GUARDED if OPERATIONS[key].access is Access.OPERATE]
USED = [
    family for family in FAMILIES if any(OPERATIONS[key].family is family for key in GUARDED if key not in OPERATED)
]


def _status(api: Api, operation: Operation, headers: dict[str, str]) -> int:
    answer = api.call(operation.method, path_of(operation), body_of(operation), key="", headers=headers)
    assert answer.headers["X-Request-Id"].startswith("req_")
    return answer.status_code


@pytest.mark.parametrize("key", GUARDED)
def test_nothing_opens_without_a_key(api: Api, key: str) -> None:
    """Nor with one that nobody has, nor with a key whose name is another's."""
    operation = OPERATIONS[key]
    assert _status(api, operation, {}) == 401
    assert _status(api, operation, headers_of(operation, "sk_live_nobodys", api.account.key_id)) == 401


@pytest.mark.parametrize("key", WRITING)
def test_a_reading_key_changes_nothing(api: Api, key: str) -> None:
    """It is known, and refused."""
    operation = OPERATIONS[key]
    assert _status(api, operation, headers_of(operation, api.account.reading_key, api.account.reading_key_id)) == 403


@pytest.mark.parametrize("key", OPERATED)
def test_an_accounts_key_is_not_the_operators(api: Api, key: str) -> None:
    """However much it may in its account."""
    assert _status(api, OPERATIONS[key], headers_of(OPERATIONS[key], api.account.key)) == 403


@pytest.mark.parametrize("key", [key for key in GUARDED if key not in OPERATED])
def test_the_operators_key_opens_no_account(api: Api, key: str) -> None:
    """Nobody is whose account it would be."""
    operation = OPERATIONS[key]
    assert _status(api, operation, headers_of(operation, api.operator_key, api.account.key_id)) == 403


@pytest.mark.parametrize(
    ("family", "scheme"),
    [pytest.param(family, scheme, id=f"{family.name} {scheme}") for family in USED for scheme in family.schemes],
)
def test_each_place_that_is_described_takes_the_key(api: Api, family: Family, scheme: str) -> None:
    """Headers, passwords and queries: it is read where the description says so."""
    operation = next(
        one for one in OPERATIONS.values() if one.family is family and one.access in (Access.READ, Access.WRITE)
    )
    headers, query = proof(family.schemes[scheme], api.account.key, api.account.key_id)
    answer = api.call(operation.method, path_of(operation), key="", headers=headers, query_string=query)
    assert answer.status_code not in (401, 403)
