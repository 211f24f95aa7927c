"""Months as people write them."""

from __future__ import annotations

import re
from datetime import date
from typing import Any, Final

import click


class Month(click.ParamType[date]):
    """A month, by its first day."""

    name = "month"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        """Text to a date."""
        if isinstance(value, date):
            return value
        if not re.fullmatch(r"2[0-9]{3}-(?:0[1-9]|1[0-2])", value):
            self.fail("give a month as 2026-10", param, ctx)
        return date.fromisoformat(f"{value}-01")


MONTH: Final = Month()
