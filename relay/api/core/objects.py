"""JSON objects that callers may fill as they like, and that we keep: bounded, and the same when they are read again."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Annotated, Any, Final

from pydantic import AfterValidator

# What every reader of JSON takes for the number that was written, and Postgres' jsonb gives back as it was.
_MOST: Final = 2**63


def keepable(*, most_bytes: int) -> AfterValidator:
    """Of a JSON object: at most so many bytes when it is written without blanks, and no number beyond 64 bits."""

    def check(value: dict[str, Any]) -> dict[str, Any]:
        # Of those that JSON has no name for, `Input` says so: here only those that Postgres would change.
        if any(number <= -_MOST or number >= _MOST for number in _numbers(value) if math.isfinite(number)):
            raise ValueError("numbers must lie within 64 bits")
        if len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")) > most_bytes:
            raise ValueError(f"must be at most {most_bytes} bytes as JSON")
        return value

    return AfterValidator(check)


Metadata = Annotated[dict[str, Any], keepable(most_bytes=2048)]
"""A customer's own labels."""


def _numbers(value: Any) -> Iterator[float]:
    """Every number in it."""
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        if isinstance(value, int | float):
            yield value
        return
    for inner in value:
        yield from _numbers(inner)
