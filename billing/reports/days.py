"""Days and months of a time zone, as stretches of time. Pure.

A day lasts from the first moment of its date to that of the next date that the zone has: 23 or 25 h where its clocks
change, 23.5 on Lord Howe. A date that a zone skipped (Samoa, 30 December 2011) has no day, one that it had twice
(Kwajalein, 30 September 1969) one long day. Where clocks go back over midnight, the day begins at the first one.

From 2000 on every day of every zone of the IANA database begins on a quarter of an hour (UTC), Kathmandu's at 18:15;
a test goes through them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import Final, Literal
from zoneinfo import ZoneInfo, available_timezones

from relay.errors import BadRequest

Unit = Literal["day", "month"]

_MAX_NAME_CHARS: Final = 64
# What these mean depends on the machine.
_NO_ZONES: Final = frozenset({"localtime", "Factory"})
_SECOND: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A day, a month, or the part of one that lies in a range: from `begins` up to but not at `ends`, both in UTC.

    `date` is the day, or the first day of the month, on the zone's calendar.
    """

    date: date
    begins: datetime
    ends: datetime


def zone_of(name: str) -> tzinfo:
    """An IANA time zone. Raises BadRequest `time_zone_unknown` with the field `tz`."""
    if name == "UTC":
        return UTC  # also where the machine has no database of time zones
    if len(name) > _MAX_NAME_CHARS or name not in _names():
        raise BadRequest(
            "tz must be a time zone of the IANA database: Europe/Berlin", code="time_zone_unknown", field="tz"
        )
    return ZoneInfo(name)


def beginning(day: date, zone: tzinfo) -> datetime:
    """The first moment of a date in a zone, in UTC; of a date that it skipped, that of the next one."""
    midnight = datetime.combine(day, time(), zone)
    begins = midnight.astimezone(UTC)
    if begins.astimezone(zone).replace(tzinfo=None) == midnight.replace(tzinfo=None):
        return begins
    # Clocks passed over midnight: the day begins when they did, at the latest at what midnight would have been.
    earliest = midnight.replace(fold=1).astimezone(UTC)
    return _change(earliest, begins, zone)


def cut(begins: datetime, ends: datetime, zone: tzinfo, *, unit: Unit = "day") -> Iterator[Stretch]:
    """The days (or months) of a range, in order and without gaps; the first and the last may be parts."""
    day = _first(begins.astimezone(zone).date(), unit)
    since = begins.astimezone(UTC)
    while since < ends:
        until = min(beginning(_next(day, unit), zone), ends.astimezone(UTC))
        # A date that was skipped has no time; nor has one that clocks went back to when the next had begun.
        if until > since:
            yield Stretch(day, since, until)
            since = until
        day = _next(day, unit)


def _change(low: datetime, high: datetime, zone: tzinfo) -> datetime:
    """When the offset changed, after `low` and at the latest at `high`, to the second."""
    before = low.astimezone(zone).utcoffset()
    while high - low > _SECOND:
        middle = low + (high - low) // _SECOND // 2 * _SECOND
        if middle.astimezone(zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high


def _first(day: date, unit: Unit) -> date:
    return day if unit == "day" else day.replace(day=1)


def _next(day: date, unit: Unit) -> date:
    if unit == "day":
        return day + timedelta(days=1)
    return date(day.year + day.month // 12, day.month % 12 + 1, 1)


@lru_cache(maxsize=1)
def _names() -> frozenset[str]:
    return frozenset(available_timezones()) - _NO_ZONES
