"""The families of paths: where each expects its credentials, and what its answers and errors look like.

An existing client of another system must find what it knows, so that each family speaks its own dialect.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from werkzeug import Request

from relay.errors import SwitchhookError, ValidationFailed
from relay.problems import JSON, problem

Refusal = tuple[bytes, str]
"""A body and its content type."""


@dataclass(frozen=True, slots=True)
class Family:
    """One dialect. `credential` finds the key in a request; `wrap` makes a success what its clients unwrap.

    `scheme` is the OpenAPI security scheme, `refusal_schema` the JSON Schema of an error.
    """

    name: str
    title: str
    credential: Callable[[Request], str | None]
    scheme: dict[str, Any]
    refuse: Callable[[SwitchhookError], Refusal]
    refusal_type: str
    refusal_schema: dict[str, Any]
    wrap: Callable[[Any], Any] = lambda payload: payload
    wrap_schema: Callable[[dict[str, Any]], dict[str, Any]] = lambda schema: schema


def bearer(request: Request) -> str | None:
    """The token of `Authorization: Bearer`."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def bearer_or_key(request: Request) -> str | None:
    """A bearer token, or `X-API-Key`."""
    return bearer(request) or request.headers.get("X-API-Key") or None


def bearer_or_key_or_query(request: Request) -> str | None:
    """CanaryLLM's three places; the query is never logged."""
    return bearer_or_key(request) or request.args.get("apiKey") or None


def header(name: str) -> Callable[[Request], str | None]:
    """A header that holds the key and nothing else."""
    return lambda request: request.headers.get(name) or None


def basic_password(request: Request) -> str | None:
    """The password of `Authorization: Basic <key id>:<key>`; the key id must be that of the key, which is checked."""
    scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, _, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return f"{name}:{password}" if name and password else None


# CanaryLLM's codes, as its clients know them, for ours.
_CANARY_CODES: Final = {
    "api_key_missing": "MISSING_API_KEY",
    "api_key_invalid": "INVALID_API_KEY",
    "api_key_expired": "EXPIRED_KEY",
    "api_key_revoked": "INACTIVE_KEY",
    "insufficient_permissions": "INSUFFICIENT_PERMISSIONS",
    "rate_limited": "RATE_LIMIT_EXCEEDED",
    "validation_error": "VALIDATION_ERROR",
    "not_found": "NOT_FOUND",
}


def canary_refusal(error: SwitchhookError) -> Refusal:
    """`{"success": false, "error", "code", "details"?}`; `details.issues` names each field that is wrong."""
    body: dict[str, Any] = {
        "success": False,
        "error": error.detail,
        "code": _CANARY_CODES.get(error.code, error.code.upper()),
    }
    if isinstance(error, ValidationFailed):
        body["details"] = {"issues": [issue.to_json() for issue in error.issues]}
    elif error.field is not None:
        body["details"] = {"issues": [{"path": error.field, "message": error.detail, "code": error.code}]}
    return msgspec.json.encode(body), JSON


# Agora's reasons, by status.
_AGORA_REASONS: Final = {
    400: "InvalidRequest",
    401: "InvalidCredentials",
    403: "InvalidPermission",
    404: "TaskNotFound",
    409: "TaskConflict",
    422: "InvalidRequest",
    429: "ResourceQuotaLimitExceeded",
    501: "NotImplemented",
    502: "ServiceUnavailable",
    503: "ServiceUnavailable",
}


def agora_refusal(error: SwitchhookError) -> Refusal:
    """`{"detail", "reason"}`."""
    detail = error.detail if error.field is None or error.field in error.detail else f"{error.field}: {error.detail}"
    reason = _AGORA_REASONS.get(error.status, "InternalError")
    return msgspec.json.encode({"detail": detail, "reason": reason}), JSON


def elevenlabs_refusal(error: SwitchhookError) -> Refusal:
    """`{"detail": {"status", "message"}}`."""
    return msgspec.json.encode({"detail": {"status": error.code, "message": error.detail}}), JSON


def canonical_refusal(error: SwitchhookError) -> Refusal:
    """`{"error", "code"}`: nothing of Canonical.chat's own errors is known but the attribute's name."""
    return msgspec.json.encode({"error": error.detail, "code": error.code}), JSON


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


_TEXT: Final = {"type": "string"}

_PROBLEM_SCHEMA: Final = _object(type=_TEXT, title=_TEXT, status={"type": "integer"}, detail=_TEXT, code=_TEXT)

OURS: Final = Family(
    name="ours",
    title="Switchhook",
    credential=bearer_or_key,
    scheme={"type": "http", "scheme": "bearer"},
    refuse=problem,
    refusal_type="application/problem+json",
    refusal_schema=_PROBLEM_SCHEMA,
)
CANARY: Final = Family(
    name="canaryllm",
    title="CanaryLLM",
    credential=bearer_or_key_or_query,
    scheme={"type": "http", "scheme": "bearer"},
    refuse=canary_refusal,
    refusal_type=JSON,
    refusal_schema=_object(success={"const": False}, error=_TEXT, code=_TEXT),
    wrap=lambda payload: {"success": True, "data": payload},
    wrap_schema=lambda schema: _object(success={"const": True}, data=schema),
)
AGORA: Final = Family(
    name="agora",
    title="Agora",
    credential=basic_password,
    scheme={"type": "http", "scheme": "basic"},
    refuse=agora_refusal,
    refusal_type=JSON,
    refusal_schema=_object(detail=_TEXT, reason=_TEXT),
)
ELEVENLABS: Final = Family(
    name="elevenlabs",
    title="ElevenLabs",
    credential=header("xi-api-key"),
    scheme={"type": "apiKey", "in": "header", "name": "xi-api-key"},
    refuse=elevenlabs_refusal,
    refusal_type=JSON,
    refusal_schema=_object(detail=_object(status=_TEXT, message=_TEXT)),
)
CANONICAL: Final = Family(
    name="canonical",
    title="Canonical",
    credential=header("X-Canonical-Api-Key"),
    scheme={"type": "apiKey", "in": "header", "name": "X-Canonical-Api-Key"},
    refuse=canonical_refusal,
    refusal_type=JSON,
    refusal_schema=_object(error=_TEXT, code=_TEXT),
)
CONVERSATIONS: Final = Family(
    name="conversations",
    title="Conversations",
    credential=bearer,
    scheme={"type": "http", "scheme": "bearer"},
    refuse=problem,
    refusal_type="application/problem+json",
    refusal_schema=_PROBLEM_SCHEMA,
)
FAMILIES: Final = (OURS, CANARY, AGORA, ELEVENLABS, CANONICAL, CONVERSATIONS)
