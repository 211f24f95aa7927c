"""What is not there is refused in the dialect of its paths, so that a client understands it."""

from __future__ import annotations

import pytest
from jsonschema import Draft202012Validator

from relay.api.core.families import FAMILIES, Family
from tests.integration.api.conftest import Api
from tests.integration.api.requests import OPERATIONS, path_of

PREFIXES = [(family, prefix) for family in FAMILIES for prefix in family.prefixes]


@pytest.mark.parametrize(("family", "prefix"), [pytest.param(*pair, id=pair[1]) for pair in PREFIXES])
def test_an_unknown_path_is_refused_in_its_dialect(api: Api, family: Family, prefix: str) -> None:
    """With an id to ask about, as every answer has."""
    answer = api.get(f"{prefix}/no/such/path")
    assert answer.status_code == 404
    assert answer.content_type == family.refusal_type
    assert answer.headers["X-Request-Id"].startswith("req_")
    Draft202012Validator(family.refusal_schema).validate(answer.get_json())


@pytest.mark.parametrize("key", ["GET /api/v1/keys", "GET /api/convagents/templates", "POST /api/v1/call"])
def test_another_method_is_refused_in_the_same_dialect(api: Api, key: str) -> None:
    """And the methods that there are, are named."""
    operation = OPERATIONS[key]
    answer = api.call("PATCH", path_of(operation), {})
    assert answer.status_code == 405
    assert operation.method in answer.headers["Allow"]
    Draft202012Validator(operation.family.refusal_schema).validate(answer.get_json())


def test_an_id_without_the_form_of_one_is_told_in_our_words(api: Api) -> None:
    """It matches no path: whoever wrote it is no one who typed into a browser."""
    answer = api.get("/api/v1/accounts/acc_x", key=api.operator_key)
    assert (answer.status_code, answer.get_json()["code"]) == (404, "not_found")
    assert answer.get_json()["detail"] == (
        "there is nothing at this path: look at it again, and at the form of the ids in it"
    )
