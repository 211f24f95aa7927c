"""Days of time zones: where clocks change, dates are skipped or come twice, and offsets are odd."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.reports import ranges
from billing.reports.days import Stretch, beginning, cut, zone_of
from relay.errors import BadRequest

QUARTER = timedelta(minutes=15)
ZONES = sorted(available_timezones() - {"localtime", "Factory"})


def days(tz: str, first: str, count: int = 1) -> list[Stretch]:
    """The days of a zone from a date on."""
    zone, since = zone_of(tz), date.fromisoformat(first)
    return list(cut(beginning(since, zone), beginning(since + timedelta(days=count), zone), zone))


@pytest.mark.parametrize(
    ("tz", "day", "begins", "hours"),
    [
        ("UTC", "2026-03-29", "2026-03-29T00:00", 24),
        ("Europe/Berlin", "2026-03-29", "2026-03-28T23:00", 23),
        ("Europe/Berlin", "2026-10-25", "2026-10-24T22:00", 25),
        ("America/New_York", "2026-03-08", "2026-03-08T05:00", 23),
        ("America/New_York", "2026-11-01", "2026-11-01T04:00", 25),
        # Half an hour of daylight saving.
        ("Australia/Lord_Howe", "2026-10-04", "2026-10-03T13:30", 23.5),
        ("Australia/Lord_Howe", "2026-04-05", "2026-04-04T13:00", 24.5),
        # 45 and 30 minutes of offset.
        ("Asia/Kathmandu", "2026-03-29", "2026-03-28T18:15", 24),
        ("Asia/Kolkata", "2026-03-29", "2026-03-28T18:30", 24),
        # Clocks pass over midnight: this day begins at 01:00.
        ("America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00", 23),
        # They go back to 23:00 at midnight, and back from 01:00 to midnight: the day begins once.
        ("America/Sao_Paulo", "2018-02-17", "2018-02-17T02:00", 25),
        ("America/Havana", "2026-11-01", "2026-11-01T04:00", 25),
        # Back over midnight, from 02:00 to 23:00: what was of the date before belongs to the day that had begun.
        ("Antarctica/Casey", "2010-03-05", "2010-03-04T13:00", 27),
        # Clocks went from 23:30 to 00:30.
        ("America/Toronto", "1919-03-31", "1919-03-31T04:30", 23.5),
    ],
)
def test_a_day_lasts_until_the_next_date(tz: str, day: str, begins: str, hours: float) -> None:
    """From its first moment."""
    (found,) = days(tz, day)
    first = datetime.fromisoformat(begins).replace(tzinfo=UTC)
    assert found == Stretch(date.fromisoformat(day), first, first + timedelta(hours=hours))


@pytest.mark.parametrize(
    ("tz", "first", "expected"),
    [
        ("Pacific/Apia", "2011-12-29", [("2011-12-29", 24), ("2011-12-31", 24)]),
        ("Pacific/Kwajalein", "1993-08-20", [("1993-08-20", 24), ("1993-08-22", 24)]),
        ("Pacific/Kwajalein", "1969-09-29", [("1969-09-29", 24), ("1969-09-30", 47), ("1969-10-01", 24)]),
    ],
)
def test_a_date_that_was_skipped_is_no_day_and_one_that_came_twice_is_one(
    tz: str, first: str, expected: list[tuple[str, float]]
) -> None:
    """Whoever crosses the date line."""
    found = days(tz, first, 3)
    assert [(str(one.date), (one.ends - one.begins) / timedelta(hours=1)) for one in found] == expected


def test_a_range_may_begin_in_a_date_that_came_once_more() -> None:
    """That time belongs to the day that had begun."""
    since = datetime(2010, 3, 4, 15, 30, tzinfo=UTC)
    assert since.astimezone(zone_of("Antarctica/Casey")).date() == date(2010, 3, 4)
    (found,) = cut(since, since + QUARTER, zone_of("Antarctica/Casey"))
    assert found == Stretch(date(2010, 3, 5), since, since + QUARTER)


def test_every_day_of_every_zone_begins_on_a_quarter_hour() -> None:
    """What usage is counted by. Two days of each quarter of a year, in every zone there is."""
    assert len(ZONES) > 400
    odd = {
        (tz, day)
        for tz in ZONES
        for zone in [zone_of(tz)]
        for year in range(2000, 2040)
        for month in range(1, 13, 3)
        for day in (date(year, month, 1), date(year, month, 28))
        if (moment := beginning(day, zone)).minute % 15 or moment.second
    }
    assert odd == set()


@settings(max_examples=300, deadline=None)
@given(
    tz=st.sampled_from(ZONES),
    begins=st.integers(0, 40 * 365 * 96),
    quarters=st.integers(1, 4000),
    unit=st.sampled_from(["day", "month"]),
)
def test_the_parts_of_a_range_are_the_range(tz: str, begins: int, quarters: int, unit: str) -> None:
    """In order, without a gap, each within one date that is never there twice; and each begins where its date does."""
    zone = zone_of(tz)
    since = datetime(2000, 1, 1, tzinfo=UTC) + begins * QUARTER
    until = since + quarters * QUARTER
    found = list(cut(since, until, zone, unit=unit))  # type: ignore[arg-type]
    assert (found[0].begins, found[-1].ends) == (since, until)
    assert all(one.ends == following.begins for one, following in pairwise(found))
    assert all(one.begins < one.ends for one in found)
    dates = [one.date for one in found]
    assert dates == sorted(set(dates))
    assert all(one.begins == beginning(one.date, zone) for one in found[1:])
    assert beginning(found[0].date, zone) <= since


def test_months_are_those_of_the_zone() -> None:
    """March of Berlin is an hour short."""
    march = ranges.month(2026, 3, tz="Europe/Berlin")
    (found,) = march.periods("month")
    assert (found.date, found.ends - found.begins) == (date(2026, 3, 1), timedelta(days=31, hours=-1))
    assert [one.date.day for one in march.periods("day")] == list(range(1, 32))


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "europe/berlin", "Europe", "../UTC", "localtime", "x" * 10_000])
def test_what_is_no_time_zone_is_refused(name: str) -> None:
    """By the name of its field, whatever files there are."""
    with pytest.raises(BadRequest) as refused:
        zone_of(name)
    assert (refused.value.field, refused.value.code) == ("tz", "time_zone_unknown")


NOW = datetime(2026, 3, 29, 22, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("begins", "ends", "tz", "expected"),
    [
        ("2026-03-29", "2026-03-30", "Europe/Berlin", ("2026-03-28T23:00", "2026-03-29T22:00")),
        ("2026-03-29T00:15+05:45", "2026-03-29T18:30Z", "UTC", ("2026-03-28T18:30", "2026-03-29T18:30")),
        # It is the 30th in Berlin already.
        (None, None, "Europe/Berlin", ("2026-02-28T23:00", "2026-03-30T22:00")),
        (None, None, "UTC", ("2026-03-01T00:00", "2026-03-30T00:00")),
        # A range that ends with a month is of that month.
        (None, "2026-03-01", "UTC", ("2026-02-01T00:00", "2026-03-01T00:00")),
        ("2026-03-27", None, "UTC", ("2026-03-27T00:00", "2026-03-30T00:00")),
    ],
)
def test_a_range_is_read_in_its_zone(begins: str | None, ends: str | None, tz: str, expected: tuple[str, str]) -> None:
    """A date is its day there; what is not given is this month, up to today."""
    found = ranges.read(begins, ends, tz, now=NOW)
    assert (found.begins, found.ends) == tuple(datetime.fromisoformat(one).replace(tzinfo=UTC) for one in expected)
