"""An error in the words of each family, and the JSON Schema of what it then looks like."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from relay.errors import BadRequest, SwitchhookError
from relay.problems import JSON

Schemas = dict[str, dict[str, Any]]

Refusal = tuple[bytes, str]
"""A body and its content type."""

# CanaryLLM's codes, as its clients know them, for ours; the others are ours in upper case.
_CANARY_CODES: Final = {
    "api_key_missing": "MISSING_API_KEY",
    "api_key_invalid": "INVALID_API_KEY",
    "api_key_expired": "EXPIRED_KEY",
    "api_key_revoked": "INACTIVE_KEY",
    "rate_limited": "RATE_LIMIT_EXCEEDED",
}


def canary_refusal(error: SwitchhookError) -> Refusal:
    """`{"success": false, "error", "code", "details"?}`; `details.issues` names each field that is wrong."""
    body: dict[str, Any] = {
        "success": False,
        "error": error.detail,
        "code": _CANARY_CODES.get(error.code, error.code.upper()),
    }
    if isinstance(error, BadRequest) and error.issues:
        body["details"] = {"issues": [issue.to_json() for issue in error.issues]}
    elif error.field is not None:
        body["details"] = {"issues": [{"path": error.field, "message": error.detail, "code": error.code}]}
    return msgspec.json.encode(body), JSON


# Agora's reasons (`AgentErrorResponseReason` of its Python package 2.12.0), by status.
_AGORA_REASONS: Final = {
    400: "InvalidRequestBody",
    401: "InvalidPermission",
    402: "ResourceQuotaLimitExceeded",
    403: "InvalidPermission",
    404: "TaskNotFound",
    409: "TaskConflict",
    413: "InvalidRequestBody",
    415: "InvalidRequestBody",
    422: "InvalidRequestBody",
    429: "ResourceQuotaLimitExceeded",
    501: "NotImplemented",
    502: "ServiceUnavailable",
    503: "ServiceUnavailable",
}
_AGORA_NOT_ENABLED: Final = "provider_not_configured"


def agora_refusal(error: SwitchhookError) -> Refusal:
    """`{"detail", "reason"}`."""
    by_status = _AGORA_REASONS.get(error.status, "InternalError")
    reason = "ServiceNotEnabled" if error.code == _AGORA_NOT_ENABLED else by_status
    return msgspec.json.encode({"detail": _with_field(error), "reason": reason}), JSON


def elevenlabs_refusal(error: SwitchhookError) -> Refusal:
    """`{"detail": {"status", "message"}}`."""
    return msgspec.json.encode({"detail": {"status": error.code, "message": _with_field(error)}}), JSON


def canonical_refusal(error: SwitchhookError) -> Refusal:
    """`{"error", "code"}`: nothing of Canonical.chat's own errors is known but the attribute's name."""
    return msgspec.json.encode({"error": _with_field(error), "code": error.code}), JSON


def retell_refusal(error: SwitchhookError) -> Refusal:
    """`{"status": "error", "message"}` (Retell's OpenAPI), and our `code`."""
    return msgspec.json.encode({"status": "error", "message": _with_field(error), "code": error.code}), JSON


def _with_field(error: SwitchhookError) -> str:
    """What is wrong, and in which field, where there is no place of its own for that."""
    if error.field is None or error.field in error.detail:
        return error.detail
    return f"{error.field}: {error.detail}"


def object_of(optional: Schemas | None = None, /, **properties: dict[str, Any]) -> dict[str, Any]:
    """The schema of an object with these properties."""
    return {"type": "object", "required": list(properties), "properties": properties | (optional or {})}


def _text(description: str) -> dict[str, Any]:
    return {"type": "string", "description": description}


_CODE: Final = _text("Stable, for programs.")
_DETAIL: Final = _text("What is wrong and what to do next, for people.")
_ISSUES: Final = {
    "type": "array",
    "description": "Each field that is wrong.",
    "items": object_of(path=_text("Which field."), message=_text("What it must be."), code=_CODE),
}

PROBLEM: Final = object_of(
    {"field": _text("The first field that is wrong."), "issues": _ISSUES},
    type=_text("`urn:switchhook:problem:` and the code."),
    title=_text("The status in words."),
    status={"type": "integer", "description": "The status."},
    detail=_DETAIL,
    code=_CODE,
)
CANARY: Final = object_of({"details": object_of(issues=_ISSUES)}, success={"const": False}, error=_DETAIL, code=_CODE)
AGORA: Final = object_of(detail=_DETAIL, reason=_text("Stable, for programs."))
ELEVENLABS: Final = object_of(detail=object_of(status=_CODE, message=_DETAIL))
CANONICAL: Final = object_of(error=_DETAIL, code=_CODE)
RETELL: Final = object_of(status={"const": "error"}, message=_DETAIL, code=_CODE)
