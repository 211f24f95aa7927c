"""The API's own description."""

from __future__ import annotations

from tests.integration.api.conftest import Api


def test_describes_itself_without_a_key(api: Api) -> None:
    """As OpenAPI 3.1."""
    answer = api.get("/openapi.json", key="")
    assert answer.status_code == 200
    assert answer.get_json()["openapi"].startswith("3.1")
    assert answer.headers["X-Request-Id"].startswith("req_")
