"""The duration a call is billed by: the provider's own first, and a reason when there is none."""

from __future__ import annotations

import decimal
from decimal import Decimal
from typing import Any

import pytest

from billing.duration import Duration, Unrated, UnratedReason, billable_duration
from relay.calls import Ending

START = 1_703_302_407_333


def ending(**facts: Any) -> Ending:
    """A completed call with these facts."""
    return Ending(**{"status": "completed", **facts})


def after(elapsed_ms: int) -> dict[str, int]:
    """The times of a call that took this long."""
    return {"started_at_ms": START, "ended_at_ms": START + elapsed_ms}


@pytest.mark.parametrize(
    ("facts", "seconds"),
    [
        ({"duration_seconds": "22"}, "22"),  # ElevenLabs, Twilio
        ({"duration_seconds": "10.000"}, "10"),  # Retell's ms
        ({"duration_seconds": "2.2e1"}, "22"),
        ({"duration_seconds": "22.0001"}, "22.001"),  # up to the millisecond, so that it stays 23 whole seconds
        ({"duration_seconds": "1e-999999"}, "0.001"),  # more than nothing, and short enough for a column
        ({"duration_seconds": "22", **after(30_000)}, "22"),  # the provider's own wins
        (after(21_522), "21.522"),  # Retell's sample has no duration_ms
        (after(0), "0"),
        ({"duration_seconds": "0"}, "0"),
        ({"duration_seconds": "-0"}, "0"),
        ({"duration_seconds": "0", **after(9_000)}, "0"),  # ringing is not talking
        ({"duration_seconds": "86400"}, "86400"),  # 24 h to the second
        ({"status": "failed"}, "0"),  # busy, no answer: costs nothing
        ({"status": "failed", "duration_seconds": "0"}, "0"),
        ({"status": "failed", "started_at_ms": START}, "0"),
        ({"status": "failed", "duration_seconds": "12"}, "12"),  # providers bill it
        ({"status": "failed", **after(3_000)}, "3"),
    ],
)
def test_bills_by_the_best_known_duration(facts: dict[str, Any], seconds: str) -> None:
    """A usable duration is taken exactly as it was written."""
    duration = billable_duration(ending(**facts), provider="retell")
    assert isinstance(duration, Duration)
    assert duration.seconds == Decimal(seconds)


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({}, "duration_missing"),  # absent is not zero
        ({"started_at_ms": START}, "duration_missing"),
        ({"ended_at_ms": START}, "duration_missing"),
        ({"duration_seconds": "-1"}, "duration_negative"),
        ({"duration_seconds": "-1e-999999"}, "duration_negative"),
        ({"duration_seconds": "-1e999999"}, "duration_negative"),
        (after(-1), "duration_negative"),
        ({"status": "failed", "duration_seconds": "-1"}, "duration_negative"),
        ({"status": "failed", **after(-5_000)}, "duration_negative"),
        ({"duration_seconds": "86400.001"}, "duration_too_long"),
        ({"duration_seconds": "22000000"}, "duration_too_long"),  # ms taken for seconds
        ({"duration_seconds": "1e999999"}, "duration_too_long"),  # an exponent bomb costs nothing to refuse
        (after(86_400_001), "duration_too_long"),
        ({"duration_seconds": "NaN"}, "duration_invalid"),
        ({"duration_seconds": "Infinity"}, "duration_invalid"),
        ({"duration_seconds": "-inf"}, "duration_invalid"),
        ({"duration_seconds": "1e9999999999"}, "duration_invalid"),
        ({"duration_seconds": ""}, "duration_invalid"),
        ({"duration_seconds": "22 s"}, "duration_invalid"),
        ({"duration_seconds": "+22"}, "duration_invalid"),
        ({"duration_seconds": "2_2"}, "duration_invalid"),
        ({"duration_seconds": " 22"}, "duration_invalid"),
        ({"duration_seconds": "22\n"}, "duration_invalid"),
        ({"duration_seconds": "0x16"}, "duration_invalid"),
        ({"duration_seconds": "00:22"}, "duration_invalid"),
        ({"duration_seconds": "\u0662\u0662"}, "duration_invalid"),  # int() would take these digits
        ({"duration_seconds": "1" * 65}, "duration_invalid"),
        ({"duration_seconds": "abc", **after(22_000)}, "duration_invalid"),  # no quiet fall back to the times
        ({"status": "failed", "duration_seconds": "abc"}, "duration_invalid"),
    ],
)
def test_leaves_a_call_unrated_with_a_reason(facts: dict[str, Any], reason: str) -> None:
    """Nothing is charged by a duration that is absent or makes no sense."""
    assert billable_duration(ending(**facts), provider="retell") == Unrated(UnratedReason(reason))


@pytest.mark.parametrize(
    ("max_seconds", "seconds", "rated"),
    [
        (600, "600", True),
        (600, "900", True),  # with all of the slack
        (600, "900.001", False),
        (90_000, "86400", True),
        (90_000, "86401", False),  # 24 h holds whatever the agent was given
        (None, "901", True),
    ],
)
def test_holds_a_call_to_its_agents_limit(max_seconds: int | None, seconds: str, rated: bool) -> None:
    """A call may pass its limit by 300 s and never passes 24 h."""
    outcome = billable_duration(ending(duration_seconds=seconds), provider="retell", max_seconds=max_seconds)
    assert isinstance(outcome, Duration) is rated
    assert rated or outcome == Unrated(UnratedReason.DURATION_TOO_LONG)


@pytest.mark.parametrize(
    ("provider", "max_seconds", "seconds", "rated"),
    [
        ("retell", None, "86400", True),
        ("retell", None, "86400.001", False),
        ("elevenlabs", None, "86401", False),
        ("canonical", None, "86401", False),
        ("unheard-of", None, "86401", False),
        ("agora", None, "86401", True),
        ("agora", None, "259200", True),  # 72 h, its documented maximum
        ("agora", None, "259500", True),  # with all of the slack
        ("agora", None, "259500.001", False),
        ("agora", 600, "900.001", False),  # the agent's own limit is the tighter one
        ("agora", 300_000, "259501", False),
    ],
)
def test_holds_a_call_to_what_its_provider_lets_it_last(
    provider: str, max_seconds: int | None, seconds: str, rated: bool
) -> None:
    """A day, but at Agora three and the slack: longer is an error in a clock or a unit."""
    outcome = billable_duration(ending(duration_seconds=seconds), provider=provider, max_seconds=max_seconds)
    assert isinstance(outcome, Duration) is rated
    assert rated or outcome == Unrated(UnratedReason.DURATION_TOO_LONG)


@pytest.mark.parametrize(
    ("own", "elapsed_ms", "mismatch"),
    [
        ("22", 22_000, False),
        ("22", 23_000, False),  # exactly 1 s is rounding
        ("22", 23_001, True),
        ("22", 20_999, True),
        ("22", 34_000, True),  # ringing
        ("22", -22_000, True),
        ("1e-999999", 1_002, True),
        (None, 22_000, False),
        ("22", None, False),
    ],
)
def test_flags_two_durations_that_differ(own: str | None, elapsed_ms: int | None, mismatch: bool) -> None:
    """Both durations are kept, and more than a second between them shows."""
    times = {} if elapsed_ms is None else after(elapsed_ms)
    duration = billable_duration(ending(duration_seconds=own, **times), provider="retell")
    assert isinstance(duration, Duration)
    assert duration.mismatch is mismatch
    assert (duration.provider_seconds is None) is (own is None)
    assert duration.elapsed_seconds == (None if elapsed_ms is None else Decimal(elapsed_ms) / 1000)


def test_keeps_both_durations_when_both_exist() -> None:
    """The provider's figure is billed; the other is there to be compared."""
    duration = billable_duration(ending(duration_seconds="22.5", **after(30_250)), provider="retell")
    assert duration == Duration(
        seconds=Decimal("22.5"),
        provider_seconds=Decimal("22.5"),
        elapsed_seconds=Decimal("30.25"),
        mismatch=True,
    )


def test_ignores_the_ambient_decimal_context() -> None:
    """Another library's precision and traps change nothing."""
    hostile = decimal.Context(prec=1, traps=[decimal.Inexact, decimal.Rounded])
    with decimal.localcontext(hostile):
        duration = billable_duration(ending(duration_seconds="21.523", **after(22_524)), provider="retell")
    assert duration == Duration(
        seconds=Decimal("21.523"),
        provider_seconds=Decimal("21.523"),
        elapsed_seconds=Decimal("22.524"),
        mismatch=True,
    )
