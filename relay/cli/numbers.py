"""Numbers as options take them."""

from __future__ import annotations

import math
from typing import Any, Final

import click

# What numbers of sessions and templates can be.
ROW_NUMBER: Final = click.IntRange(1, 2**63 - 1)


class Number(click.FloatRange):
    """A number within a range. Comparisons with NaN are false, so that it would pass as one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Text to a float."""
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail("give a number", param, ctx)
        return number
