"""A plan for people: each figure with its unit and how it came about. Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import Final, NamedTuple

from relay.planning import footprint
from relay.planning.estimate import (
    ACCEPTS_PER_SECOND,
    BUSY_SHARE,
    CHARGES_PER_SECOND,
    DELIVERIES_PER_SECOND,
    FEWEST_PROCESSES,
    FULL_SHARE,
    Load,
    Plan,
    charged_event_bytes,
)

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")
_UNIT_STEP: Final = 1024
_DECIMALS_BELOW: Final = 100


class Line(NamedTuple):
    """One figure: what it is, how much with its unit, how it was computed."""

    name: str
    amount: str
    how: str


def explained(load: Load, made: Plan) -> list[Line]:
    """A line for each figure of a plan."""
    return [
        *_redis(load, made),
        *_quota(load, made),
        *_disks(load, made),
        *_processes(made),
        *_network(load, made),
    ]


def size(amount_bytes: float) -> str:
    """Bytes in the unit that suits them: `1.5 GiB`."""
    for unit in _UNITS:
        if amount_bytes < _UNIT_STEP or unit == _UNITS[-1]:
            break
        amount_bytes /= _UNIT_STEP
    return f"{_short(amount_bytes)} {unit}"


def _redis(load: Load, made: Plan) -> list[Line]:
    lasting = min(load.outage, load.retention)
    unrecorded = footprint.unrecorded_bytes(endpoints=load.endpoints)
    return [
        Line("events that wait", f"{made.events_waiting:,}", f"{_rate(load)} for {_duration(lasting)}"),
        Line(
            "Redis: what waits",
            size(made.redis_waiting_bytes),
            f"{made.redis_event_bytes:,} B each: sealed content ({load.allocator} rounds it up), event, facts, lines",
        ),
        Line(
            "Redis: markers",
            size(made.redis_markers_bytes),
            f"{footprint.MARKER_BYTES} B for each event settled in the last 24 h, so that its repeats are known",
        ),
        Line(
            "Redis: if Postgres is away too",
            size(made.redis_unrecorded_bytes),
            f"{unrecorded} B for each that waits: its charge and what is to be recorded",
        ),
        Line(
            "Redis: what was charged",
            size(made.redis_charged_bytes),
            f"{charged_event_bytes(load, workers=made.worker_processes)} B for each charge of the last "
            f"{_duration(load.recharge)} (SWITCHHOOK_RECHARGE_HOURS), so that the ledger can be made again",
        ),
        Line(
            "Redis: the rest",
            size(made.redis_other_bytes),
            f"Redis itself, configuration of {load.accounts:,} account(s), buffers of connections",
        ),
        Line("Redis: used memory", size(made.redis_used_bytes), "the sum"),
        Line(
            "Redis: maxmemory",
            size(made.redis_maxmemory_bytes),
            f"used memory / {FULL_SHARE:g}: above that web answers 503. The machine needs room beside it",
        ),
    ]


def _quota(load: Load, made: Plan) -> list[Line]:
    verdict = "enough" if made.is_quota_enough else "TOO LITTLE"
    return [
        Line(
            "an account's quota",
            size(made.account_waiting_bytes),
            f"of {size(load.quota_bytes)} (SWITCHHOOK_ACCOUNT_QUOTA): {verdict}, if accounts share evenly",
        )
    ]


def _disks(load: Load, made: Plan) -> list[Line]:
    appended = footprint.appended_bytes(load.payload_bytes, endpoints=load.endpoints)
    appended += charged_event_bytes(load, workers=made.worker_processes)
    row = footprint.row_bytes(endpoints=load.endpoints)
    logged = footprint.logged_bytes(endpoints=load.endpoints)
    return [
        Line(
            "Redis: appended a day",
            size(made.redis_appended_bytes_per_day),
            f"{appended:,} B over an event's life, with one attempt for each endpoint",
        ),
        Line(
            "Redis: disk",
            size(made.redis_disk_bytes),
            "a day's appends, what the file began with, and the copy of the daily rewrite",
        ),
        Line(
            "Postgres: tables a day",
            size(made.postgres_bytes_per_day),
            f"{row:,} B an event that ends a call; {size(made.postgres_kept_bytes_per_day)} stay, the rest for 30 days",
        ),
        Line(
            "Postgres: log a day",
            size(made.postgres_log_bytes_per_day),
            f"{logged:,} B an event, and whole pages after checkpoints; recycled unless archived",
        ),
    ]


def _processes(made: Plan) -> list[Line]:
    fewest = f"at {BUSY_SHARE:.0%} of a core; at least {FEWEST_PROCESSES}"
    return [
        Line("web processes", str(made.web_processes), f"{ACCEPTS_PER_SECOND:,} accepts/s each, {fewest}"),
        Line(
            "worker processes",
            str(made.worker_processes),
            f"{DELIVERIES_PER_SECOND:,} deliveries/s or {CHARGES_PER_SECOND:,} charges/s each, {fewest}",
        ),
        Line(
            "drained after",
            _duration(timedelta(seconds=made.drain_seconds)),
            "by these workers beside new events, if the endpoints are as fast",
        ),
    ]


def _network(load: Load, made: Plan) -> list[Line]:
    each = size(load.payload_bytes)
    return [
        Line("network: to web", _bits(made.received_bits), f"{_rate(load)} x {each} and headers"),
        Line("network: to endpoints", _bits(made.sent_bits), f"the same to {load.endpoints} endpoint(s) each"),
        Line("network: to and from Redis", _bits(made.redis_bits), "content in once, and out to each endpoint"),
    ]


def _rate(load: Load) -> str:
    return f"{load.rate_per_second:g} events/s"


def _bits(per_second: int) -> str:
    return f"{_short(per_second / 1e6)} Mbit/s"


def _short(amount: float) -> str:
    return f"{amount:,.1f}" if 0 < amount < _DECIMALS_BELOW else f"{amount:,.0f}"


def _duration(duration: timedelta) -> str:
    """`90 s`, `6 h`, `2.5 d`: in the unit that suits it."""
    seconds = duration.total_seconds()
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"
