"""What an event weighs in Redis, and whether a large backlog drains at full rate without growing a worker."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench.backlog import drain, fill
from bench.lines import Line, at_least, at_most, line
from bench.load import admissions, payload
from bench.stack import MEASURED_CORE, Stack, counting, process
from bench.usage import resident_mb
from relay.connections import redis_client
from relay.outbox import keys
from relay.queues import BILLING, RECORD, RELAY

_CHUNK = 10_000
_LOOK_SECONDS = 0.5


def redis_bytes(stack: Stack, *, count: int, size_bytes: int) -> Iterator[Line]:
    """Bytes of Redis per event: undelivered (charged and recorded), beyond its payload; and once it is settled."""
    outbox = stack.outbox
    # Scripts, consumer groups and connections are there before the first event.
    warm_up = admissions(stack.routes, 200, ring=stack.ring, size_bytes=size_bytes, relayed=True, billed=True)
    fill(outbox, warm_up)
    with process(stack, "worker", "--lanes", f"{BILLING},{RECORD}", core=MEASURED_CORE):
        drain(outbox, BILLING)
        stack.await_recorded(within_seconds=60)
        empty = _used(stack)
        load = admissions(stack.routes, count, ring=stack.ring, size_bytes=size_bytes, relayed=True, billed=True)
        fill(outbox, load)
        drain(outbox, BILLING)
        stack.await_recorded(within_seconds=60)
        waiting = _used(stack)
    with counting(stack), process(stack, "worker", core=MEASURED_CORE):
        drain(outbox, RELAY)
        stack.await_recorded(within_seconds=60)
        settled = _used(stack)
    yield line(
        "redis_bytes_over_payload",
        (waiting - empty) / count - len(payload(size_bytes)[1]),
        "bytes/event",
        at_most(1100),
    )
    # The 200 of the warm-up are delivered too, and leave their markers.
    yield line("redis_bytes_after_settle", max(0.0, settled - empty) / (count + 200), "bytes/event")


def backlog(stack: Stack, *, count: int, size_bytes: int) -> Iterator[Line]:
    """Drain a large backlog with one pinned worker; its rate and how much the worker grows after its first fifth."""
    for first in range(0, count, _CHUNK):
        some = min(_CHUNK, count - first)
        fill(
            stack.outbox,
            admissions(stack.routes, some, ring=stack.ring, size_bytes=size_bytes, relayed=True, billed=False),
        )
    _await_rewrite(stack)
    sizes: list[float] = []
    looked_at = 0.0

    def look() -> None:
        nonlocal looked_at
        if time.monotonic() - looked_at > _LOOK_SECONDS:  # looking through all processes takes milliseconds
            sizes.append(resident_mb(worker.pid))
            looked_at = time.monotonic()

    with counting(stack) as counted, process(stack, "worker", "--lanes", RELAY, core=MEASURED_CORE) as worker:
        drained = drain(stack.outbox, RELAY, patience_seconds=300, on_look=look)
    if counted.events != {1: count}:
        raise RuntimeError(f"of {count} events came {counted.events}")
    yield line("backlog_deliver_per_s", drained.per_second, "events/s", at_least(10_000))
    early = max(sizes[: max(1, len(sizes) // 5)])
    yield line("backlog_worker_grows_mb", max(sizes) - early, "MB", at_most(10))
    yield line("backlog_rss_mb_worker", max(sizes), "MB", at_most(150))


def _await_rewrite(stack: Stack) -> None:
    """Wait until Redis has rewritten its append-only file, which filling it made grow to many times its size."""
    client = redis_client(stack.settings)
    while client.info("persistence")["aof_rewrite_in_progress"]:
        time.sleep(0.2)


def _used(stack: Stack) -> int:
    """Bytes that Redis has allocated, once what clients and the append-only file need in passing is given back.

    Without what it keeps of charged events, which is for days and not for as long as an event waits.
    """
    time.sleep(1)
    client = redis_client(stack.settings)
    return int(client.info("memory")["used_memory"]) - int(client.memory_usage(keys.CHARGED, samples=0) or 0)
