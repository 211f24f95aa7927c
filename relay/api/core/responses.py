"""What an operation may answer besides its own success: the errors of its kind, their headers, their meaning."""

from __future__ import annotations

from typing import Any, Final

from relay.api.core.access import Access
from relay.api.core.operations import Operation
from relay.request_ids import REQUEST_ID

_RETRY_AFTER: Final = "Retry-After"
_REPLAYED: Final = "Idempotent-Replayed"

HEADERS: Final[dict[str, dict[str, Any]]] = {
    REQUEST_ID: {
        "description": "What to name when something has to be looked up.",
        "required": True,
        "schema": {"type": "string"},
    },
    _RETRY_AFTER: {
        "description": "After how many seconds to try again.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    },
    _REPLAYED: {
        "description": "Only on the answer to a repeat with the same `Idempotency-Key`: nothing happened again.",
        "schema": {"const": "true"},
    },
}

_MEANINGS: Final = {
    200: "Done",
    201: "Made",
    202: "Taken; it goes on by itself",
    204: "Done, with nothing to say",
    400: "The request cannot be understood; the fields that are wrong are named",
    401: "There is no proof of who calls, or a wrong one",
    402: "A budget with a hard limit has not enough left; nothing was begun",
    403: "This key may not do this",
    404: "There is nothing here by this id",
    409: "What this needs is not so, or was changed meanwhile",
    410: "It was here, and is not kept any more",
    413: "The body is too large",
    415: "The body is compressed; send it as it is",
    422: "This Idempotency-Key was sent with another request",
    429: "Too many requests in a minute",
    501: "This is not built yet",
    502: "The provider, or the customer's server, refused or made no sense",
    503: "Nothing was done; try again shortly",
    504: "The customer's server did not answer in time",
    508: "This is a delivery of this Switchhook",
}
# These say when to go on.
_WAITING: Final = frozenset({429, 503})


def errors_of(operation: Operation) -> frozenset[int]:
    """The statuses of every error that an operation may answer."""
    found = set(operation.errors) | {503}
    if operation.access is not Access.PUBLIC:
        found |= {401, 403, 429}
    if operation.body is not None or operation.reads_query:
        found.add(400)
    if operation.body is not None:
        found |= {413, 415}
    if operation.is_repeatable:
        found |= {400, 409, 422}
    if "<" in operation.path:
        found.add(404)
    return frozenset(found)


def headers_of(operation: Operation, status: int) -> dict[str, Any]:
    """The headers of a success."""
    names = [REQUEST_ID, _REPLAYED] if operation.is_repeatable and status < 300 else [REQUEST_ID]
    return {name: named_header(name) for name in names}


def refused(status: int, content_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    """An error as OpenAPI describes it."""
    names = [REQUEST_ID, _RETRY_AFTER] if status in _WAITING else [REQUEST_ID]
    return {
        "description": meaning(status),
        "headers": {name: named_header(name) for name in names},
        "content": {content_type: {"schema": schema}},
    }


def meaning(status: int) -> str:
    """A status in words."""
    return _MEANINGS[status]


def named_header(name: str) -> dict[str, Any]:
    """One of `HEADERS`, by its name."""
    return {"$ref": f"#/components/headers/{name}"}
