"""The measures. Each starts the real processes, offers load, and returns lines to print."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

import msgspec

from bench.load import admissions, requests
from bench.stack import MEASURED_CORE, Stack, free_port, pin, process, receiving, send, web
from bench.verify import accepted_ids, charges, not_exactly_once, verified_arrivals
from relay.connections import postgres_engine, redis_client
from relay.directory import Mirror
from relay.outbox import Outbox
from relay.queues import BILLING, RELAY
from relay.store.database import Database

_RATE = 1000.0
_GROUP = 128


class Line(msgspec.Struct, kw_only=True):
    """One measure as it is printed. `limit` is the bare limit of the same run."""

    measure: str
    value: float
    unit: str
    target: float
    limit: float | None = None
    ratio_to_limit: float | None = None


def line(measure: str, value: float, unit: str, target: float, limit: float | None = None) -> Line:
    """A line with rounded figures."""
    ratio = None if limit is None else round(value / limit, 3)
    rounded = None if limit is None else round(limit, 1)
    return Line(measure=measure, value=round(value, 2), unit=unit, target=target, limit=rounded, ratio_to_limit=ratio)


def accept(stack: Stack, *, count: int, size_bytes: int) -> Iterator[Line]:
    """How many signed webhooks one pinned web process takes in a second."""
    with web(stack, core=MEASURED_CORE):
        warm_up = requests(stack.routes, 500, size_bytes=size_bytes)
        send(stack, warm_up, port=stack.settings.port, connections=16, rate=0)
        load = requests(stack.routes, count, size_bytes=size_bytes)
        answers = send(stack, load, port=stack.settings.port, connections=64, rate=0)
    if len(accepted_ids(answers)) != count:
        raise RuntimeError(f"only {len(accepted_ids(answers))} of {count} were accepted")
    seconds = (max(a.at_ns for a in answers) - min(a.due_ns for a in answers)) / 1e9
    yield line("accept_per_s_per_core", count / seconds, "events/s", 5000, _bare_web(stack, load))


def deliver(stack: Stack, *, count: int, size_bytes: int) -> Iterator[Line]:
    """How many deliveries one pinned worker makes in a second, from a backlog over eight endpoints."""
    fill(
        stack.outbox,
        admissions(stack.routes, count, ring=stack.ring, size_bytes=size_bytes, relayed=True, billed=False),
    )
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
        limit = count / _bare("post", f"http://127.0.0.1:{stack.receiver_port}/0", str(count))
    yield line("deliver_per_s_per_core", rate, "events/s", 10000, limit)


def charge(stack: Stack, *, count: int) -> Iterator[Line]:
    """How many sessions one pinned worker charges in a second, from a backlog."""
    load = admissions(stack.routes, count, ring=stack.ring, size_bytes=500, relayed=False, billed=True)
    fill(stack.outbox, load)
    with process(stack, "worker", "--lanes", BILLING, core=MEASURED_CORE):
        seconds, done = drain(stack.outbox, BILLING)
    charged = charges(Database(postgres_engine(stack.settings)))
    if sum(charged.values()) != count or len(charged) != count:
        raise RuntimeError(f"{sum(charged.values())} charges for {count} sessions")
    limit = count / _bare("insert", stack.environ["DATABASE_URL"], str(count))
    yield line("charge_per_s_per_core", done / seconds, "sessions/s", 5000, limit)


def lag(stack: Stack, *, seconds: int, size_bytes: int) -> Iterator[Line]:
    """From accepted to delivered at 1,000 events a second, web and worker sharing one core, and what was not once."""
    with contextlib.ExitStack() as processes:
        received = processes.enter_context(receiving(stack))
        processes.enter_context(process(stack, "worker", core=MEASURED_CORE))
        processes.enter_context(web(stack, core=MEASURED_CORE))
        warm_up = requests(stack.routes, 2000, size_bytes=size_bytes)
        send(stack, warm_up, port=stack.settings.port, connections=32, rate=_RATE)
        load = requests(stack.routes, int(_RATE * seconds), size_bytes=size_bytes)
        answers = send(stack, load, port=stack.settings.port, connections=64, rate=_RATE)
        drain(stack.outbox, RELAY)
        drain(stack.outbox, BILLING)
    arrived = verified_arrivals(received.arrivals, stack.signing_secrets)
    accepted_at = {event: answer.at_ns for answer in answers for event in accepted_ids([answer])}
    lags = sorted(
        max(0.0, (arrived[event][0].at_ns - at) / 1e6) for event, at in accepted_at.items() if event in arrived
    )
    yield line("lag_ms_p50_at_1000", quantile(lags, 0.50), "ms", 5)
    yield line("lag_ms_p99_at_1000", quantile(lags, 0.99), "ms", 25)
    missing = len(load) - len(accepted_at)
    charged = charges(Database(postgres_engine(stack.settings)))
    yield line("exactly_once", not_exactly_once(answers, arrived, charged) + missing, "events", 0)


def fill(outbox: Outbox, load: Sequence[object]) -> None:
    """Commit a backlog."""
    for first in range(0, len(load), _GROUP):
        verdicts = outbox.accept(load[first : first + _GROUP]).verdicts  # type: ignore[arg-type]
        if set(verdicts) != {"new"}:
            raise RuntimeError(f"the outbox answered {set(verdicts)}")


def drain(outbox: Outbox, lane: str, *, patience_seconds: float = 120) -> tuple[float, int]:
    """Wait until a lane is empty; the seconds between a tenth and nine tenths of it, and the units settled in them."""
    began = time.monotonic()
    total = outbox.audit(lane)
    start = total.delivered
    waiting = total.waiting + total.in_flight
    marks: list[tuple[float, int]] = []
    while True:
        audit = outbox.audit(lane)
        done = audit.delivered - start
        marks.append((time.monotonic(), done))
        if not audit.waiting + audit.in_flight:
            break
        if time.monotonic() - began > patience_seconds:
            raise RuntimeError(f"{audit.waiting} units of {lane} still wait")
        time.sleep(0.02)
    within = [(at, done) for at, done in marks if waiting * 0.1 <= done <= waiting * 0.9]
    if len(within) < 2:
        return time.monotonic() - began, waiting
    return within[-1][0] - within[0][0], within[-1][1] - within[0][1]


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which this share of ordered values lies."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def reset(stack: Stack) -> None:
    """Empty Redis between measures and mirror the configuration again."""
    client = redis_client(stack.settings, timeout_seconds=30)
    client.flushall()
    Mirror(client, stack.ring).publish_all(Database(postgres_engine(stack.settings)))


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


def _bare(*arguments: str) -> float:
    measured = subprocess.Popen([sys.executable, "-m", "bench.bare", *arguments], stdout=subprocess.PIPE)
    pin(measured.pid, MEASURED_CORE)
    output, _ = measured.communicate(timeout=120)
    return float(output)
