"""What becomes of a delivery after an attempt: pure functions from what came back to a decision.

The schedule is the example of Standard Webhooks 1.0, "Deliverability and reliability"; Retry-After is that of RFC 9110.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final, Literal

import msgspec

DeadCode = Literal["attempts_exhausted", "endpoint_gone", "retention_ended"]

# The waits after the first, second, ... failure.
SCHEDULE: Final = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=14),
    timedelta(hours=20),
    timedelta(hours=24),
)
MAX_ATTEMPTS: Final = len(SCHEDULE) + 1
# Enough to spread the events of one outage, little enough to keep the schedule recognisable.
JITTER_SHARE: Final = 0.2
MAX_RETRY_AFTER: Final = timedelta(hours=24)
# Content outlives the last attempt by this, so that a dead delivery can be replayed.
_REPLAY_MARGIN: Final = timedelta(hours=1)

_MAX_RETRY_AFTER_SECONDS: Final = MAX_RETRY_AFTER // timedelta(seconds=1)
_HINTING_STATUSES: Final = frozenset({429, 503})
_GONE: Final = 410
_DELTA_SECONDS = re.compile(r"[0-9]+")
# The three forms of an HTTP date, RFC 9110, 5.6.7.
_DATE_FORMS: Final = ("%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y")


class Failure(StrEnum):
    """Why an attempt got no complete answer. The values are the operators' detail codes."""

    TARGET_REFUSED = "target_refused"
    DNS_FAILED = "dns_failed"
    CONNECT_FAILED = "connect_failed"
    CONNECT_TIMED_OUT = "connect_timed_out"
    TLS_FAILED = "tls_failed"
    TIMED_OUT = "timed_out"
    TRUNCATED = "truncated"
    UNSENDABLE = "unsendable"


# The operators' detail of a 2xx in which the field that the endpoint named tells a failure.
FAILURE_WHEN: Final = "failure_when"
# Tenants must not learn what lies behind the guard: refused, filtered, closed and unknown look alike.
_TENANT_CODES: Final = {
    Failure.TARGET_REFUSED: "unreachable",
    Failure.DNS_FAILED: "unreachable",
    Failure.CONNECT_FAILED: "unreachable",
    Failure.CONNECT_TIMED_OUT: "unreachable",
    Failure.TLS_FAILED: "tls",
    Failure.TIMED_OUT: "timeout",
    Failure.TRUNCATED: "truncated",
    Failure.UNSENDABLE: "unreachable",
}


def retry_window(retention: timedelta) -> timedelta:
    """How long after its acceptance an event may be tried, when its content is kept for `retention`."""
    return max(retention - _REPLAY_MARGIN, retention / 2)


class AttemptResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came back from one attempt.

    status                of the answer, if one began; counts only if there was no failure
    failure               None if the transfer ended cleanly and the end of the headers was seen
    retry_after_seconds   the receiver's hint, from `parse_retry_after`
    answer_tells_failure  whether the body of a 2xx answer says that nothing was taken

    Raises ValueError if neither status nor failure is given.
    """

    status: int | None = None
    failure: Failure | None = None
    retry_after_seconds: int | None = None
    answer_tells_failure: bool = False

    def __post_init__(self) -> None:
        if self.status is None and self.failure is None:
            raise ValueError("an attempt ends with a status or with a failure")

    @property
    def is_delivered(self) -> bool:
        """A clean transfer with a 2xx status that its body does not take back."""
        if self.failure is not None or self.status is None:
            return False
        return 200 <= self.status <= 299 and not self.answer_tells_failure

    @property
    def tenant_code(self) -> str:
        """The stable code that the endpoint's owner may see: one per class, `http_<status>` for any answer."""
        return f"http_{self.status}" if self.failure is None else _TENANT_CODES[self.failure]

    @property
    def operator_code(self) -> str:
        """The same with the detail that only operators may see."""
        if self.failure is not None:
            return self.failure.value
        return FAILURE_WHEN if self.answer_tells_failure else f"http_{self.status}"


@dataclass(frozen=True, slots=True)
class Delivered:
    """The endpoint has it."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Another attempt is due in `delay_ms` milliseconds from now."""

    delay_ms: int


@dataclass(frozen=True, slots=True)
class Dead:
    """No further attempt. After `endpoint_gone` the endpoint is to be disabled as well."""

    code: DeadCode


Decision = Delivered | Retry | Dead


def decide(
    result: AttemptResult, *, attempt: int, jitter: float, now_ms: int, end_ms: int, single_attempt: bool = False
) -> Decision:
    """Decide what follows an attempt.

    `attempt` counts from 1 and is the one that just ended; `jitter` is a random number from -1 to 1; `now_ms` and
    `end_ms` are epoch milliseconds by one clock, `end_ms` the moment by which the event must have ended: if the next
    attempt would fall past it, one last attempt is made at that moment. `single_attempt` is for events without
    retention. Raises ValueError if `attempt` or `jitter` is out of range.
    """
    if attempt < 1 or not -1 <= jitter <= 1:
        raise ValueError("attempt counts from 1, jitter lies from -1 to 1")
    if result.is_delivered:
        return Delivered()
    if result.failure is None and result.status == _GONE:
        return Dead("endpoint_gone")
    if single_attempt or attempt >= MAX_ATTEMPTS:
        return Dead("attempts_exhausted")
    if now_ms >= end_ms:
        return Dead("retention_ended")
    return Retry(min(_wait_ms(result, attempt=attempt, jitter=jitter), end_ms - now_ms))


def _wait_ms(result: AttemptResult, *, attempt: int, jitter: float) -> int:
    scheduled_ms = round(SCHEDULE[attempt - 1] / timedelta(milliseconds=1) * (1 + JITTER_SHARE * jitter))
    hint_seconds = result.retry_after_seconds
    if hint_seconds is None or result.failure is not None or result.status not in _HINTING_STATUSES:
        return scheduled_ms
    return min(max(scheduled_ms, hint_seconds * 1000), _MAX_RETRY_AFTER_SECONDS * 1000)


def parse_retry_after(value: bytes | str | None, now_seconds: float) -> int | None:
    """Read a Retry-After header as whole seconds from now, at most 24 hours.

    `now_seconds` is epoch time. None for anything but delta-seconds and HTTP dates, and for dates that are past.
    """
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    if text is None or not text.isascii():
        return None
    text = text.strip(" \t")
    if _DELTA_SECONDS.fullmatch(text):
        digits = text.lstrip("0") or "0"
        # Python refuses to read numbers of thousands of digits; past nine digits every one is more than a day.
        return _MAX_RETRY_AFTER_SECONDS if len(digits) > 9 else min(int(digits), _MAX_RETRY_AFTER_SECONDS)
    moments = (moment for form in _DATE_FORMS if (moment := _http_date(text, form)) is not None)
    moment = next(moments, None)
    if moment is None or moment.timestamp() < now_seconds:
        return None
    return min(round(moment.timestamp() - now_seconds), _MAX_RETRY_AFTER_SECONDS)


def _http_date(text: str, form: str) -> datetime | None:
    try:
        return datetime.strptime(text, form).replace(tzinfo=UTC)
    except ValueError:
        return None
