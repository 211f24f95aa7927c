"""The description holds what OpenAPI 3.1 asks for, and what a reader does."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from relay.api.core.access import Access
from relay.api.core.responses import errors_of
from relay.api.description import document
from relay.api.routes import operations
from tests.unit.test_structure import ROUTES

URL = "https://hooks.example.com"
DOCUMENT = document(URL)
OPERATIONS = {f"{operation.method} {operation.path}": operation for operation in operations()}


def _described() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            yield f"{method.upper()} {path}", operation


DESCRIBED = dict(_described())


def _validator(schema: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator({**schema, "components": DOCUMENT["components"]})


def test_is_valid_openapi() -> None:
    """By the specification's own schema, and with every reference leading somewhere."""
    validate(json.loads(json.dumps(DOCUMENT)))
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert DOCUMENT["servers"] == [{"url": URL}]


def test_every_schema_is_a_json_schema() -> None:
    """Of the draft that OpenAPI 3.1 names."""
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_no_schema_says_what_no_draft_knows() -> None:
    """Bounds that could not be told are written as pydantic has them, and no client reads them."""
    assert [path for path in _paths(DOCUMENT) if path[-1] in {"ge", "gt", "le", "lt"}] == []


def _paths(part: Any, *path: str) -> Iterator[tuple[str, ...]]:
    if path:
        yield path
    for name, inner in part.items() if isinstance(part, dict) else ():
        yield from _paths(inner, *path, name)
    for inner in part if isinstance(part, list) else ():
        yield from _paths(inner, *path, "[]")


def test_operation_ids_are_unique() -> None:
    """Generated clients name their functions by them."""
    counted = Counter(operation["operationId"] for operation in DESCRIBED.values())
    assert [name for name, count in counted.items() if count > 1] == []


def test_every_operation_and_webhook_is_described() -> None:
    """The operations, and the ingress' own routes, in OpenAPI's spelling of paths."""
    webhooks = {route for route in ROUTES if "webhook" in route}
    expected = {route.replace("<id:", "<").replace("<row:", "<") for route in {*OPERATIONS, *webhooks}}
    assert {route.replace("{", "<").replace("}", ">") for route in DESCRIBED} == expected


@pytest.mark.parametrize("key", DESCRIBED)
def test_everything_has_a_description(key: str) -> None:
    """Parameters, answers and errors."""
    operation = DESCRIBED[key]
    assert operation["summary"]
    assert all(parameter.get("description") for parameter in operation.get("parameters", ()))
    assert all(answer["description"] for answer in operation["responses"].values())


@pytest.mark.parametrize("key", [key for key, one in DESCRIBED.items() if "requestBody" in one])
def test_the_example_of_a_body_is_one(key: str) -> None:
    """What a reader copies is taken; give the field that fails an example of its own: `Field(examples=[...])`."""
    (content,) = DESCRIBED[key]["requestBody"]["content"].values()
    if "example" in content:
        _validator(content["schema"]).validate(content["example"])


@pytest.mark.parametrize("key", OPERATIONS)
def test_says_what_can_go_wrong_and_when_to_try_again(key: str) -> None:
    """Each error has the family's form, each answer the request's id, and waiting ones say how long."""
    operation = OPERATIONS[key]
    responses = _of(key)["responses"]
    assert {int(status) for status in responses} == set(operation.answers) | errors_of(operation)
    for status, answer in responses.items():
        assert "X-Request-Id" in answer["headers"]
        assert ("Retry-After" in answer["headers"]) == (status in {"429", "503"})
        if status >= "300":
            assert list(answer["content"]) == [operation.family.refusal_type]


@pytest.mark.parametrize("key", OPERATIONS)
def test_says_who_may_call(key: str) -> None:
    """Any one of the places of the family's key, with what the key must be good for."""
    operation, security = OPERATIONS[key], _of(key)["security"]
    roles = {role for requirement in security for roles in requirement.values() for role in roles}
    assert roles == ({operation.access.value} if operation.access is not Access.PUBLIC else set())
    if operation.access in (Access.READ, Access.WRITE):
        assert [*map(next, map(iter, security))] == list(operation.family.schemes)


@pytest.mark.parametrize("key", OPERATIONS)
def test_says_what_may_be_repeated(key: str) -> None:
    """POST takes an `Idempotency-Key`, and its repeat says so."""
    names = {parameter["name"] for parameter in _of(key)["parameters"]}
    is_post = OPERATIONS[key].method == "POST"
    assert ("Idempotency-Key" in names) == is_post
    for status in OPERATIONS[key].answers:
        assert ("Idempotent-Replayed" in _of(key)["responses"][str(status)]["headers"]) == is_post


def test_no_schema_is_left_over() -> None:
    """What nothing refers to would only puzzle."""
    text = json.dumps(DOCUMENT)
    refusals = {name for name in DOCUMENT["components"]["schemas"] if name.endswith("Error")}
    unused = [name for name in DOCUMENT["components"]["schemas"] if f'"#/components/schemas/{name}"' not in text]
    assert set(unused) <= refusals


def _of(key: str) -> dict[str, Any]:
    method, path = key.replace("<id:", "<").replace("<row:", "<").split(" ", 1)
    found: dict[str, Any] = DOCUMENT["paths"][path.replace("<", "{").replace(">", "}")][method.lower()]
    return found
