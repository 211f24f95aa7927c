"""The command that says how large the servers must be."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from typing import Any, Final

import click
import msgspec

from relay.cli.output import json_option, table
from relay.planning import ALLOCATORS, Allocator, Load, explained
from relay.planning import plan as estimate
from relay.settings import MIB, Limits

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
# Content is kept for 30 days at most (SWITCHHOOK_RETENTION_HOURS).
_LONGEST: Final = timedelta(days=30)


class Duration(click.ParamType[timedelta]):
    """A duration as `90s`, `30m`, `6h`, `2d`, or several of these in a row: `1h30m`."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Text to a timedelta of more than nothing and at most 30 days."""
        if not re.fullmatch(r"(?:[0-9]{1,7}[smhd])+", value):
            self.fail("give a duration as 90s, 30m, 6h, 2d or 1h30m", param, ctx)
        parts = re.findall(r"([0-9]+)([smhd])", value)
        duration = sum((timedelta(**{_UNITS[unit]: int(number)}) for number, unit in parts), timedelta())
        if not timedelta() < duration <= _LONGEST:
            self.fail("give a duration of more than 0 and at most 30 days", param, ctx)
        return duration


class Rate(click.FloatRange):
    """A positive number of events in a second."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Text to a float. Comparisons let NaN pass."""
        rate = float(super().convert(value, param, ctx))
        if math.isnan(rate):
            self.fail("give a number", param, ctx)
        return rate


@click.command()
@click.option(
    "--rate",
    type=Rate(min=0, max=1_000_000, min_open=True),
    required=True,
    metavar="EVENTS_PER_SECOND",
    help="How many events are accepted in a second; a fraction is fine.",
)
@click.option(
    "--bytes",
    "payload_bytes",
    type=click.IntRange(1, 64 * MIB),
    required=True,
    metavar="PAYLOAD_BYTES",
    help="How large the payload of an event is on average.",
)
@click.option("--outage", type=Duration(), required=True, help="How long endpoints may be away: 90s, 30m, 6h, 2d.")
@click.option(
    "--endpoints", type=click.IntRange(1, 1000), default=1, show_default=True, help="Endpoints that each event goes to."
)
@click.option(
    "--accounts", type=click.IntRange(1, 10_000_000), default=1, show_default=True, help="Accounts that share the load."
)
@click.option(
    "--allocator",
    type=click.Choice(ALLOCATORS),
    default="jemalloc",
    show_default=True,
    help="What Redis' INFO memory names as mem_allocator.",
)
@json_option
def plan(
    *,
    rate: float,
    payload_bytes: int,
    outage: timedelta,
    endpoints: int,
    accounts: int,
    allocator: Allocator,
    as_json: bool,
) -> None:
    """Say how large Redis, Postgres and the processes must be for a load and an outage.

    It asks no server. SWITCHHOOK_ACCOUNT_QUOTA and SWITCHHOOK_RETENTION_HOURS count as they are set here.
    """
    limits = Limits.from_environ()
    load = Load(
        rate_per_second=rate,
        payload_bytes=payload_bytes,
        outage=outage,
        retention=limits.retention,
        quota_bytes=limits.account_quota_bytes,
        endpoints=endpoints,
        accounts=accounts,
        allocator=allocator,
    )
    made = estimate(load)
    if as_json:
        click.echo(msgspec.json.encode(made).decode())
        return
    table(explained(load, made), ("WHAT", "HOW MUCH", "HOW"), empty="")
    if outage > limits.retention:
        click.echo("The outage is longer than SWITCHHOOK_RETENTION_HOURS: what waits that long ends as dead.")
    if not made.is_quota_enough:
        click.echo(
            f"Give accounts a quota of {made.account_waiting_bytes:,} bytes or more: "
            "SWITCHHOOK_ACCOUNT_QUOTA, or 'switchhook account create --quota-bytes'."
        )
