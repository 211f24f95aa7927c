"""What an answer means for one event that was sent: what the formats say, and who sends acts on. Pure."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

Verdict = Literal["taken", "repeated", "refused", "apart", "misdirected", "again"]
"""What the answer to a request means for an event in it.

taken        the destination has it
repeated     the destination says that it had it already
refused      the destination will never take it
apart        the request was refused for one event or several of it, and does not say which: send them apart
misdirected  the request would be refused whatever was in it: a key, an address, a setting is wrong
again        it may be taken another time
"""

# A wrong key or address is mended by an operator, and then everything that waited can go.
_MISDIRECTED: Final = frozenset({401, 403, 404, 405, 407})
# Of 4xx, those that pass by themselves (RFC 9110, RFC 8470, RFC 6585); 409 is a lock that somebody else holds.
_PASSING: Final = frozenset({408, 409, 423, 425, 429})


def by_status(status: int) -> Verdict:
    """What a status means by itself (RFC 9110)."""
    if 200 <= status < 300:
        return "taken"
    if status in _MISDIRECTED or 300 <= status < 400:
        return "misdirected"
    if 400 <= status < 500 and status not in _PASSING:
        return "refused"
    return "again"


def by_status_of_batch(status: int, count: int) -> list[Verdict]:
    """What a status means by itself for each of the events of one request."""
    verdict = by_status(status)
    return ["apart" if verdict == "refused" and count > 1 else verdict] * count


def decoded(body: bytes) -> dict[str, Any]:
    """A JSON object; an empty one for anything else."""
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}
