"""Kinds of fields that several resources have."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final

from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints

from relay.provisioning.checks import MAX_NAME_CHARS, MAX_SECRET_CHARS

_FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(9999, 1, 1, tzinfo=UTC)


def absent() -> Any:
    """The default of a field of a change that may be left out and not be null."""
    return Field(default=None, json_schema_extra=_without_default)


def _without_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)


def _printable(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError("must be printable, and not blank")
    return text


def _in_range(at: datetime) -> datetime:
    if not _FIRST <= at <= _LAST:
        raise ValueError("must be from 1970 to 9999")
    return at


Name = Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME_CHARS), AfterValidator(_printable)]
Secret = Annotated[str, StringConstraints(min_length=1, max_length=MAX_SECRET_CHARS), AfterValidator(_printable)]
Url = Annotated[
    str,
    StringConstraints(min_length=1, max_length=2048),
    AfterValidator(_printable),
    Field(examples=["https://customer.example/hook"]),
]

GivenMoment = Annotated[AwareDatetime, AfterValidator(_in_range)]
"""ISO 8601 with an offset, in."""

ShownMoment = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
"""ISO 8601 in UTC, out."""
