"""Reading JSON Schemas: where a reference leads, and what is said of a field. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

Schema = Mapping[str, Any]
Schemas = Mapping[str, Schema]

REF_PREFIX: Final = "#/components/schemas/"


def resolved(schema: Schema, schemas: Schemas) -> Schema:
    """The schema itself, or the one that it refers to; what stands beside a reference adds to it."""
    while "$ref" in schema:
        beside = {name: value for name, value in schema.items() if name != "$ref"}
        schema = {**schemas[schema["$ref"].removeprefix(REF_PREFIX)], **beside}
    return schema


def choices(schema: Schema) -> list[Schema]:
    """The schemas of which a value has one; none for a schema that is a single one."""
    return [choice for keyword in ("anyOf", "oneOf") for choice in schema.get(keyword, ())]


def description_of(schema: Schema) -> str:
    """What a field's own schema says of it, or what one of its choices does: `a number or null` says it inside."""
    said = (one["description"] for one in (schema, *choices(schema)) if "description" in one)
    return " ".join(str(next(said, "")).split())
