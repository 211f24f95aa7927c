"""`X-Request-Id` on every answer of the application, whatever it is asked and whoever asks."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.integration.api.conftest import Api

ASKED: list[tuple[str, str, int]] = [
    ("GET", "/livez", 200),
    ("HEAD", "/livez", 200),
    ("GET", "/readyz", 200),
    ("GET", "/metrics", 200),
    ("OPTIONS", "/livez", 200),
    ("OPTIONS", "/api/v1/endpoints", 200),
    ("GET", "/no/such/path", 404),
    ("DELETE", "/livez", 405),
    ("GET", "/api/v1//endpoints", 308),
    ("GET", "/api/v1/endpoints", 200),
    ("GET", "/openapi.json", 200),
    ("POST", "/api/v1/webhooks/retell/src_unknown", 404),
    ("POST", "/api/v1/webhooks/retell", 401),
    ("POST", "/api/convagents/webhook/event", 401),
    ("POST", "/api/convagents/webhook/context", 401),
]


@pytest.mark.parametrize(("method", "path", "status"), ASKED)
def test_every_answer_has_one(api: Api, method: str, path: str, status: int) -> None:
    """Of its own, each time."""
    answers = [api.call(method, path) for _ in range(2)]
    assert {answer.status_code for answer in answers} == {status}
    ids = [answer.headers.getlist("X-Request-Id") for answer in answers]
    assert all(len(one) == 1 and re.fullmatch("req_[0-9a-f]{24}", one[0]) for one in ids)
    assert ids[0] != ids[1]


def test_a_webhook_that_was_taken_has_one(api: Api) -> None:
    """Also one that the customer answers himself."""
    template: dict[str, Any] = {"name": "T", "type": "conversation", "provider": "agora", "systemPrompt": "x"}
    secret = api.post("/api/convagents/templates", template).get_json()["data"]["webhookSecret"]
    headers = {"X-Webhook-Secret": secret}
    taken = api.client.post("/api/convagents/webhook/event", json={"sessionId": 1}, headers=headers)
    asked = api.client.post("/api/convagents/webhook/context", json={"sessionId": 1}, headers=headers)
    assert (taken.status_code, asked.status_code) == (200, 409)
    assert all(answer.headers["X-Request-Id"].startswith("req_") for answer in (taken, asked))
