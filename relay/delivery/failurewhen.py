"""Servers that answer 200 for what they did not take, and say so in a field of the answer: `failureWhen: "$.error"`.

The path is the names-only part of JSONPath (RFC 9535, 2.5.1.1), in ASCII. A value there is a failure unless it is
null or false; so are 0, "" and {}. What cannot be read tells nothing, and the 2xx stands: repeating for three days
what an endpoint may well have taken would be the greater harm.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from relay.content import Content
from relay.errors import BadRequest

MAX_STEPS: Final = 8
MAX_PATH_CHARS: Final = 128
_PATH: Final = re.compile(rf"\$(?:\.[A-Za-z_][A-Za-z0-9_]*){{1,{MAX_STEPS}}}")


def checked_path(path: str, *, field: str = "failureWhen") -> str:
    """Return the path. Raises BadRequest naming `field` if it is none."""
    if len(path) > MAX_PATH_CHARS or not _PATH.fullmatch(path):
        text = f"{field} is a path such as $.error: 1 to {MAX_STEPS} names, {MAX_PATH_CHARS} characters in all"
        raise BadRequest(text, code="failure_when_refused", field=field)
    return path


def tells_failure(path: str, answer: Content) -> bool:
    """Whether the whole body of a 2xx answer holds, at a checked path, anything but null or false. Never raises.

    False as well for a body that is no JSON, or in which a step meets something other than an object.
    """
    try:
        # Numbers stay text: their size is nobody's concern here, and 0 is neither null nor false.
        value: Any = json.loads(answer.reveal(), parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return False
    for name in path.split(".")[1:]:
        if not isinstance(value, dict):
            return False
        value = value.get(name)
    return value is not None and value is not False
