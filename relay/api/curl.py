"""A curl command for each described operation, with its own example as the body. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

Described = dict[str, Any]


def command(method: str, path: str, operation: Described, *, url: str, schemes: Described) -> str:
    """The command, over several lines. Ids, keys and secrets stand as shell variables."""
    path = re.sub(r"\{(\w+)\}", lambda match: f"${match[1].upper()}", path)
    target = f'"{url.rstrip("/")}{path}{_query(operation)}"'
    lines = [f"curl {target}" if method == "GET" else f"curl -X {method} {target}"]
    lines += _credential(operation, schemes)
    lines += _headers(operation)
    lines += _body(operation)
    return " \\\n  ".join(lines)


def _query(operation: Described) -> str:
    named = [one["name"] for one in operation.get("parameters", ()) if one["in"] == "query" and one["required"]]
    return "?" + "&".join(f"{name}=${_variable(name)}" for name in named) if named else ""


def _credential(operation: Described, schemes: Described) -> Iterator[str]:
    for requirement in operation["security"][:1]:
        (name,) = requirement
        scheme = schemes[name]
        # `operatorKey`, `templateSecret` and the like are secrets of their own; the rest are places of one API key.
        variable = "API_KEY" if requirement[name] and name != "operatorKey" else _variable(name)
        if scheme["type"] == "apiKey":
            yield f'-H "{scheme["name"]}: ${variable}"'
        elif scheme["scheme"] == "basic":
            yield f'-u "$KEY_ID:${variable}"'
        else:
            yield f'-H "Authorization: Bearer ${variable}"'


def _headers(operation: Described) -> Iterator[str]:
    for parameter in operation.get("parameters", ()):
        if parameter["in"] == "header" and parameter["required"]:
            name = parameter["name"]
            yield f'-H "{name}: ${_variable(name.removeprefix("X-"))}"'


def _body(operation: Described) -> Iterator[str]:
    for content_type, content in operation.get("requestBody", {}).get("content", {}).items():
        text = json.dumps(content.get("example", {}), ensure_ascii=False).replace("'", "'\\''")
        yield f"-H 'Content-Type: {content_type}'"
        yield f"-d '{text}'"


def _variable(name: str) -> str:
    """`apiKey` and `X-Api-Key` as shells write them."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).replace("-", "_").upper()
