"""Commands about what was charged: to look at it, to correct it, to close it."""

from __future__ import annotations

import click


@click.group()
def billing() -> None:
    """Billing: what calls cost, and what becomes of it."""
