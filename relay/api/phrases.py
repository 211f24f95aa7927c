"""JSON Schemas in words, for people who read a table of fields. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from relay.api.core.models import MAX_CHARS
from relay.api.core.schemas import Schema, Schemas, choices, description_of, resolved

_MOST_LEVELS: Final = 6
_MOST_LEVELS_OF_TYPES: Final = 3
_MOST_CHOICES: Final = 12
_NULL: Final = "null"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of a body: `path` as in `questions[].isRequired`, `kind` its type and limits in words."""

    path: str
    kind: str
    is_required: bool
    description: str


def fields(schema: Schema, schemas: Schemas, *, prefix: str = "", level: int = 0) -> Iterator[Field]:
    """Every field, what is required first, each object's own behind it."""
    schema = _inner(schema, schemas)
    required = schema.get("required", ())
    properties = schema.get("properties", {})
    for name, declared in sorted(properties.items(), key=lambda one: one[0] not in required):
        path = f"{prefix}{name}"
        yield Field(
            path=path,
            kind=kind_of(declared, schemas),
            is_required=name in required,
            description=description_of(declared) or description_of(resolved(declared, schemas)),
        )
        if level < _MOST_LEVELS:
            inner, suffix = _within(declared, schemas)
            yield from fields(inner, schemas, prefix=f"{path}{suffix}.", level=level + 1)


def kind_of(schema: Schema, schemas: Schemas, *, level: int = 0) -> str:
    """A type with its limits and its default, such as `integer, 30 to 3600, default 600`.

    `level` is how deep this stands within another type: a schema that holds itself has to end.
    """
    schema = resolved(schema, schemas)
    said = [_type_of(schema, schemas, level), *_limits(schema)]
    if schema.get("default") is not None:
        said.append(f"default {_json(schema['default'])}")
    return ", ".join(said)


def _type_of(schema: Schema, schemas: Schemas, level: int) -> str:
    if "const" in schema:
        return _json(schema["const"])
    if "enum" in schema:
        return _few([_json(value) for value in schema["enum"]])
    if choices(schema) and level < _MOST_LEVELS_OF_TYPES:
        each = dict.fromkeys(kind_of(choice, schemas, level=level + 1) for choice in choices(schema))
        return _or_null(" or ".join(one for one in each if one != _NULL), is_null=_NULL in each)
    kind = schema.get("type", "anything")
    kinds = [kind] if isinstance(kind, str) else list(kind)
    said = " or ".join(_plain(one, schema, schemas, level) for one in kinds if one != _NULL)
    return _or_null(said, is_null=_NULL in kinds)


def _plain(kind: str, schema: Schema, schemas: Schemas, level: int) -> str:
    if level < _MOST_LEVELS_OF_TYPES:
        if kind == "array" and schema.get("items"):
            return f"list of {_grouped(kind_of(schema['items'], schemas, level=level + 1))}"
        if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
            return f"object of {_grouped(kind_of(schema['additionalProperties'], schemas, level=level + 1))}"
    return str(schema.get("format", kind)) if kind == "string" else kind


def _or_null(said: str, *, is_null: bool) -> str:
    return f"{said}, or null" if said and is_null else said or _NULL


def _grouped(said: str) -> str:
    return f"({said})" if " " in said else said


def _few(values: list[str]) -> str:
    """All of a few, the first of many."""
    shown = values if len(values) <= _MOST_CHOICES else [*values[:_MOST_CHOICES], f"{len(values) - _MOST_CHOICES} more"]
    return " | ".join(shown)


def _limits(schema: Schema) -> Iterator[str]:
    for least, most, unit in (
        ("minLength", "maxLength", " characters"),
        ("minimum", "maximum", ""),
        ("minItems", "maxItems", " of them"),
        ("minProperties", "maxProperties", " fields"),
    ):
        low, high = schema.get(least), schema.get(most)
        high = None if most == "maxLength" and high == MAX_CHARS else high
        if low is not None and high is not None:
            yield f"{low} to {high}{unit}" if low != high else f"exactly {low}{unit}"
        elif low == 1 and unit:
            yield "not empty"
        elif low is not None and (low or not unit):
            yield f"at least {low}{unit}"
        elif high is not None:
            yield f"at most {high}{unit}"
    if "pattern" in schema:
        yield f"matching {schema['pattern']}"
    if "exclusiveMinimum" in schema:
        yield f"more than {schema['exclusiveMinimum']}"
    if "exclusiveMaximum" in schema:
        yield f"less than {schema['exclusiveMaximum']}"


def _inner(schema: Schema, schemas: Schemas) -> Schema:
    """The object behind a reference, or behind `object or null`."""
    schema = resolved(schema, schemas)
    inner = (_inner(choice, schemas) for choice in choices(schema))
    return next((one for one in inner if one.get("properties")), schema)


def _within(schema: Schema, schemas: Schemas) -> tuple[Schema, str]:
    """What a field's own fields are looked for in, and how its path goes on."""
    schema = resolved(schema, schemas)
    for one in (schema, *(resolved(choice, schemas) for choice in choices(schema))):
        if one.get("type") == "array" and one.get("items"):
            return one["items"], "[]"
        if isinstance(one.get("additionalProperties"), dict):
            return one["additionalProperties"], ".*"
    return schema, ""


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
