"""Errors as answers: application/problem+json (RFC 9457) on our paths, CanaryLLM's envelope on theirs."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from relay.errors import BadRequest, SwitchhookError

PROBLEM_JSON: Final = "application/problem+json"
JSON: Final = "application/json"

_TITLES: Final = {
    400: "Bad request",
    401: "Not authorized",
    402: "Payment required",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    410: "Gone",
    413: "Body too large",
    415: "Unsupported encoding",
    422: "Cannot be processed",
    429: "Too many requests",
    500: "Internal error",
    501: "Not implemented",
    502: "Bad gateway",
    503: "Unavailable",
    504: "Timed out",
    508: "Loop detected",
}


def problem(error: SwitchhookError) -> tuple[bytes, str]:
    """Body and content type for our own paths; `code` is stable, `field` names what is wrong."""
    body: dict[str, Any] = {
        "type": f"urn:switchhook:problem:{error.code}",
        "title": _TITLES.get(error.status, "Error"),
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
    }
    if error.field is not None:
        body["field"] = error.field
    if isinstance(error, BadRequest) and error.issues:
        body["issues"] = [issue.to_json() for issue in error.issues]
    return msgspec.json.encode(body), PROBLEM_JSON


def envelope(error: SwitchhookError) -> tuple[bytes, str]:
    """Body and content type for CanaryLLM's paths: `{success: false, error, code, details}`."""
    body: dict[str, Any] = {"success": False, "error": error.detail, "code": error.code}
    if error.field is not None:
        body["details"] = {"field": error.field}
    return msgspec.json.encode(body), JSON


def retry_after(error: SwitchhookError) -> dict[str, str]:
    """The Retry-After header of an error that has one."""
    return {} if error.retry_after_seconds is None else {"Retry-After": str(error.retry_after_seconds)}
