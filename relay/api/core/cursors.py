"""Where a page of a list begins: opaque to callers, so that lists may be ordered otherwise one day."""

from __future__ import annotations

import base64
import binascii
from datetime import date, datetime
from typing import Any, TypeVar

import msgspec

from relay.errors import BadRequest

T = TypeVar("T")


def written(place: Any) -> str:
    """The place of the last thing on a page (a tuple of numbers, texts and moments) as a cursor."""
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode("ascii").rstrip("=")


def read(cursor: str | None, kind: type[T]) -> T | None:
    """The place that a cursor tells of; None for none. Raises BadRequest."""
    if cursor is None:
        return None
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        place = msgspec.json.decode(raw, type=kind)
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        raise _invalid() from None
    if not all(_is_storable(part) for part in (place if isinstance(place, tuple) else (place,))):
        raise _invalid()
    return place


def _is_storable(part: Any) -> bool:
    """Whether Postgres could hold it: a cursor that somebody made up must not become an error of the database."""
    if isinstance(part, int):
        return abs(part) < 2**63
    if isinstance(part, datetime):
        return part.tzinfo is not None and 1970 <= part.year < 9999
    if isinstance(part, date):
        return 1970 <= part.year < 9999
    return "\x00" not in part if isinstance(part, str) else part is None


def _invalid() -> BadRequest:
    return BadRequest("take nextCursor of the page before, as it is", code="cursor_invalid", field="cursor")
