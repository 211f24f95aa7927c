"""The API does what it says of itself, whatever is sent: no 500, and no answer that is not described."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.specs.openapi import checks
from schemathesis.specs.openapi.schemas import OpenApiSchema

from relay.api.core.operations import Operation
from relay.settings import Settings
from relay.store.database import Database
from tests.integration.api.belongings import Known, a_template, fake_providers, known_to, recording
from tests.integration.api.conftest import Api
from tests.integration.api.requests import DOCUMENT, OPERATIONS, headers_as, openapi_path

CHECKS = [
    checks.status_code_conformance,  # 500 is described nowhere
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
WEBHOOKS = [path for path, item in DOCUMENT["paths"].items() if item.get("post", {}).get("tags") == ["Webhooks in"]]
FEW, MANY = 12, 150

Anything = Case[Any]
Described = APIOperation[Any, Any, Any, Any]


@pytest.fixture(scope="module")
def api_settings(api_settings: Settings) -> Iterator[Settings]:
    """With providers to go to."""
    with fake_providers() as fakes:
        yield fakes.reached_by(api_settings)


@pytest.fixture(scope="module", autouse=True)
def records(api_database: Database, api_redis: redis.Redis) -> Iterator[None]:
    """What is accepted is recorded."""
    with recording(api_database, api_redis):
        yield


@pytest.fixture(scope="module")
def schema(api_app: Flask) -> OpenApiSchema:
    """The description as the application serves it."""
    loaded = schemathesis.openapi.from_wsgi("/openapi.json", api_app)
    loaded.config.generation.update(with_security_parameters=False)  # the key is the caller's own
    return loaded


def _explore(
    described: APIOperation[Any, Any, Any, Any], headers: dict[str, str], thing: Known, *, examples: int
) -> None:
    """Send what the description allows, and what it does not: a few always the same, many always others."""
    allowed, forbidden = (described.as_strategy(mode) for mode in GenerationMode)

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=examples == FEW,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=st.one_of(allowed, forbidden), is_known=st.booleans())
    def examined(*, case: Anything, is_known: bool) -> None:
        if is_known:
            _put_into(case, thing)
        case.call_and_validate(checks=CHECKS, headers=headers)

    examined()


@pytest.mark.parametrize("key", OPERATIONS)
def test_answers_as_described(api: Api, schema: OpenApiSchema, key: str) -> None:
    """Each operation, a few times."""
    _explore_as_caller(api, schema, OPERATIONS[key], examples=FEW)


@pytest.mark.heavy
@pytest.mark.parametrize("key", OPERATIONS)
def test_answers_as_described_however_often(api: Api, schema: OpenApiSchema, key: str) -> None:
    """Each operation, many times."""
    _explore_as_caller(api, schema, OPERATIONS[key], examples=MANY)


@pytest.mark.parametrize("path", WEBHOOKS)
def test_webhooks_answer_as_described(api: Api, schema: OpenApiSchema, path: str) -> None:
    """From somebody who has a proof where it is a secret, and none where it is a signature."""
    secret = a_template(api, api.account)["webhook_secret"]
    proofs = {"X-Canonical-Api-Key": api.account.key, "X-Webhook-Secret": secret}
    _explore(schema[path]["POST"], proofs, Known(), examples=FEW)


def _put_into(case: Anything, thing: Known) -> None:
    case.path_parameters = case.path_parameters | thing.path
    if isinstance(case.body, dict):
        case.body = case.body | thing.named
    elif thing.named:
        case.query = case.query | thing.named


def _explore_as_caller(api: Api, schema: OpenApiSchema, operation: Operation, *, examples: int) -> None:
    described = schema[openapi_path(operation)][operation.method]
    _explore(described, headers_as(api, operation, api.account), known_to(api, operation), examples=examples)
