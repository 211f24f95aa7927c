"""Retry decisions: the table of answers, the schedule, the end of retention, Retry-After."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.delivery.retry import (
    MAX_ATTEMPTS,
    AttemptResult,
    Dead,
    Decision,
    Delivered,
    Failure,
    Retry,
    decide,
    parse_retry_after,
)

NOW_MS = 1_770_811_500_000
FAR_END_MS = NOW_MS + 30 * 24 * 3_600_000
DAY_SECONDS = 86_400
SERVER_ERROR = AttemptResult(status=500)

# Attempt that failed -> the wait after it in seconds.
WAITS = {1: 5, 2: 300, 3: 1_800, 4: 7_200, 5: 18_000, 6: 36_000, 7: 50_400, 8: 72_000, 9: 86_400}
EVERY_STATUS = [*range(100, 600), 999]


def _decide(result: AttemptResult, **changes: Any) -> Decision:
    values: dict[str, Any] = {"attempt": 1, "jitter": 0.0, "now_ms": NOW_MS, "end_ms": FAR_END_MS}
    return decide(result, **(values | changes))


@pytest.mark.parametrize("status", EVERY_STATUS)
@pytest.mark.parametrize("hint", [None, 0, 3, 7_200, DAY_SECONDS])
def test_decides_for_every_status(status: int, hint: int | None) -> None:
    """2xx is delivered, 410 is final, 429 and 503 heed the hint, everything else keeps to the schedule."""
    decision = _decide(AttemptResult(status=status, retry_after_seconds=hint))
    if 200 <= status <= 299:
        assert decision == Delivered()
    elif status == 410:
        assert decision == Dead("endpoint_gone")
    elif status in {429, 503}:
        assert decision == Retry(1000 * max(5, hint or 0))
    else:
        assert decision == Retry(5_000)


@pytest.mark.parametrize("status", EVERY_STATUS)
def test_gives_every_status_a_code(status: int) -> None:
    """The code of an answer is its status, for tenants and operators alike."""
    result = AttemptResult(status=status)
    assert result.tenant_code == result.operator_code == f"http_{status}"


@pytest.mark.parametrize(
    ("failure", "tenant_code", "operator_code"),
    [
        (Failure.TARGET_REFUSED, "unreachable", "target_refused"),
        (Failure.DNS_FAILED, "unreachable", "dns_failed"),
        (Failure.CONNECT_FAILED, "unreachable", "connect_failed"),
        (Failure.CONNECT_TIMED_OUT, "unreachable", "connect_timed_out"),
        (Failure.TLS_FAILED, "tls", "tls_failed"),
        (Failure.TIMED_OUT, "timeout", "timed_out"),
        (Failure.TRUNCATED, "truncated", "truncated"),
    ],
)
def test_shows_tenants_a_class_and_operators_the_detail(failure: Failure, tenant_code: str, operator_code: str) -> None:
    """Blocked, filtered, closed and unknown look alike to tenants."""
    result = AttemptResult(failure=failure)
    assert (result.tenant_code, result.operator_code) == (tenant_code, operator_code)


def test_knows_a_code_for_every_failure() -> None:
    """No failure lacks a tenant's code."""
    codes = {AttemptResult(failure=failure).tenant_code for failure in Failure}
    assert codes == {"unreachable", "tls", "timeout", "truncated"}


@pytest.mark.parametrize("failure", list(Failure))
@pytest.mark.parametrize("status", [None, 200, 204, 410, 429, 503])
def test_retries_every_failure_on_schedule_whatever_status_was_seen(failure: Failure, status: int | None) -> None:
    """An answer that did not end cleanly is neither delivered, nor gone, nor a hint."""
    result = AttemptResult(status=status, failure=failure, retry_after_seconds=7_200)
    assert _decide(result) == Retry(5_000)
    assert not result.is_delivered


@pytest.mark.parametrize(("attempt", "wait_seconds"), WAITS.items())
@pytest.mark.parametrize(("jitter", "share"), [(-1.0, 80), (-0.5, 90), (0.0, 100), (0.5, 110), (1.0, 120)])
def test_waits_by_the_schedule_within_a_fifth(attempt: int, wait_seconds: int, jitter: float, share: int) -> None:
    """The wait after each failure is the schedule's, moved by at most 20 %."""
    assert _decide(SERVER_ERROR, attempt=attempt, jitter=jitter) == Retry(wait_seconds * 10 * share)


@pytest.mark.parametrize("attempt", [10, 11, 1_000])
@pytest.mark.parametrize("result", [SERVER_ERROR, AttemptResult(failure=Failure.TARGET_REFUSED)])
def test_gives_up_after_ten_attempts(attempt: int, result: AttemptResult) -> None:
    """The tenth failure is the last."""
    assert MAX_ATTEMPTS == 10
    assert _decide(result, attempt=attempt) == Dead("attempts_exhausted")


@pytest.mark.parametrize("attempt", [1, 10, 11])
@pytest.mark.parametrize("end_ms", [0, NOW_MS, FAR_END_MS])
@pytest.mark.parametrize("single_attempt", [False, True])
def test_counts_a_delivery_whenever_it_comes(attempt: int, end_ms: int, single_attempt: bool) -> None:
    """A success is a success on the last attempt and after the end, and 410 is gone then too."""
    changes = {"attempt": attempt, "end_ms": end_ms, "single_attempt": single_attempt}
    assert _decide(AttemptResult(status=204), **changes) == Delivered()
    assert _decide(AttemptResult(status=410), **changes) == Dead("endpoint_gone")


@pytest.mark.parametrize(
    ("left_ms", "decision"),
    [
        (-1, Dead("retention_ended")),
        (0, Dead("retention_ended")),
        (1, Retry(1)),  # a last attempt, at the end
        (4_999, Retry(4_999)),
        (5_000, Retry(5_000)),  # the schedule meets the end
        (5_001, Retry(5_000)),
    ],
)
def test_makes_a_last_attempt_at_the_end(left_ms: int, decision: Decision) -> None:
    """No wait passes the end; a failure at it or after it is final."""
    assert _decide(SERVER_ERROR, end_ms=NOW_MS + left_ms) == decision


@pytest.mark.parametrize("jitter", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize("hint", [None, DAY_SECONDS])
def test_lets_neither_hint_nor_jitter_pass_the_end(jitter: float, hint: int | None) -> None:
    """With an hour left, an attempt that is due in a day is made in an hour."""
    result = AttemptResult(status=503, retry_after_seconds=hint)
    assert _decide(result, attempt=9, jitter=jitter, end_ms=NOW_MS + 3_600_000) == Retry(3_600_000)


def test_makes_one_attempt_when_nothing_is_retained() -> None:
    """Without retention a first failure is the last."""
    assert _decide(SERVER_ERROR, single_attempt=True) == Dead("attempts_exhausted")
    assert _decide(SERVER_ERROR, single_attempt=True, end_ms=NOW_MS) == Dead("attempts_exhausted")


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("attempt", "jitter", "hint_seconds", "wait_seconds"),
    [
        (1, 0.0, 4, 5),  # the schedule is longer
        (1, 0.0, 60, 60),  # the hint is longer
        (1, -1.0, 5, 5),  # jitter never undercuts a hint
        (3, 0.0, 60, 1_800),
        (1, 1.0, DAY_SECONDS, DAY_SECONDS),
        (1, 0.0, 10**9, DAY_SECONDS),  # at most a day, whoever built the result
        (9, 1.0, 1, DAY_SECONDS),
    ],
)
def test_waits_for_the_longer_of_schedule_and_hint(
    status: int, attempt: int, jitter: float, hint_seconds: int, wait_seconds: int
) -> None:
    """Retry-After lengthens a wait up to a day and never shortens the schedule below it."""
    result = AttemptResult(status=status, retry_after_seconds=hint_seconds)
    assert _decide(result, attempt=attempt, jitter=jitter) == Retry(wait_seconds * 1000)


@given(
    st.sampled_from([500, 503]),
    st.integers(1, 9),
    st.floats(-1, 1),
    st.integers(1, 200 * 3_600_000),
    st.none() | st.integers(0, 10**9),
)
def test_never_waits_past_the_end_nor_backwards(
    status: int, attempt: int, jitter: float, left_ms: int, hint: int | None
) -> None:
    """Whatever the values, the next attempt lies after now and not after the end."""
    result = AttemptResult(status=status, retry_after_seconds=hint)
    decision = _decide(result, attempt=attempt, jitter=jitter, end_ms=NOW_MS + left_ms)
    assert isinstance(decision, Retry)
    assert 0 < decision.delay_ms <= left_ms


@pytest.mark.parametrize("changes", [{"attempt": 0}, {"attempt": -1}, {"jitter": 1.01}, {"jitter": float("nan")}])
def test_refuses_values_out_of_range(changes: dict[str, Any]) -> None:
    """A caller's mistake is an error, not a strange wait."""
    with pytest.raises(ValueError, match="attempt counts from 1"):
        _decide(SERVER_ERROR, **changes)


def test_refuses_a_result_without_any_outcome() -> None:
    """An attempt without a status failed somehow, and must say how."""
    with pytest.raises(ValueError, match="a status or with a failure"):
        AttemptResult()


MOMENT = datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        (b"120", 120),
        (" 120\t", 120),
        ("0000000000120", 120),
        ("86400", DAY_SECONDS),
        ("86401", DAY_SECONDS),
        ("1000000000", DAY_SECONDS),
        ("9" * 10_000, DAY_SECONDS),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 60),
        (b"Sun, 06 Nov 1994 08:49:37 GMT", 60),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 60),  # RFC 850
        ("Sun Nov  6 08:49:37 1994", 60),  # asctime
        ("Mon, 07 Nov 1994 08:48:37 GMT", DAY_SECONDS),
        ("Fri, 31 Dec 9999 23:59:59 GMT", DAY_SECONDS),
    ],
)
def test_reads_seconds_and_dates(value: str | bytes, seconds: int) -> None:
    """Both forms of Retry-After become seconds from now, at most a day."""
    now = MOMENT - timedelta(seconds=60)
    assert parse_retry_after(value, now.timestamp()) == seconds


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        b"",
        " ",
        "-1",
        "+5",
        "1.5",
        "1e9",
        "0x10",
        "1_000",
        "5 s",
        "5, 10",
        "soon",
        "\u0665",  # an Arabic-Indic five
        "\uff15",
        "\u00b2",
        b"\xb2",
        b"\xff\xfe",
        "\x00",
        "5\n",
        "Sun, 06 Nov 1994 08:48:36 GMT",  # past
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 +0100",
        "Sun, 32 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 25:49:37 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "Sun, \u0660\u0666 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov \u0661\u0669\u0669\u0664 08:49:37 GMT",  # the year, in digits that int() would read
        "06 Nov 1994",
        "1994-11-06T08:49:37Z",
    ],
)
def test_ignores_junk_and_the_past(value: str | bytes | None) -> None:
    """What is no Retry-After, or one that is over, is no hint."""
    now = MOMENT - timedelta(seconds=60)
    assert parse_retry_after(value, now.timestamp()) is None


@given(st.binary(max_size=40) | st.text(max_size=40), st.floats(0, 4e9))
def test_reads_anything_without_failing(value: bytes | str, now_seconds: float) -> None:
    """No header makes the reading fail or the hint leave its bounds."""
    seconds = parse_retry_after(value, now_seconds)
    assert seconds is None or 0 <= seconds <= DAY_SECONDS
