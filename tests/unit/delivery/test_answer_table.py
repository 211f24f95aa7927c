"""The table of answers as it is published: every status with every form of Retry-After."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import pytest

from relay.delivery.retry import AttemptResult, Dead, Decision, Delivered, Retry, decide, parse_retry_after

NOW: Final = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
NOW_MS: Final = int(NOW.timestamp() * 1000)
A_MONTH_MS: Final = 30 * 24 * 3_600_000
DAY: Final = 86_400
SCHEDULED: Final = 5
EVERY_STATUS: Final = (*range(100, 600), 999)

# A Retry-After header as it is sent -> the wait in seconds where a status heeds it.
FORMS: Final[dict[bytes | None, int]] = {
    None: SCHEDULED,
    b"": SCHEDULED,
    b"0": SCHEDULED,  # never sooner than the schedule
    b"3": SCHEDULED,
    b"120": 120,
    b"86400": DAY,
    b"86401": DAY,
    b"1000000000": DAY,  # a day at most
    b"9" * 5_000: DAY,
    b"-1": SCHEDULED,  # no such form
    b"-86400": SCHEDULED,
    b"1e9": SCHEDULED,
    b"120.5": SCHEDULED,
    b"0x78": SCHEDULED,
    b"2 minutes": SCHEDULED,
    b"soon": SCHEDULED,
    b"\xff\xfe": SCHEDULED,
    "\u0661\u0662\u0660".encode(): SCHEDULED,
    b"Fri, 20 Nov 2026 12:10:00 GMT": 600,
    b"Friday, 20-Nov-26 12:10:00 GMT": 600,
    b"Fri Nov 20 12:10:00 2026": 600,
    b"Fri, 20 Nov 2026 11:50:00 GMT": SCHEDULED,  # past
    b"Fri, 31 Dec 9999 23:59:59 GMT": DAY,
    b"Fri, 32 Nov 2026 12:10:00 GMT": SCHEDULED,
    b"2026-11-20T12:10:00Z": SCHEDULED,
}


def decided(status: int, header: bytes | None, *, end_ms: int = NOW_MS + A_MONTH_MS) -> Decision:
    """What follows a first attempt that was answered so."""
    hint = parse_retry_after(header, NOW.timestamp())
    result = AttemptResult(status=status, retry_after_seconds=hint)
    return decide(result, attempt=1, jitter=0.0, now_ms=NOW_MS, end_ms=end_ms)


def expected(status: int, seconds: int) -> Decision:
    """The published table."""
    if 200 <= status <= 299:
        return Delivered()
    if status == 410:
        return Dead("endpoint_gone")
    return Retry(1000 * (seconds if status in (429, 503) else SCHEDULED))


@pytest.mark.parametrize("header", FORMS)
def test_every_status_with_this_hint(header: bytes | None) -> None:
    """F20: 2xx is delivered, 410 ends the endpoint, 429 and 503 heed the hint, all others keep to the schedule."""
    decisions = {status: decided(status, header) for status in EVERY_STATUS}
    assert decisions == {status: expected(status, FORMS[header]) for status in EVERY_STATUS}


@pytest.mark.parametrize("header", FORMS)
def test_no_hint_passes_the_end(header: bytes | None) -> None:
    """F20: with a minute left the last attempt comes within the minute, whatever was asked for."""
    decision = decided(503, header, end_ms=NOW_MS + 60_000)
    assert decision == Retry(1000 * min(60, FORMS[header]))
