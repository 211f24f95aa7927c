"""The headers that a customer may add to deliveries, checked when they are configured.

Whatever frames the message, speaks to a proxy or is written by Switchhook itself stays out of the customer's hands:
a second Content-Length is request smuggling, a second signature is doubt. Names are the tokens of RFC 9110, 5.6.2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from relay.errors import BadRequest
from relay.providers import PROVIDERS

MAX_HEADERS: Final = 32
MAX_VALUE_CHARS: Final = 4096
MAX_NAME_CHARS: Final = 256

_NAME = re.compile(r"[!#$%&'*+.^_|~0-9A-Za-z-]+")
# Visible ASCII with spaces inside only: obs-fold, control characters and outer blanks are read differently by servers.
_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_FORBIDDEN: Final = frozenset(
    {
        "connection",
        "content-encoding",  # the body is sent as it came, and refused when it came encoded
        "content-length",
        "content-type",  # it is the payload's: ours in an envelope, the provider's otherwise
        "cookie",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-webhook-secret",
        *(header.lower() for provider in PROVIDERS.values() for header in provider.SIGNATURE_HEADERS),
    }
)
_FORBIDDEN_PREFIXES: Final = ("proxy-", "switchhook-", "webhook-")


def checked_headers(headers: Mapping[str, object], *, field: str = "headers") -> tuple[tuple[str, str], ...]:
    """Return the headers as pairs, names as written and in the order given.

    Raises BadRequest with code `header_refused`, naming `field` and which header is wrong: by its name if that is ours
    or could stay, else by its place, from 1. No other name is quoted, and no value, for both may hold a secret.
    """
    if not isinstance(headers, Mapping):
        raise _refusal("must be an object of names and values", field)
    if len(headers) > MAX_HEADERS:
        raise _refusal(f"must be at most {MAX_HEADERS}", field)
    checked: list[tuple[str, str]] = []
    seen: set[str] = set()
    for place, (name, value) in enumerate(headers.items(), 1):
        problem = _name_problem(name, seen)
        if problem:
            raise _refusal(f"{_ours(name) or f'number {place}'}: {problem}", field)
        problem = _value_problem(value)
        if problem:
            raise _refusal(f"{name}: {problem}", field)
        seen.add(name.lower())
        checked.append((name, str(value)))
    return tuple(checked)


def _ours(name: object) -> str | None:
    """A name, or the beginning of one, that is no customer's."""
    lowered = name.lower() if isinstance(name, str) else ""
    prefixes = (f"{prefix}..." for prefix in _FORBIDDEN_PREFIXES if lowered.startswith(prefix))
    return lowered if lowered in _FORBIDDEN else next(prefixes, None)


def _name_problem(name: object, seen: set[str]) -> str | None:
    if not isinstance(name, str) or len(name) > MAX_NAME_CHARS or not _NAME.fullmatch(name):
        return f"a name has 1 to {MAX_NAME_CHARS} letters, digits and !#$%&'*+.^_|~-"
    lowered = name.lower()
    if lowered in _FORBIDDEN or lowered.startswith(_FORBIDDEN_PREFIXES):
        return "this name is set by Switchhook or belongs to the connection"
    if lowered in seen:
        return "this name is given twice; upper and lower case do not matter"
    return None


def _value_problem(value: object) -> str | None:
    if not isinstance(value, str) or len(value) > MAX_VALUE_CHARS or not _VALUE.fullmatch(value):
        return f"a value has 1 to {MAX_VALUE_CHARS} visible ASCII characters, with spaces only inside"
    return None


def _refusal(problem: str, field: str) -> BadRequest:
    return BadRequest(f"{field} {problem}", code="header_refused", field=field)
