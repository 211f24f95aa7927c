"""Backlogs: committed straight to the outbox, worked off by a process under test, and forgotten between measures."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice

from bench.stack import Stack
from relay.connections import postgres_engine, redis_client
from relay.directory import Mirror
from relay.outbox import Admission, Outbox
from relay.store.database import Database

_GROUP = 128


@dataclass(frozen=True, slots=True)
class Drained:
    """How a lane was worked off: between a tenth and nine tenths of it, so that start and end do not count."""

    seconds: float
    units: int

    @property
    def per_second(self) -> float:
        return self.units / self.seconds


def fill(outbox: Outbox, load: Iterable[Admission]) -> None:
    """Commit a backlog."""
    rest = iter(load)
    while group := list(islice(rest, _GROUP)):
        verdicts = outbox.accept(group).verdicts
        if set(verdicts) != {"new"}:
            raise RuntimeError(f"the outbox answered {set(verdicts)}")


def drain(
    outbox: Outbox, lane: str, *, patience_seconds: float = 120, on_look: Callable[[], None] = lambda: None
) -> Drained:
    """Wait until a lane is empty. `on_look` is called every 20 ms."""
    began = time.monotonic()
    total = outbox.audit(lane)
    start = total.delivered
    waiting = total.waiting + total.in_flight
    marks: list[tuple[float, int]] = []
    while True:
        audit = outbox.audit(lane)
        done = audit.delivered - start
        marks.append((time.monotonic(), done))
        on_look()
        if not audit.waiting + audit.in_flight:
            break
        if time.monotonic() - began > patience_seconds:
            raise RuntimeError(f"{audit.waiting} units of {lane} still wait")
        time.sleep(0.02)
    within = [(at, done) for at, done in marks if waiting * 0.1 <= done <= waiting * 0.9]
    if len(within) < 2:
        return Drained(time.monotonic() - began, waiting)
    return Drained(within[-1][0] - within[0][0], within[-1][1] - within[0][1])


def reset(stack: Stack) -> None:
    """Empty Redis between measures and mirror the configuration again."""
    client = redis_client(stack.settings, timeout_seconds=60)
    client.flushall()
    Mirror(client, stack.ring).publish_all(Database(postgres_engine(stack.settings)))
