"""Which duration a call is billed by, or the reason why it cannot be. Pure.

Absent is not zero: a call without a usable duration is unrated and counted, never charged nothing by accident.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from enum import StrEnum
from types import MappingProxyType
from typing import Final

import msgspec

from billing.money import ARITHMETIC, ZERO, parse_number
from relay.calls import Ending

# A call that lasts longer is an error in a clock or a unit. No provider is known to let one run longer than a day but
# Agora, whose sessions last 72 h at most (Agora docs, "Start a conversational AI agent").
LONGEST_SECONDS: Final = 86_400
LIMITS_SECONDS: Final[Mapping[str, int]] = MappingProxyType({"agora": 259_200})
# Providers hang up a little after a limit, their own or the one that an agent was given.
SLACK_SECONDS: Final = 300
# Clocks and roundings differ by up to a second between a call's times and its duration.
_TOLERANCE_SECONDS: Final = 1
_MS_PER_SECOND: Final = Decimal(1000)
_MILLISECOND: Final = Decimal("0.001")


class UnratedReason(StrEnum):
    """Why a session has no charge. The values are stored and shown to tenants."""

    DURATION_MISSING = "duration_missing"
    DURATION_INVALID = "duration_invalid"
    DURATION_NEGATIVE = "duration_negative"
    DURATION_TOO_LONG = "duration_too_long"
    NO_RATE_CARD = "no_rate_card"
    CURRENCY_MISMATCH = "currency_mismatch"
    PROVIDER_COST_MISSING = "provider_cost_missing"


class Duration(msgspec.Struct, frozen=True, kw_only=True):
    """What a call is billed by, and where it came from.

    `seconds` is zero or more. `provider_seconds` is the provider's own figure and `elapsed_seconds` is end - start;
    each is None when the provider did not say. What is finer than a millisecond is rounded up, which changes no whole
    second and keeps 1e-999999 out of the database. `mismatch` is true when both exist and are more than 1 s apart,
    which is how billed ringing shows.
    """

    seconds: Decimal
    provider_seconds: Decimal | None
    elapsed_seconds: Decimal | None
    mismatch: bool


@dataclass(frozen=True, slots=True)
class Unrated:
    """The call cannot be charged, for this reason."""

    reason: UnratedReason


def billable_duration(ending: Ending, *, provider: str, max_seconds: int | None = None) -> Duration | Unrated:
    """Choose the duration that a call is billed by.

    The provider's own duration wins over end - start, even when it is unusable: then somebody should look.
    `max_seconds` is the limit the agent was given, if known; calls may exceed it by 300 s, and never what calls of
    this provider may last: 24 h, at Agora 72 h and 300 s. A failed call without any duration lasted 0 s; one with a
    duration is billed like any other, because providers bill it.
    """
    elapsed = _elapsed_seconds(ending)
    own = None
    if ending.duration_seconds is not None:
        own = parse_number(ending.duration_seconds)
        if own is None:
            return Unrated(UnratedReason.DURATION_INVALID)
    seconds = elapsed if own is None else own
    if seconds is None:
        if ending.status != "failed":
            return Unrated(UnratedReason.DURATION_MISSING)
        seconds = ZERO
    if seconds < 0:
        return Unrated(UnratedReason.DURATION_NEGATIVE)
    if seconds > _longest(provider, max_seconds):
        return Unrated(UnratedReason.DURATION_TOO_LONG)
    if own is not None:
        own = seconds = _whole_milliseconds(own)
    return Duration(seconds=seconds, provider_seconds=own, elapsed_seconds=elapsed, mismatch=_differ(own, elapsed))


def longest_seconds(provider: str) -> int:
    """How long calls of this provider may last: 24 h, at Agora 72 h and 300 s."""
    limit = LIMITS_SECONDS.get(provider)
    return LONGEST_SECONDS if limit is None else limit + SLACK_SECONDS


def _whole_milliseconds(seconds: Decimal) -> Decimal:
    rounded = seconds.quantize(_MILLISECOND, ROUND_CEILING, ARITHMETIC)
    return seconds if seconds == rounded else rounded


def _elapsed_seconds(ending: Ending) -> Decimal | None:
    if ending.started_at_ms is None or ending.ended_at_ms is None:
        return None
    return ARITHMETIC.divide(Decimal(ending.ended_at_ms - ending.started_at_ms), _MS_PER_SECOND)


def _longest(provider: str, max_seconds: int | None) -> int:
    longest = longest_seconds(provider)
    return longest if max_seconds is None else min(longest, max_seconds + SLACK_SECONDS)


def _differ(own: Decimal | None, elapsed: Decimal | None) -> bool:
    if own is None or elapsed is None:
        return False
    return ARITHMETIC.subtract(own, elapsed).copy_abs() > _TOLERANCE_SECONDS
