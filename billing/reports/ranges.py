"""Ranges of time as people write them: half-open, in a time zone, on quarter-hours. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Final

from billing.reports.days import Stretch, Unit, beginning, cut, zone_of
from relay.errors import BadRequest

MOST_PERIODS: Final = 400
# Before these, offsets of whole quarter-hours were not the rule, and nothing was ever charged.
_FIRST: Final = datetime(2000, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(2200, 1, 1, tzinfo=UTC)
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_QUARTER_MINUTES: Final = 15
_MOST_DAYS: Final = timedelta(days=MOST_PERIODS)


@dataclass(frozen=True, slots=True)
class Range:
    """From `begins` up to but not at `ends`, both in UTC, as a time zone sees it."""

    begins: datetime
    ends: datetime
    tz: str
    zone: tzinfo

    def periods(self, unit: Unit) -> list[Stretch]:
        """Its days or months. Raises BadRequest `range_too_long` for more than 400 of them."""
        width = self.ends - self.begins
        # A month has 28 days or more: what passes here may still be cut into a few too many.
        if width > _MOST_DAYS * (1 if unit == "day" else 31) + timedelta(days=1):
            raise _too_long(unit)
        found = list(cut(self.begins, self.ends, self.zone, unit=unit))
        if len(found) > MOST_PERIODS:
            raise _too_long(unit)
        return found


def read(begins: str | None, ends: str | None, tz: str, *, now: datetime) -> Range:
    """A range from what a caller gave: a date, which is its day in `tz`, or a moment with its offset from UTC.

    Without `ends` it lasts to the end of today, without `begins` from the first of the month in which it ends. Raises
    BadRequest with the field `from`, `to` or `tz`: `time_zone_unknown`, `moment_invalid`, `moment_without_offset`,
    `moment_off_quarter`, `range_empty`.
    """
    zone = zone_of(tz)
    given_since, given_until = open_ended(begins, ends, tz, on_quarters=True)
    until = given_until or _tomorrow(now, zone)
    since = given_since or _month(until - timedelta(microseconds=1), zone)
    _check(since, until)
    return Range(since, until, tz, zone)


def open_ended(
    begins: str | None, ends: str | None, tz: str, *, on_quarters: bool = False
) -> tuple[datetime | None, datetime | None]:
    """The same, where what is not given is no bound, and any moment will do. Raises as `read` does."""
    zone = zone_of(tz)
    since = None if begins is None else _moment(begins, zone, "from", on_quarters=on_quarters)
    until = None if ends is None else _moment(ends, zone, "to", on_quarters=on_quarters)
    if since is not None and until is not None:
        _check(since, until)
    return since, until


def month(year: int, number: int, *, tz: str = "UTC") -> Range:
    """A whole month."""
    zone = zone_of(tz)
    following = date(year + number // 12, number % 12 + 1, 1)
    return Range(beginning(date(year, number, 1), zone), beginning(following, zone), tz, zone)


def _check(since: datetime, until: datetime) -> None:
    if until <= since:
        text = "to must come after from: what begins at from and later counts, up to but not at to"
        raise BadRequest(text, code="range_empty", field="to")


def _moment(text: str, zone: tzinfo, field: str, *, on_quarters: bool) -> datetime:
    invalid = f"{field} must be a date (2026-03-29) or a moment with its offset (2026-03-29T00:00:00+01:00)"
    try:
        if _DATE.fullmatch(text):
            return _within(beginning(date.fromisoformat(text), zone), field)
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise BadRequest(invalid, code="moment_invalid", field=field) from None
    if moment.tzinfo is None:
        raise BadRequest(f"{field} must say its offset from UTC", code="moment_without_offset", field=field)
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:
        raise BadRequest(invalid, code="moment_invalid", field=field) from None
    if on_quarters and (moment.minute % _QUARTER_MINUTES or moment.second or moment.microsecond):
        text = f"{field} must be on a quarter of an hour: usage is counted by those"
        raise BadRequest(text, code="moment_off_quarter", field=field)
    return _within(moment, field)


def _within(moment: datetime, field: str) -> datetime:
    if not _FIRST <= moment <= _LAST:
        raise BadRequest(f"{field} must be from 2000 to 2199", code="moment_invalid", field=field)
    return moment


def _tomorrow(now: datetime, zone: tzinfo) -> datetime:
    return beginning(now.astimezone(zone).date() + timedelta(days=1), zone)


def _month(moment: datetime, zone: tzinfo) -> datetime:
    return beginning(moment.astimezone(zone).date().replace(day=1), zone)


def _too_long(unit: Unit) -> BadRequest:
    text = f"at most {MOST_PERIODS} {unit}s at a time: ask for less, or group by something else"
    return BadRequest(text, code="range_too_long", field="to")
