"""Reading a few fields out of a provider's JSON, and forgiving all the others.

A signed body is refused only for what is needed of it (docs: "Ingress"). So every field is optional while decoding,
and a field of the wrong type counts as absent; `needed` then refuses the absence of what a provider must send.
Numbers stay text, because a duration or an amount that passed through a float is no longer what was written.
"""

from __future__ import annotations

import hashlib
import json
import re
from decimal import Context, Decimal
from types import NoneType
from typing import Any, Final, Generic, TypeVar, get_args

import msgspec

from relay.calls import keepable
from relay.errors import PayloadError

T = TypeVar("T", bound=msgspec.Struct)

ABSENT: Final = msgspec.Raw()
# What a duration reads as when something was sent that is no number: not absent, and refused by every parser.
UNREADABLE: Final = "unreadable"
MAX_NUMBER_CHARS: Final = 64
MAX_SESSION_ID: Final = 2**53 - 1
# The end of the year 9999, the last that dates can hold.
_MAX_MOMENT_MS: Final = 253_402_300_799_999
# Wide enough that shifting the decimal point of MAX_NUMBER_CHARS digits never rounds; no traps, so it never raises.
_EXACT: Final = Context(prec=2 * MAX_NUMBER_CHARS, traps=[])
_NUMBER: Final = re.compile(rb"-?(?:[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|Infinity)|NaN")
# 16 digits hold every id below 2**53 and every time in milliseconds; int() is never given more.
_INTEGER: Final = re.compile(r"-?[0-9]{1,16}")
_ACCOUNT_ID: Final = re.compile(r"acc_[a-z2-7]{26}")


class _NumberText(str):
    """A JSON number as it was written, told apart from a JSON string."""

    __slots__ = ()


class Reader(Generic[T]):
    """Decodes bodies into one struct whose fields are all optional: `str | None`, `Raw`, or such a struct `| None`.

    msgspec does it while everything is as documented and skips what is not declared, so that a transcript never
    becomes Python objects. What msgspec refuses (a lone surrogate in some field, NaN, another type) is read again
    field by field.
    """

    def __init__(self, struct: type[T]) -> None:
        self._struct = struct
        self._decoder = msgspec.json.Decoder(struct)

    def read(self, body: bytes) -> T:
        """Decode a body. Raises PayloadError if it is not UTF-8, not JSON, not an object, or nested too deep."""
        try:
            # msgspec does not look at the encoding of what it skips.
            text = None if body.isascii() else body.decode("utf-8")
        except UnicodeDecodeError:
            raise PayloadError("the body must be UTF-8", code="body_not_utf8") from None
        try:
            return self._decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeError):
            return self._read_patiently(body.decode("ascii") if text is None else text)
        except RecursionError:
            raise _too_deep() from None

    def _read_patiently(self, text: str) -> T:
        try:
            tree = json.loads(text, parse_int=_NumberText, parse_float=_NumberText, parse_constant=_NumberText)
        except RecursionError:
            raise _too_deep() from None
        except ValueError:
            raise PayloadError("the body must be JSON", code="body_not_json") from None
        if not isinstance(tree, dict):
            raise PayloadError("the body must be a JSON object", code="body_not_object")
        return _picked(tree, self._struct)


def needed(value: str | None, field: str) -> str:
    """Return a string that an event cannot do without. Raises PayloadError naming the field."""
    if value is None:
        raise PayloadError(f"{field} is absent or not a string", code="field_required", field=field)
    return keepable(value, field)


def needed_integer(raw: msgspec.Raw, field: str) -> int:
    """Return an integer that an event cannot do without. Raises PayloadError naming the field."""
    value = integer(raw)
    if value is None:
        raise PayloadError(f"{field} is absent or not an integer", code="field_required", field=field)
    return value


def optional(value: str | None, field: str) -> str | None:
    """Return a string that may be absent; an empty one is. Raises PayloadError if it cannot be kept as a fact."""
    return keepable(value, field) if value else None


def number(raw: msgspec.Raw) -> str | None:
    """The text of a JSON number, or of a string that holds one; None when absent or null.

    Anything else is UNREADABLE: its own text might be content.
    """
    text = bytes(raw)
    if text in (b"", b"null"):
        return None
    if text.startswith(b'"'):
        text = text[1:-1]
    if len(text) > MAX_NUMBER_CHARS or not _NUMBER.fullmatch(text):
        return UNREADABLE
    return text.decode("ascii")


def amount(raw: msgspec.Raw) -> str | None:
    """The text of a finite number below 10**12; None for anything else. For costs that are only compared."""
    text = number(raw)
    if text is None or text == UNREADABLE:
        return None
    return text if _is_plain(_EXACT.create_decimal(text)) else None


def shifted(text: str | None, places: int) -> str | None:
    """A number's text with its decimal point moved, exact and without exponent: ("15791", -3) is "15.791"."""
    if text is None or text == UNREADABLE:
        return text
    value = _EXACT.scaleb(_EXACT.create_decimal(text), places)
    if not value.is_finite():
        return text
    if not _is_plain(value):
        return UNREADABLE
    plain = f"{value:f}"
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def integer(raw: msgspec.Raw) -> int | None:
    """An integer, or a string of digits; None for anything else."""
    text = number(raw)
    return int(text) if text is not None and _INTEGER.fullmatch(text) else None


def session_id(raw: msgspec.Raw) -> int | None:
    """An integer or a string of digits that can be the id of a session: 1 to 2**53 - 1."""
    value = integer(raw)
    return value if value is not None and 1 <= value <= MAX_SESSION_ID else None


def account_id(value: str | None) -> str | None:
    """A text that can be the id of an account; None for any other: it is a label that anybody may have written."""
    return value if value is not None and _ACCOUNT_ID.fullmatch(value) else None


def moment_ms(raw: msgspec.Raw, *, unit_ms: int) -> int | None:
    """A Unix time in units of `unit_ms` as milliseconds; None for anything else, and outside the years 1970 to 9999."""
    value = integer(raw)
    return within_calendar(value * unit_ms) if value is not None else None


def within_calendar(value_ms: int) -> int | None:
    """The same moment if a date can hold it, else None."""
    return value_ms if 0 <= value_ms <= _MAX_MOMENT_MS else None


def fingerprint(body: bytes) -> str:
    """blake2b-128 of a body in hex: an identity for events that carry none. It cannot be turned back into content."""
    return hashlib.blake2b(body, digest_size=16).hexdigest()


def _too_deep() -> PayloadError:
    return PayloadError("the body is nested too deep", code="body_too_deep")


def _is_plain(value: Decimal) -> bool:
    return value.is_finite() and -MAX_NUMBER_CHARS < value.adjusted() < 12


def _picked(tree: dict[str, Any], struct: type[T]) -> T:
    """Build a struct from the fields of an object that have the declared types."""
    values = {}
    for field in msgspec.structs.fields(struct):
        if field.encode_name in tree:
            value = _fitted(tree[field.encode_name], field.type)
            if value is not None:
                values[field.name] = value
    return struct(**values)


def _fitted(value: Any, declared: Any) -> Any:
    """`value` as the declared type, or None."""
    (kind,) = [option for option in get_args(declared) or (declared,) if option is not NoneType]
    if kind is msgspec.Raw:
        return _raw(value)
    if kind is str:
        return value if isinstance(value, str) and not isinstance(value, _NumberText) else None
    return _picked(value, kind) if isinstance(value, dict) else None


def _raw(value: Any) -> msgspec.Raw:
    if value is None:
        return ABSENT
    if isinstance(value, _NumberText):
        return msgspec.Raw(value.encode("ascii"))
    if isinstance(value, str):
        return msgspec.Raw(b'"' + value.encode("utf-8", "replace") + b'"')
    return msgspec.Raw(b"{}")
