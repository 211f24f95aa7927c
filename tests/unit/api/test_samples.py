"""Examples that are made from schemas."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from relay.api.core.samples import sample

PERSON: dict[str, Any] = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "minLength": 1},
        "age": {"type": "integer", "minimum": 18},
        "friend": {"$ref": "#/components/schemas/Person"},
    },
}
SCHEMAS = {"Person": PERSON}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string"}, "text"),
        ({"type": "string", "minLength": 6}, "textxx"),
        ({"type": "string", "maxLength": 2}, "te"),
        ({"type": "string", "format": "date-time"}, "2026-02-11T12:00:00.000Z"),
        ({"type": "integer"}, 1),
        ({"type": "integer", "minimum": 30, "maximum": 3600}, 30),
        ({"type": "integer", "exclusiveMinimum": 0}, 1),
        ({"type": "integer", "maximum": 0}, 0),
        ({"type": "number", "maximum": 0.5}, 0.5),
        ({"type": "boolean"}, True),
        ({"type": "null"}, None),
        ({}, None),
        ({"const": "USD"}, "USD"),
        ({"enum": ["interview", "conversation"]}, "interview"),
        ({"type": "string", "pattern": "^ep_", "examples": ["ep_1"]}, "ep_1"),  # an example goes before everything
        ({"type": "integer", "default": 600, "minimum": 30}, 600),
        ({"type": ["null", "integer"]}, 1),
        ({"anyOf": [{"type": "null"}, {"type": "integer"}], "default": None}, 1),  # something says more than nothing
        ({"type": "array", "items": {"type": "integer"}}, []),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, [1, 1]),
        ({"$ref": "#/components/schemas/Person"}, {"name": "Customer interview"}),  # what is called so looks like this
        ({"$ref": "#/components/schemas/Person", "examples": [{"name": "Ada"}]}, {"name": "Ada"}),
    ],
)
def test_takes_the_best_that_the_schema_offers(schema: dict[str, Any], expected: Any) -> None:
    """Its own examples, constants and defaults, else the smallest that is allowed; and the schema allows it."""
    made = sample(schema, SCHEMAS)
    assert made == expected
    assert type(made) is type(expected) or isinstance(made, float)
    Draft202012Validator({**schema, "components": {"schemas": SCHEMAS}}).validate(made)


def test_a_whole_sample_shows_every_field() -> None:
    """Down to where a schema that holds itself has to end."""
    whole = sample(PERSON, SCHEMAS, is_whole=True)
    assert whole["age"] == 18
    assert whole["friend"]["friend"]["name"] == "Customer interview"
    assert sample({"type": "array", "items": {"type": "integer"}}, {}, is_whole=True) == [1]
    assert sample({"type": "array", "items": {"type": "integer"}, "maxItems": 0}, {}, is_whole=True) == []


@pytest.mark.parametrize("name", ["agentId", "agent_id"])
def test_a_name_suggests_its_text_in_every_dialect(name: str) -> None:
    """Also within lists, and no longer than may be."""
    assert sample({"type": "object", "properties": {name: {"type": "string"}}}, {}, is_whole=True) == {name: "agent_7"}
    short = {"type": "object", "properties": {name: {"type": "array", "items": {"type": "string", "maxLength": 3}}}}
    assert sample(short, {}, is_whole=True) == {name: ["age"]}
