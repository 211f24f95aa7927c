"""What the doctor says of one thing."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Level(StrEnum):
    """How bad it is. FAIL: events are refused, lost or stuck, or will be. WARN: should be looked at."""

    OK = "ok"
    SKIPPED = "skipped"
    WARN = "warn"
    FAIL = "FAIL"


class Finding(msgspec.Struct, frozen=True, rename="camel"):
    """One line: what was looked at, how bad it is, what was found, and what to do about it."""

    check: str
    level: Level
    found: str
    advice: str = ""


def ok(check: str, found: str) -> Finding:
    """As it should be."""
    return Finding(check, Level.OK, found)


def skipped(check: str, found: str) -> Finding:
    """Not looked at, and why."""
    return Finding(check, Level.SKIPPED, found)


def warn(check: str, found: str, advice: str) -> Finding:
    """Not as it should be; it works."""
    return Finding(check, Level.WARN, found, advice)


def fail(check: str, found: str, advice: str) -> Finding:
    """It does not work, or not safely."""
    return Finding(check, Level.FAIL, found, advice)
