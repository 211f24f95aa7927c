"""From a load to what it needs. Every figure is conservative where it cannot be exact."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import msgspec

from relay.planning import footprint
from relay.planning.allocators import Allocator

MIB: Final = 1024 * 1024
_DAY: Final = timedelta(days=1)

# Web refuses new events above this share of Redis' memory (relay.ingress.pressure).
FULL_SHARE: Final = 0.85
# Sealed content in one reply of Redis to a worker (relay.delivery.load), and in one group commit of web
# (relay.ingress.commit): buffers of connections count as used memory.
CLAIM_EVENTS: Final = 256
CLAIM_BYTES: Final = 8 * MIB
COMMIT_BYTES: Final = 4 * MIB

# What one process does on one core, below what `make bench` measures on ordinary cores: accepts of a web process,
# deliveries and charges of a worker.
ACCEPTS_PER_SECOND: Final = 4_000
DELIVERIES_PER_SECOND: Final = 8_000
CHARGES_PER_SECOND: Final = 5_000
# The other half is for bursts, and for draining what waited.
BUSY_SHARE: Final = 0.5
# So that one can be replaced while the other works.
FEWEST_PROCESSES: Final = 2
# A worker looks into the billing lane this often at most, and charges what came meanwhile, up to so many, as one batch.
CHARGE_SECONDS: Final = 0.1
CHARGE_MOST: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What comes in, where it goes, and how long endpoints may be away.

    rate_per_second  events that are accepted
    payload_bytes    of one event
    outage           how long nothing can be delivered
    endpoints        that each event goes to
    accounts         that share the events evenly
    retention        after which what was not delivered is gone (SWITCHHOOK_RETENTION_HOURS)
    recharge         for how long the facts of what was charged are kept (SWITCHHOOK_RECHARGE_HOURS)
    quota_bytes      of sealed content that one account may have waiting (SWITCHHOOK_ACCOUNT_QUOTA)
    allocator        of Redis, as INFO names it
    """

    rate_per_second: float
    payload_bytes: int
    outage: timedelta
    retention: timedelta
    quota_bytes: int
    recharge: timedelta = timedelta(hours=72)
    endpoints: int = 1
    accounts: int = 1
    allocator: Allocator = "jemalloc"


class Plan(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a load needs. Bytes are bytes, `_bits` are bits per second; processes are of one core each."""

    events_waiting: int
    redis_event_bytes: int
    redis_waiting_bytes: int
    redis_markers_bytes: int
    redis_unrecorded_bytes: int
    redis_charged_bytes: int
    redis_other_bytes: int
    redis_used_bytes: int
    redis_maxmemory_bytes: int
    account_waiting_bytes: int
    account_quota_bytes: int
    is_quota_enough: bool
    redis_appended_bytes_per_day: int
    redis_disk_bytes: int
    postgres_bytes_per_day: int
    postgres_kept_bytes_per_day: int
    postgres_log_bytes_per_day: int
    web_processes: int
    worker_processes: int
    drain_seconds: int
    received_bits: int
    sent_bits: int
    redis_bits: int


def plan(load: Load) -> Plan:
    """What is needed at the end of the outage, when most waits; per day at the load's rate. Pure."""
    rate, payload, endpoints = load.rate_per_second, load.payload_bytes, load.endpoints
    a_day = rate * _DAY.total_seconds()
    waiting = math.ceil(rate * min(load.outage, load.retention).total_seconds())
    web, workers = _web_processes(rate), _worker_processes(rate, endpoints=endpoints)
    event = footprint.waiting_bytes(payload, endpoints=endpoints, allocator=load.allocator)
    # What was settled in the day before, so far as the outage left any of it.
    markers = math.ceil(rate * max(_DAY - load.outage, timedelta()).total_seconds())
    unrecorded = footprint.unrecorded_bytes(endpoints=endpoints)
    other = _other_bytes(load, web=web, workers=workers)
    of_a_charge = charged_event_bytes(load, workers=workers)
    kept = math.ceil(rate * load.recharge.total_seconds()) * of_a_charge
    data = waiting * event + markers * footprint.MARKER_BYTES
    used = data + waiting * unrecorded + kept + other
    appended = math.ceil(a_day * (footprint.appended_bytes(payload, endpoints=endpoints) + of_a_charge))
    of_an_account = math.ceil(waiting / load.accounts) * footprint.sealed_bytes(payload)
    return Plan(
        events_waiting=waiting,
        redis_event_bytes=event,
        redis_waiting_bytes=waiting * event,
        redis_markers_bytes=markers * footprint.MARKER_BYTES,
        redis_unrecorded_bytes=waiting * unrecorded,
        redis_charged_bytes=kept,
        redis_other_bytes=other,
        redis_used_bytes=used,
        redis_maxmemory_bytes=math.ceil(used / FULL_SHARE / MIB) * MIB,
        account_waiting_bytes=of_an_account,
        account_quota_bytes=load.quota_bytes,
        is_quota_enough=of_an_account <= load.quota_bytes,
        redis_appended_bytes_per_day=appended,
        # A day's appends behind what the file began with, and the copy that a rewrite writes beside them.
        redis_disk_bytes=appended + 2 * used,
        postgres_bytes_per_day=math.ceil(a_day * footprint.row_bytes(endpoints=endpoints)),
        postgres_kept_bytes_per_day=math.ceil(a_day * footprint.kept_row_bytes()),
        postgres_log_bytes_per_day=math.ceil(a_day * footprint.logged_bytes(endpoints=endpoints)),
        web_processes=web,
        worker_processes=workers,
        drain_seconds=_drain_seconds(rate, waiting, endpoints=endpoints, workers=workers),
        received_bits=_bits(rate, footprint.received_bytes(payload)),
        sent_bits=_bits(rate, footprint.sent_bytes(payload, endpoints=endpoints)),
        redis_bits=_bits(rate, footprint.redis_wire_bytes(payload, endpoints=endpoints)),
    )


def charged_event_bytes(load: Load, *, workers: int) -> int:
    """What one charged event takes for as long as it is kept; 0 if it is not. The more come, the less each takes."""
    if not load.recharge:
        return 0
    at_once = min(CHARGE_MOST, load.rate_per_second * CHARGE_SECONDS / workers)
    return footprint.charged_bytes(at_once=at_once, allocator=load.allocator)


def _web_processes(rate: float) -> int:
    return max(FEWEST_PROCESSES, math.ceil(rate / ACCEPTS_PER_SECOND / BUSY_SHARE))


def _worker_processes(rate: float, *, endpoints: int) -> int:
    """One process does both kinds of work, with one core: their shares of a second add up."""
    busy = rate * _worker_seconds(endpoints)
    return max(FEWEST_PROCESSES, math.ceil(busy / BUSY_SHARE))


def _worker_seconds(endpoints: int) -> float:
    return endpoints / DELIVERIES_PER_SECOND + 1 / CHARGES_PER_SECOND


def _drain_seconds(rate: float, waiting: int, *, endpoints: int, workers: int) -> int:
    """How long the workers need for what waits, with what new events leave of them. Charges were made meanwhile."""
    spare = workers - rate * _worker_seconds(endpoints)
    return math.ceil(waiting * endpoints / DELIVERIES_PER_SECOND / spare)


def _other_bytes(load: Load, *, web: int, workers: int) -> int:
    sealed = footprint.sealed_bytes(load.payload_bytes)
    claims = workers * max(sealed, min(CLAIM_BYTES, CLAIM_EVENTS * sealed))
    commits = web * max(sealed, min(COMMIT_BYTES, CLAIM_EVENTS * sealed))
    return footprint.EMPTY_BYTES + load.accounts * footprint.ACCOUNT_BYTES + claims + commits


def _bits(rate: float, size_bytes: int) -> int:
    return math.ceil(rate * size_bytes * 8)
