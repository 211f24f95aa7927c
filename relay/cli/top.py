"""`switchhook top`: which endpoints are furthest behind, and whether every unit is accounted for."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

import click
import msgspec

from relay.cli.numbers import Number
from relay.cli.output import json_option, table
from relay.connections import redis_client
from relay.errors import Unavailable
from relay.outbox import Audit, Outbox, Worst
from relay.queues import OUTBOX_LANES
from relay.settings import Settings

_HEADINGS: Final = ("ENDPOINT", "ACCOUNT", "LATE", "WAITING", "IN FLIGHT", "CAP", "GATE", "FAILURES")
_LANE_HEADINGS: Final = ("LANE", "LATE", "WAITING", "IN FLIGHT", "ACCEPTED", "DELIVERED", "DEAD", "LOST", "UNACCOUNTED")
_UNITS: Final = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"))


@click.command()
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most so many endpoints.")
@click.option(
    "--watch",
    "watch_seconds",
    type=Number(0.1, 3600),
    metavar="SECONDS",
    help="Look again and again, this far apart, until Ctrl-C.",
)
@json_option
def top(limit: int, watch_seconds: float | None, as_json: bool) -> None:
    """The endpoints that are furthest behind now, and the totals of the outbox.

    Sorted by how late the oldest due delivery is, then by how many wait.
    """
    outbox = Outbox(redis_client(Settings.from_environ()))
    if watch_seconds is None:
        _look(outbox, limit, as_json=as_json)
        return
    with suppress(KeyboardInterrupt):
        while True:
            if not as_json:
                click.clear()
            try:
                _look(outbox, limit, as_json=as_json)
            except Unavailable as error:
                # Whoever watches wants to see it come back.
                click.echo(error.detail, err=True)
            time.sleep(watch_seconds)


def _look(outbox: Outbox, limit: int, *, as_json: bool) -> None:
    worst, audits = outbox.worst(limit), {lane: outbox.audit(lane) for lane in OUTBOX_LANES}
    if as_json:
        click.echo(msgspec.json.encode(as_fields(worst, audits)).decode())
    else:
        _print(worst, audits)


def as_fields(worst: Worst, audits: dict[str, Audit]) -> dict[str, Any]:
    """What --json prints. Durations are in seconds; `openUntil` is null unless the gate is open."""
    return {
        "endpoints": [
            {
                "endpointId": one.endpoint_id,
                "accountId": one.account_id,
                "lateSeconds": one.late_ms / 1000,
                "waiting": one.waiting,
                "inFlight": one.in_flight,
                "cap": one.cap,
                "gate": one.gate,
                "openUntil": datetime.fromtimestamp(one.until_ms / 1000, UTC) if one.gate == "open" else None,
                "failures": one.failures,
            }
            for one in worst.backlogs
        ],
        "endpointsWaiting": worst.endpoints,
        "lanes": [
            {
                "lane": lane,
                "lateSeconds": audit.late_ms / 1000,
                "waiting": audit.waiting,
                "inFlight": audit.in_flight,
                "accepted": audit.accepted,
                "delivered": audit.delivered,
                "dead": audit.dead,
                "lost": audit.lost,
                "unaccounted": audit.unaccounted,
            }
            for lane, audit in audits.items()
        ],
        "unaccounted": sum(audit.unaccounted for audit in audits.values()),
    }


def _print(worst: Worst, audits: dict[str, Audit]) -> None:
    rows = [
        (
            one.endpoint_id,
            one.account_id,
            duration(one.late_ms),
            one.waiting,
            one.in_flight,
            one.cap,
            f"open, probes in {duration(one.until_ms - worst.now_ms)}" if one.gate == "open" else one.gate,
            one.failures,
        )
        for one in worst.backlogs
    ]
    table(rows, _HEADINGS, empty="nothing waits for any endpoint")
    if worst.endpoints > len(rows):
        click.echo(f"... of {worst.endpoints} endpoints that something waits for")
    if worst.endpoints > worst.looked_at:
        click.echo(f"    ({worst.looked_at} of them were looked at)")
    click.echo()
    table([_lane(lane, audit) for lane, audit in audits.items()], _LANE_HEADINGS, empty="")


def _lane(lane: str, audit: Audit) -> tuple[object, ...]:
    counts = (audit.accepted, audit.delivered, audit.dead, audit.lost, audit.unaccounted)
    return (lane, duration(audit.late_ms), audit.waiting, audit.in_flight, *counts)


def duration(ms: int) -> str:
    """A duration in its largest whole unit, as in `3 min`; `0 s` for less than a second and for what is over."""
    return next((f"{ms // size} {unit}" for size, unit in _UNITS if ms >= size), "0 s")
