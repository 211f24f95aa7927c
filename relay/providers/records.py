"""Calls as their providers keep and list them: the facts that their last webhook would have told."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from relay.calls import CallEvent
from relay.errors import PayloadError


class CallRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One call. `call` is the event that completes its session, without an identity of its own.

    `is_over` False: the call, or its analysis, is under way, and what `call` says of its end is not final.
    """

    call: CallEvent
    is_over: bool


def records(items: Iterable[msgspec.Raw], read: Callable[[bytes], CallRecord]) -> tuple[CallRecord, ...]:
    """What is known of each of these, as `read` reads them; one that it refuses is nobody's."""
    found = []
    for item in items:
        try:
            found.append(read(bytes(item)))
        except PayloadError:
            continue
    return tuple(found)
