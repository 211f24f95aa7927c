"""How much one pinned process does in a second: web accepting, a worker delivering, a worker charging."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

from bench.backlog import drain, fill
from bench.lines import Line, at_least, line
from bench.load import admissions, requests
from bench.stack import MEASURED_CORE, Stack, bare, free_port, pin, process, receiving, send, web
from bench.verify import accepted_ids, charges, verified_arrivals
from relay.connections import postgres_engine
from relay.queues import BILLING, RELAY
from relay.store.database import Database

USUAL_BYTES = 4096


def accept(stack: Stack, *, count: int, size_bytes: int) -> Iterator[Line]:
    """How many signed webhooks one pinned web process takes in a second."""
    with web(stack, core=MEASURED_CORE):
        warm_up = requests(stack.routes, 500, size_bytes=size_bytes)
        send(stack, warm_up, port=stack.settings.port, connections=16, rate=0)
        load = requests(stack.routes, count, size_bytes=size_bytes)
        answers = send(stack, load, port=stack.settings.port, connections=64, rate=0)
    if len(accepted_ids(answers)) != count:
        raise RuntimeError(f"only {len(accepted_ids(answers))} of {count} were accepted")
    rate = count / ((max(a.at_ns for a in answers) - min(a.due_ns for a in answers)) / 1e9)
    is_usual = size_bytes == USUAL_BYTES
    limit = _bare_web(stack, load)
    target = at_least(5000) if is_usual else None
    yield line(
        f"accept_{_size(size_bytes)}per_s_per_core", rate, "events/s", target, limit=limit, limit_of="empty Flask view"
    )
    if is_usual:
        alone = count / bare("accept", stack.environ["REDIS_URL"], str(count), str(size_bytes))
        yield line("accept_share_of_redis", rate / alone, f"of {alone:,.0f}/s, pipelined Redis accepts alone")


def deliver(stack: Stack, *, count: int, size_bytes: int) -> Iterator[Line]:
    """How many deliveries one pinned worker makes in a second, from a backlog over eight endpoints."""
    load = admissions(stack.routes, count, ring=stack.ring, size_bytes=size_bytes, relayed=True, billed=False)
    fill(stack.outbox, load)
    with receiving(stack) as received, process(stack, "worker", "--lanes", RELAY, core=MEASURED_CORE):
        drain(stack.outbox, RELAY)
    arrived = verified_arrivals(received.arrivals, stack.signing_secrets)
    wrong = count - sum(len(arrivals) == 1 for arrivals in arrived.values())
    if wrong or len(arrived) != count:
        raise RuntimeError(f"{wrong} of {count} deliveries did not arrive exactly once")
    times = sorted(arrival.at_ns for arrival in received.arrivals)
    # The first hundredth belongs to the slow start of new endpoints, the last to the emptying lines.
    first, last = times[len(times) // 100], times[-len(times) // 100]
    rate = (len(times) * 0.98) / ((last - first) / 1e9)
    with receiving(stack):
        limit = count / bare("post", f"http://127.0.0.1:{stack.receiver_port}/0", str(count), str(size_bytes))
    target = at_least(10_000) if size_bytes == USUAL_BYTES else None
    yield line(
        f"deliver_{_size(size_bytes)}per_s_per_core", rate, "events/s", target, limit=limit, limit_of="libcurl alone"
    )


def charge(stack: Stack, *, count: int) -> Iterator[Line]:
    """How many sessions one pinned worker charges in a second, from a backlog."""
    load = admissions(stack.routes, count, ring=stack.ring, size_bytes=500, relayed=False, billed=True)
    fill(stack.outbox, load)
    before = sum(charges(Database(postgres_engine(stack.settings))).values())
    with process(stack, "worker", "--lanes", BILLING, core=MEASURED_CORE):
        drained = drain(stack.outbox, BILLING)
    charged = charges(Database(postgres_engine(stack.settings)))
    if sum(charged.values()) - before != count or set(charged.values()) != {1}:
        raise RuntimeError(f"{sum(charged.values()) - before} charges for {count} sessions")
    limit = count / bare("insert", stack.environ["DATABASE_URL"], str(count))
    yield line(
        "charge_per_s_per_core",
        drained.per_second,
        "sessions/s",
        at_least(5000),
        limit=limit,
        limit_of="multi-row insert alone",
    )


def _size(size_bytes: int) -> str:
    return "" if size_bytes == USUAL_BYTES else f"{size_bytes // 1024}k_"


def _bare_web(stack: Stack, load: list[bytes]) -> float:
    port = free_port()
    server = subprocess.Popen([sys.executable, "-m", "bench.bare", "web", str(port)])
    try:
        pin(server.pid, MEASURED_CORE)
        time.sleep(2.5)
        answers = send(stack, load, port=port, connections=64, rate=0)
    finally:
        server.terminate()
        server.wait(20)
    return len(answers) / ((max(a.at_ns for a in answers) - min(a.due_ns for a in answers)) / 1e9)
