"""What a check of billing's invariants found, as the metrics show it."""

from __future__ import annotations

from typing import Literal

import msgspec

CheckScope = Literal["recent", "everything"]
SCOPES: tuple[CheckScope, ...] = ("recent", "everything")


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """How often each invariant is broken, and when the check ended (Unix seconds)."""

    violations: dict[str, int]
    ended_at: float
