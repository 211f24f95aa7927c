"""What tests of real servers need at one moment of the day only."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from tests.waiting import eventually

# Longer than any test that names today takes.
_LONG_ENOUGH: Final = timedelta(seconds=30)


@pytest.fixture
def day_that_goes_on() -> None:
    """For tests that name today or its month, or sum them up: none begins just before these turn (in UTC)."""

    def goes_on() -> bool:
        now = datetime.now(UTC)
        return now.date() == (now + _LONG_ENOUGH).date()

    eventually(goes_on, within_seconds=2 * _LONG_ENOUGH.total_seconds(), what="the next day")
