"""Names that are not known in a query: refused on our own paths, so that a typing error is not ignored."""

from __future__ import annotations

import pytest

from relay.api.core.access import Access
from relay.api.core.families import OURS
from tests.integration.api.conftest import Api
from tests.integration.api.requests import OPERATIONS

READING = sorted(
    operation.path
    for operation in OPERATIONS.values()
    if operation.family is OURS
    and operation.access is Access.READ
    and operation.method == "GET"
    and "<" not in operation.path
)


@pytest.mark.parametrize("path", READING)
def test_an_unknown_name_is_refused_by_itself(api: Api, path: str) -> None:
    """Whether the operation takes anything in its query or not."""
    answer = api.get(path, query_string={"cursr": "x"})
    assert (answer.status_code, answer.get_json()["code"], answer.get_json()["field"]) == (
        400,
        "validation_error",
        "cursr",
    )


def test_what_everybody_may_see_takes_any_query(api: Api) -> None:
    """Caches are passed by with one."""
    assert api.get("/openapi.json", key="", query_string={"v": "2"}).status_code == 200


def test_the_paths_of_others_ignore_what_is_not_asked_for(api: Api) -> None:
    """Their clients may send what theirs knows."""
    assert api.get("/api/keys/info", query_string={"v": "2"}).status_code == 200
