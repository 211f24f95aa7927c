"""The command that says how large the servers must be."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import click
import msgspec

from relay.cli.moments import Duration
from relay.cli.numbers import Number
from relay.cli.output import json_option, table
from relay.planning import ALLOCATORS, Allocator, Load, explained
from relay.planning import plan as estimate
from relay.settings import MIB, Limits

# Content is kept for 30 days at most (SWITCHHOOK_RETENTION_HOURS).
_LONGEST: Final = timedelta(days=30)


@click.command()
@click.option(
    "--rate",
    type=Number(min=0, max=1_000_000, min_open=True),
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
@click.option(
    "--outage",
    type=Duration(longest=_LONGEST),
    required=True,
    help="How long endpoints may be away: 90s, 30m, 6h, 2d, 1h30m.",
)
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

    It asks no server. SWITCHHOOK_ACCOUNT_QUOTA, SWITCHHOOK_RETENTION_HOURS and SWITCHHOOK_RECHARGE_HOURS count as they
    are set here.
    """
    limits = Limits.from_environ()
    load = Load(
        rate_per_second=rate,
        payload_bytes=payload_bytes,
        outage=outage,
        retention=limits.retention,
        recharge=limits.recharge,
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
