"""The API's own description."""

from __future__ import annotations

from tests.integration.api.conftest import Api


def test_describes_itself_without_a_key(api: Api) -> None:
    """As OpenAPI 3.1."""
    answer = api.get("/openapi.json", key="")
    assert answer.status_code == 200
    assert answer.get_json()["openapi"].startswith("3.1")
    assert answer.headers["X-Request-Id"].startswith("req_")


def test_has_a_page_to_read(api: Api) -> None:
    """Without a key, with its own policy of what may be loaded."""
    answer = api.get("/docs", key="")
    assert answer.status_code == 200
    assert answer.content_type == "text/html; charset=utf-8"
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'sha256-")
    assert b'id="ours_openapi"' in answer.data


def test_describes_itself_the_same_each_time(api: Api) -> None:
    """It is made once for a process."""
    assert api.get("/openapi.json", key="").data == api.get("/openapi.json", key="").data
    assert api.get("/openapi.json", key="").get_json()["servers"] == [{"url": api.settings.public_url}]
