"""What may appear in a log line: fields on this list, as short scalars. Everything else is left out.

An allow-list, because the fields that must not appear grow with every release of every provider and library.
"""

from __future__ import annotations

from typing import Final

Scalar = str | int | float | bool | None

MAX_CHARS: Final = 256

ALLOWED_KEYS: Final = frozenset({
    # ids
    "account_id", "source_id", "template_id", "endpoint_id", "event_id", "session_id", "rate_card_id", "stream_id",
    "request_id",
    # names of our own making
    "provider", "lane", "verb", "code", "reason", "outcome", "task", "process", "version", "revision", "route",
    "method", "setting", "error", "kind", "destination",
    # numbers
    "status", "attempt", "count", "limit_bytes", "size_bytes", "used_bytes", "duration_ms", "wait_seconds", "port",
    "workers", "late_ms", "unaccounted", "pid", "signal",
    # where a library's record came from
    "logger", "where",
})  # fmt: skip


def allowed(fields: dict[str, object]) -> dict[str, Scalar]:
    """The fields that may be shown, with strings cut to 256 characters and objects reduced to their type's name."""
    return {key: _scalar(value) for key, value in fields.items() if key in ALLOWED_KEYS}


def _scalar(value: object) -> Scalar:
    if isinstance(value, str):
        return str(value)[:MAX_CHARS]
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, BaseException):
        return type(value).__name__
    return f"<{type(value).__name__}>"
