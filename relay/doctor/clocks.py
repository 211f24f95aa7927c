"""The clocks of this host, Redis and Postgres: signatures, ends and bills are dated by them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from relay.doctor.finding import Finding, fail, ok, warn

_WARN_SECONDS: Final = 2.0
# Providers' signatures are refused when they are 300 s off; a minute is on the way there.
_FAIL_SECONDS: Final = 60.0


def difference(ask: Callable[[], float]) -> float:
    """By how many seconds a server's clock is ahead of this host's, with half of the way there taken off."""
    before = time.time()
    theirs = ask()
    return theirs - (before + time.time()) / 2


def judged(server: str, ahead_seconds: float) -> Finding:
    """A server's clock against this host's. Pure."""
    check = f"{server}: clock"
    found = f"{abs(ahead_seconds):.1f} s {'ahead of' if ahead_seconds > 0 else 'behind'} this host"
    advice = "set both by NTP: signatures, retries and rate cards go by these clocks"
    if abs(ahead_seconds) > _FAIL_SECONDS:
        return fail(check, found, advice)
    if abs(ahead_seconds) > _WARN_SECONDS:
        return warn(check, found, advice)
    return ok(check, found)
