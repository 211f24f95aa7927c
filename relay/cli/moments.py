"""Durations and moments as people write them; what makes no sense is a usage error of its option (exit code 2).

A moment without a zone is in UTC. Each such option says so, and what changes something prints the moment that it took.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
# Python takes any character for the T between a day and a time, and so 2026112010 for ten digits of something else.
_WRITTEN: Final = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8})([Tt ].*)?")
_NO_MOMENT: Final = "give a time as ISO 8601: 2026-01-01T00:00:00Z"


def parsed_duration(text: str) -> timedelta:
    """A duration from `90s`, `30m`, `6h`, `2d`, or several of these in a row: `1h30m`. Raises ValueError."""
    text = text.strip()
    if not re.fullmatch(r"(?:[0-9]{1,7}[smhd])+", text):
        raise ValueError("give a duration as 90s, 30m, 6h, 2d or 1h30m")
    parts = re.findall(r"([0-9]+)([smhd])", text)
    try:
        return sum((timedelta(**{_UNITS[unit]: int(number)}) for number, unit in parts), timedelta())
    except OverflowError:
        raise ValueError("give a shorter duration") from None


def parsed_moment(text: str) -> datetime:
    """A moment from ISO 8601, in UTC, which it is in unless it says otherwise. Raises ValueError."""
    text = text.strip()
    if not _WRITTEN.fullmatch(text):
        raise ValueError(_NO_MOMENT)
    try:
        given = datetime.fromisoformat(text)
        return (given if given.tzinfo else given.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(_NO_MOMENT) from None


def shown_moment(at: datetime) -> str:
    """A moment to the second, with its zone: `2026-11-20 05:02:11Z`. Pure."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"


def parsed_past(text: str, *, now: datetime) -> datetime:
    """A moment that is not to come: a duration before `now`, or ISO 8601. Raises ValueError."""
    try:
        moment = now - parsed_duration(text)
    except (ValueError, OverflowError):
        try:
            moment = parsed_moment(text)
        except ValueError:
            raise ValueError("give a time as 90s, 30m, 1h30m, 2d or 2026-01-01T00:00:00Z") from None
    if moment > now:
        raise ValueError("this time lies in the future")
    return moment


class Duration(click.ParamType[timedelta]):
    """A duration of more than nothing."""

    name = "duration"

    def __init__(self, *, longest: timedelta) -> None:
        self._longest = longest

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Text to a timedelta."""
        try:
            duration = parsed_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if not timedelta() < duration <= self._longest:
            self.fail(f"give a duration of more than 0 and at most {self._longest.days} days", param, ctx)
        return duration


class Moment(click.ParamType[datetime]):
    """A moment in ISO 8601."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Text to a datetime in UTC."""
        try:
            return parsed_moment(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Past(click.ParamType[datetime]):
    """A moment that is over, in ISO 8601 or as how long ago it was."""

    name = "past"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Text to a datetime in UTC."""
        try:
            return parsed_past(value, now=datetime.now(UTC))
        except ValueError as error:
            self.fail(str(error), param, ctx)
