"""The OpenAPI 3.1 description, made from the operations themselves, so that it cannot tell of another API.

Who may call stands in each operation's `security`, as the role that OpenAPI 3.1 lets every kind of scheme have:
`read`, `write` or `operate`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode

from relay.api.core.access import Access
from relay.api.core.families import FAMILIES, Family
from relay.api.core.operations import Forms, Operation, Raw
from relay.api.core.responses import HEADERS, errors_of, headers_of, meaning, refused
from relay.api.core.samples import sample
from relay.api.core.schemas import REF_PREFIX, description_of, resolved
from relay.problems import JSON

_REF: Final = REF_PREFIX + "{model}"
_OPERATOR: Final[dict[str, Any]] = {
    "operatorKey": {"type": "http", "scheme": "bearer", "description": "The operator's key, SWITCHHOOK_OPERATOR_KEY."}
}
_PARAMETER: Final = re.compile(r"<(?:(?P<kind>[a-z]+):)?(?P<name>[a-z_]+)>")
_KINDS: Final[dict[str | None, dict[str, Any]]] = {
    "id": {"type": "string", "pattern": "^[a-z]{2,5}_[a-z2-7]{26}$"},
    "row": {"type": "integer", "minimum": 1, "maximum": 9_999_999_999_999_999},
    None: {"type": "string", "minLength": 1},
}
_IDEMPOTENCY_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same request with the same key gets the same answer for 24 hours, and nothing happens twice. "
    "Answers that refuse are not kept.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
}

Models = Mapping[tuple[Any, JsonSchemaMode], dict[str, Any]]
Schemas = dict[str, dict[str, Any]]
Described = dict[str, Any]


class _Untitled(GenerateJsonSchema):
    """Without titles that only repeat the names of fields."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        return False


def described(
    operations: Iterable[Operation], *, version: str, url: str, more_paths: Described, more_schemes: Described
) -> dict[str, Any]:
    """The description as a JSON object, with the paths (and their security schemes) that are served by hand. Pure."""
    listed = list(operations)
    models, schemas = _schemas(listed)
    paths: dict[str, dict[str, Any]] = {}
    for operation in listed:
        path = _PARAMETER.sub(r"{\g<name>}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _operation(operation, models, schemas)
    for path, item in more_paths.items():
        paths.setdefault(path, {}).update(item)
    tags = dict.fromkeys(tag for item in paths.values() for one in item.values() for tag in one["tags"])
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Switchhook",
            "version": version,
            "summary": "The control API: our own paths, and those of the systems that Switchhook stands in for.",
        },
        "servers": [{"url": url}],
        "tags": [{"name": tag} for tag in tags],
        "paths": paths,
        "components": {
            "schemas": _used(schemas, paths) | {refusal_name(family): family.refusal_schema for family in FAMILIES},
            "securitySchemes": _OPERATOR
            | {name: one for family in FAMILIES for name, one in family.schemes.items()}
            | more_schemes,
            "headers": HEADERS,
        },
    }


def refusal_name(family: Family) -> str:
    """The name of a family's error among the schemas."""
    return f"{family.name.capitalize()}Error"


def _schemas(operations: list[Operation]) -> tuple[Models, Schemas]:
    """The schema of each body, query and answer, and all that these refer to."""
    wanted: dict[tuple[Any, JsonSchemaMode], None] = {}
    for operation in operations:
        wanted |= {(model, "validation"): None for model in (operation.body, operation.query) if model is not None}
        answered = map(_model_of, operation.answers.values())
        wanted |= {(model, "serialization"): None for model in answered if model is not None}
    adapters = [(model, mode, TypeAdapter(model)) for model, mode in wanted]
    models, definitions = TypeAdapter.json_schemas(adapters, ref_template=_REF, schema_generator=_Untitled)
    return models, definitions.get("$defs", {})


def _used(schemas: Schemas, paths: dict[str, Any]) -> Schemas:
    """Without what nothing refers to: a query's model is told as parameters."""
    found: set[str] = set()
    waiting = set(_references(paths))
    while waiting:
        name = waiting.pop()
        if name in schemas and name not in found:
            found.add(name)
            waiting |= set(_references(schemas[name]))
    return {name: schema for name, schema in schemas.items() if name in found}


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        reference = node.get("$ref")
        if isinstance(reference, str):
            yield reference.removeprefix(REF_PREFIX)
        for inner in node.values():
            yield from _references(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from _references(inner)


def _operation(operation: Operation, models: Models, schemas: Schemas) -> dict[str, Any]:
    parameters = [*_path_parameters(operation), *_query_parameters(operation, models, schemas)]
    described: dict[str, Any] = {
        "operationId": f"{operation.family.name}_{operation.name}",
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": [*parameters, _IDEMPOTENCY_KEY] if operation.is_repeatable else parameters,
        "responses": dict(_responses(operation, models)),
        "security": _security(operation),
    }
    if operation.description:
        described["description"] = operation.description
    if operation.body is not None:
        schema = models[operation.body, "validation"]
        content = {"schema": schema, "example": sample(schema, schemas)}
        described["requestBody"] = {"required": True, "content": {JSON: content}}
    return described


def _security(operation: Operation) -> list[dict[str, list[str]]]:
    """Any one of the places of the family's key, with what the key must be good for."""
    if operation.access is Access.PUBLIC:
        return []
    schemes = _OPERATOR if operation.access is Access.OPERATE else operation.family.schemes
    return [{scheme: [operation.access.value]} for scheme in schemes]


def _path_parameters(operation: Operation) -> Iterator[dict[str, Any]]:
    for match in _PARAMETER.finditer(operation.path):
        subject = match["name"].removesuffix("_id").replace("_", " ")
        description = f"The {subject}'s id." if match["name"].endswith("id") else f"The {subject}."
        schema = _KINDS[match["kind"]]
        yield {"name": match["name"], "in": "path", "required": True, "description": description, "schema": schema}


def _query_parameters(operation: Operation, models: Models, schemas: Schemas) -> Iterator[dict[str, Any]]:
    if operation.query is None:
        return
    schema = resolved(models[operation.query, "validation"], schemas)
    for name, field in schema.get("properties", {}).items():
        required, description = name in schema.get("required", ()), description_of(field)
        yield {"name": name, "in": "query", "required": required, "description": description, "schema": field}


def _responses(operation: Operation, models: Models) -> Iterator[tuple[str, dict[str, Any]]]:
    family = operation.family
    for status, kind in operation.answers.items():
        answer: dict[str, Any] = {"description": meaning(status), "headers": headers_of(operation, status)}
        content: Described = {}
        model, raws = _model_of(kind), (kind.raw, *kind.more) if isinstance(kind, Forms) else (kind,)
        if model is not None:
            schema = models[model, "serialization"]
            content[JSON] = {"schema": family.wrap_schema(schema) if operation.is_wrapped else schema}
        content |= {raw.content_type: {"schema": {"type": "string"}} for raw in raws if isinstance(raw, Raw)}
        yield str(status), answer | ({"content": content} if content else {})
    for status in sorted(errors_of(operation) - set(operation.answers)):
        yield str(status), refused(status, family.refusal_type, {"$ref": _REF.format(model=refusal_name(family))})


def _model_of(kind: Any) -> Any:
    """The model of what is answered as JSON, if it is."""
    if isinstance(kind, Forms):
        return kind.model
    return None if isinstance(kind, Raw) else kind
