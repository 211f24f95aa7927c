"""Days as options of commands take them."""

from __future__ import annotations

from datetime import date

import click
import pytest

from relay.cli.billing.reconciliation import Day


def test_a_day_is_written_as_iso_8601_has_it() -> None:
    """With its hyphens."""
    assert Day().convert("2026-10-31", None, None) == date(2026, 10, 31)


@pytest.mark.parametrize(
    "text", ["2026", "20261031", "2026103110", "0", "-1", "1.5", "2026-W44-6", "2026-13-01", "soon"]
)
def test_what_may_be_meant_otherwise_is_no_day(text: str) -> None:
    """Of ten digits Python reads the first eight."""
    with pytest.raises(click.BadParameter, match="give a day as 2026-10-31"):
        Day().convert(text, None, None)
