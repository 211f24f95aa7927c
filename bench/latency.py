"""The whole system at 1,000 events a second on two cores: how long, how much of the machine, and exactly once."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from bench.backlog import drain
from bench.lines import Line, at_most, line, quantile
from bench.load import requests
from bench.stack import MEASURED_CORE, Stack, process, receiving, send, web
from bench.usage import cpu_seconds, resident_mb
from bench.verify import accepted_at_ms, accepted_ids, charges, not_exactly_once, verified_arrivals
from relay.connections import postgres_engine
from relay.queues import BILLING, RELAY
from relay.store.database import Database

_RATE = 1000.0
# The longest that records may take to follow; their cost belongs to the events.
_RECORDED_SECONDS = 60


def at_1000(stack: Stack, *, seconds: int, size_bytes: int) -> Iterator[Line]:
    """Offer 1,000 events a second; web, worker and beat share one core, everything else has the other one."""
    with contextlib.ExitStack() as processes:
        received = processes.enter_context(receiving(stack))
        worker = processes.enter_context(process(stack, "worker", core=MEASURED_CORE))
        server = processes.enter_context(web(stack, core=MEASURED_CORE))
        beat = processes.enter_context(process(stack, "beat", core=MEASURED_CORE))
        warm_up = requests(stack.routes, 2000, size_bytes=size_bytes)
        send(stack, warm_up, port=stack.settings.port, connections=32, rate=_RATE)
        load = requests(stack.routes, int(_RATE * seconds), size_bytes=size_bytes)
        measured = {
            "web": server.pid, "worker": worker.pid, "beat": beat.pid,
            "redis": stack.redis_pid, "postgres": stack.postgres_pid,
        }  # fmt: skip
        before = {name: cpu_seconds(pid) for name, pid in measured.items()}
        answers = send(stack, load, port=stack.settings.port, connections=64, rate=_RATE)
        drain(stack.outbox, RELAY)
        drain(stack.outbox, BILLING)
        stack.await_recorded(within_seconds=_RECORDED_SECONDS)
        spent = {name: cpu_seconds(pid) - before[name] for name, pid in measured.items()}
        resident = {name: resident_mb(measured[name]) for name in ("web", "worker", "beat")}
    arrived = verified_arrivals(received.arrivals, stack.signing_secrets)
    due_at = {event: answer.due_ns for answer in answers for event in accepted_ids([answer])}
    acks = sorted((answer.at_ns - answer.due_ns) / 1e6 for answer in answers)
    # From the moment that is kept as the event's acceptance, just before its commit; and from when it was to be sent.
    wall_ahead_ms = (time.time_ns() - time.monotonic_ns()) / 1e6
    accepted_ms = accepted_at_ms(Database(postgres_engine(stack.settings)))
    lags = sorted(
        arrived[event][0].at_ns / 1e6 + wall_ahead_ms - accepted_ms[event] for event in due_at.keys() & arrived
    )
    sent = sorted((arrived[event][0].at_ns - at) / 1e6 for event, at in due_at.items() if event in arrived)
    yield line("ack_ms_p50_at_1000", quantile(acks, 0.50), "ms")
    yield line("ack_ms_p99_at_1000", quantile(acks, 0.99), "ms", at_most(15))
    yield line("lag_ms_p50_at_1000", quantile(lags, 0.50), "ms", at_most(5))
    yield line("lag_ms_p99_at_1000", quantile(lags, 0.99), "ms", at_most(25))
    yield line("sent_to_delivered_ms_p50_at_1000", quantile(sent, 0.50), "ms")
    yield line("sent_to_delivered_ms_p99_at_1000", quantile(sent, 0.99), "ms")
    missing = len(load) - len(due_at)
    charged = charges(Database(postgres_engine(stack.settings)))
    yield line("not_exactly_once", not_exactly_once(answers, arrived, charged) + missing, "events", at_most(0))
    for name, cpu in spent.items():
        yield line(f"cpu_s_per_million_{name}", cpu / len(load) * 1e6, "s")
    yield line("cpu_s_per_million", sum(spent.values()) / len(load) * 1e6, "s")
    for name, size in resident.items():
        yield line(f"rss_mb_{name}", size, "MB", at_most(150))
