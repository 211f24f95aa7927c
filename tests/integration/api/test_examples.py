"""What the description shows as an example is taken: a reader who copies it gets what was promised."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from relay.settings import Settings
from tests.integration.api.belongings import APPID, fake_providers, known_to
from tests.integration.api.conftest import Api
from tests.integration.api.requests import OPERATIONS, body_of, headers_as, path_of

WITH_BODY = [key for key, operation in OPERATIONS.items() if operation.body is not None and operation.answers]


@pytest.fixture(scope="module")
def api_settings(api_settings: Settings) -> Iterator[Settings]:
    """With providers to go to."""
    with fake_providers() as fakes:
        yield fakes.reached_by(api_settings)


@pytest.mark.parametrize("key", WITH_BODY)
def test_the_example_of_a_body_is_taken(api: Api, key: str) -> None:
    """With ids of the caller's own; give a field that is refused an example: `Field(examples=[...])`."""
    operation = OPERATIONS[key]
    known = known_to(api, operation)
    path = path_of(operation, {"appid": APPID, "provider": "elevenlabs", "destination": "stripe"} | known.path)
    headers = headers_as(api, operation, api.account)
    answer = api.call(operation.method, path, body_of(operation) | known.named, key="", headers=headers)
    assert answer.status_code in operation.answers, answer.get_data(as_text=True)
