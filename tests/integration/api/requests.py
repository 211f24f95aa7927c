"""A request to any operation, made from what the operation says of itself."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from relay.api.core.access import Access
from relay.api.core.operations import Operation
from relay.api.description import document
from relay.api.routes import operations
from tests.integration.api.conftest import Api, Customer

DOCUMENT = document("http://localhost")
OPERATIONS = {f"{operation.method} {operation.path}": operation for operation in operations()}
PARAMETER = re.compile(r"<(?:(?P<kind>[a-z]+):)?(?P<name>[a-z_]+)>")
# Shaped like ids, and nobody's.
NOBODYS = {"id": "ep_" + "a" * 26, "row": "7", None: "nobodys"}


def openapi_path(operation: Operation) -> str:
    """Its path as OpenAPI spells it."""
    return PARAMETER.sub(r"{\g<name>}", operation.path)


def described(operation: Operation) -> dict[str, Any]:
    """The operation in the OpenAPI description."""
    found: dict[str, Any] = DOCUMENT["paths"][openapi_path(operation)][operation.method.lower()]
    return found


def path_of(operation: Operation, ids: Mapping[str, str] | None = None) -> str:
    """Its path with these ids, else with some that are nobody's."""
    return PARAMETER.sub(lambda match: (ids or {}).get(match["name"], NOBODYS[match["kind"]]), operation.path)


def body_of(operation: Operation) -> Any:
    """The example of its body, or None; its URLs lead to this machine, for names are resolved."""
    content = described(operation).get("requestBody", {}).get("content", {})
    example = next((one["example"] for one in content.values()), None)
    return json.loads(json.dumps(example).replace("https://customer.example/", "http://127.0.0.1:9/"))


def fields_of(model: type[BaseModel]) -> set[str]:
    """The names of a body's fields in JSON."""
    return set(model.model_json_schema().get("properties", {}))


def proof(scheme: Mapping[str, Any], key: str, key_id: str = "") -> tuple[dict[str, str], dict[str, str]]:
    """Headers and query that show a key where a security scheme has it."""
    if scheme["type"] == "apiKey":
        shown = {str(scheme["name"]): key}
        return (shown, {}) if scheme["in"] == "header" else ({}, shown)
    if scheme["scheme"] == "basic":
        return {"Authorization": "Basic " + base64.b64encode(f"{key_id}:{key}".encode()).decode()}, {}
    return {"Authorization": f"Bearer {key}"}, {}


def headers_of(operation: Operation, key: str, key_id: str = "") -> dict[str, str]:
    """The headers that show a key in the first place that the operation's family has for it."""
    return proof(next(iter(operation.family.schemes.values())), key, key_id)[0]


def headers_as(api: Api, operation: Operation, customer: Customer) -> dict[str, str]:
    """The headers of a caller who may call it: the customer, or the operator."""
    if operation.access is Access.OPERATE:
        return headers_of(operation, api.operator_key)
    return headers_of(operation, customer.key, customer.key_id)
