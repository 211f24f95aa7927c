"""The OpenAPI 3.1 description, made from the operations themselves, so that it cannot tell of another API."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Any, Final

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from relay.api.core.access import Access
from relay.api.core.families import FAMILIES, Family
from relay.api.core.operations import Operation
from relay.problems import JSON

_REF: Final = "#/components/schemas/{model}"
_PARAMETER: Final = re.compile(r"<(?:(?P<kind>[a-z]+):)?(?P<name>[a-z_]+)>")
_KINDS: Final[dict[str | None, dict[str, Any]]] = {
    "id": {"type": "string", "pattern": "^[a-z]{2,5}_[a-z2-7]{26}$"},
    "row": {"type": "integer", "minimum": 1, "maximum": 9_999_999_999_999_999},
    None: {"type": "string", "minLength": 1},
}


def described(operations: Iterable[Operation], *, version: str, url: str) -> dict[str, Any]:
    """The description as a JSON object. Pure."""
    listed = list(operations)
    models, schemas = _schemas(listed)
    paths: dict[str, dict[str, Any]] = {}
    for operation in listed:
        path = _PARAMETER.sub(r"{\g<name>}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _operation(operation, models)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Switchhook",
            "version": version,
            "description": "The control API: our own paths, and those of the systems that Switchhook stands in for.",
        },
        "servers": [{"url": url}],
        "tags": [{"name": tag} for tag in dict.fromkeys(operation.tag for operation in listed)],
        "paths": paths,
        "components": {
            "schemas": schemas | {_refusal_name(family): family.refusal_schema for family in FAMILIES},
            "securitySchemes": {family.name: family.scheme for family in FAMILIES},
        },
    }


Models = dict[tuple[type[Any], JsonSchemaMode], dict[str, Any]]


def _schemas(operations: list[Operation]) -> tuple[Models, dict[str, Any]]:
    wanted: list[tuple[type[BaseModel], JsonSchemaMode]] = []
    for operation in operations:
        wanted += [(model, "validation") for model in (operation.body, operation.query) if model is not None]
        wanted += [(model, "serialization") for model in operation.answers.values() if _is_model(model)]
    models, definitions = models_json_schema(list(dict.fromkeys(wanted)), ref_template=_REF)
    return {kind: schema for kind, schema in models.items() if _is_model(kind[0])}, definitions.get("$defs", {})


def _operation(operation: Operation, models: Models) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": f"{operation.family.name}_{operation.name}",
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": [*_path_parameters(operation), *_query_parameters(operation), *_header_parameters(operation)],
        "responses": dict(_responses(operation, models)),
        "security": [] if operation.access is Access.PUBLIC else [{operation.family.name: []}],
    }
    if operation.description:
        described["description"] = operation.description
    if operation.body is not None:
        schema = models[operation.body, "validation"]
        described["requestBody"] = {"required": True, "content": {JSON: {"schema": schema}}}
    return described


def _path_parameters(operation: Operation) -> Iterator[dict[str, Any]]:
    for match in _PARAMETER.finditer(operation.path):
        yield {"name": match["name"], "in": "path", "required": True, "schema": _KINDS[match["kind"]]}


def _query_parameters(operation: Operation) -> Iterator[dict[str, Any]]:
    if operation.query is None:
        return
    schema = operation.query.model_json_schema(ref_template=_REF)
    for name, described in schema.get("properties", {}).items():
        yield {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": described}


def _header_parameters(operation: Operation) -> Iterator[dict[str, Any]]:
    if operation.method == "POST" and operation.access is not Access.PUBLIC:
        schema = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"}
        yield {"name": "Idempotency-Key", "in": "header", "required": False, "schema": schema}


def _responses(operation: Operation, models: Models) -> Iterator[tuple[str, dict[str, Any]]]:
    family = operation.family
    for status, model in operation.answers.items():
        if model is None:
            yield str(status), {"description": _phrase(status)}
            continue
        schema = models[model, "serialization"] if _is_model(model) else TypeAdapter(model).json_schema()
        wrapped = family.wrap_schema(schema) if operation.is_wrapped else schema
        yield str(status), {"description": _phrase(status), "content": {JSON: {"schema": wrapped}}}
    refusal = {family.refusal_type: {"schema": {"$ref": _REF.format(model=_refusal_name(family))}}}
    for status in sorted(errors_of(operation) - set(operation.answers)):
        yield str(status), {"description": _phrase(status), "content": refusal}


def errors_of(operation: Operation) -> frozenset[int]:
    """The statuses of every error that an operation may answer."""
    found = set(operation.errors)
    if operation.access is not Access.PUBLIC:
        found |= {401, 403, 429, 503}
    if operation.body is not None or operation.query is not None:
        found.add(400)
    if operation.body is not None:
        found |= {413, 415}
    if operation.method == "POST" and operation.access is not Access.PUBLIC:
        found |= {400, 409, 422}
    if _PARAMETER.search(operation.path):
        found.add(404)
    return frozenset(found)


def _is_model(model: Any) -> bool:
    return isinstance(model, type) and issubclass(model, BaseModel)


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase


def _refusal_name(family: Family) -> str:
    return f"{family.name.capitalize()}Error"
