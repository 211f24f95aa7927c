"""What a measure prints: one JSON line per figure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class Line(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One figure. `limit` is what the stage's slowest part (`limit_of`) does alone, measured in the same run."""

    measure: str
    value: float
    unit: str
    target: str | None = None
    limit: float | None = None
    limit_of: str | None = None
    ratio_to_limit: float | None = None


def at_least(target: float) -> str:
    """A target that a figure has to reach."""
    return f">= {target:,g}"


def at_most(target: float) -> str:
    """A target that a figure must not pass."""
    return f"<= {target:,g}"


def line(
    measure: str,
    value: float,
    unit: str,
    target: str | None = None,
    *,
    limit: float | None = None,
    limit_of: str | None = None,
) -> Line:
    """A line with rounded figures."""
    return Line(
        measure=measure,
        value=round(value, 2),
        unit=unit,
        target=target,
        limit=None if limit is None else round(limit, 1),
        limit_of=limit_of,
        ratio_to_limit=None if limit is None else round(value / limit, 3),
    )


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which this share of ordered values lies."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
