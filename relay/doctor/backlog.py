"""The outbox: whether all is accounted for, and whether somebody works it off."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import redis

from relay.doctor.finding import Finding, fail, ok, warn
from relay.outbox import Audit, Outbox
from relay.outbox.outcomes import backlog
from relay.queues import BILLING, OUTBOX_LANES, RECORDINGS, RELAY

# Workers look every second; whatever is due for longer waits for a worker, or for its endpoint.
_LATE_MS: Final = 60_000


def examine(client: redis.Redis) -> Iterator[Finding]:
    """Count every lane. Raises Unavailable."""
    outbox = Outbox(client)
    for lane in OUTBOX_LANES:
        yield from judged_lane(lane, outbox.audit(lane))
    waiting, oldest_ms = backlog(client)
    yield judged_outcomes(waiting, oldest_ms)


def judged_lane(lane: str, audit: Audit) -> Iterator[Finding]:
    """Where a lane's units are, and how late the oldest is."""
    if audit.unaccounted:
        advice = (
            "report it with the versions that ran: a unit was lost or invented. 'switchhook deliveries' shows which"
        )
        yield fail(f"{lane}: accounted for", f"{audit.unaccounted} unit(s) are not", advice)
    else:
        yield ok(f"{lane}: accounted for", f"all of {audit.accepted:,}")
    found = f"{audit.waiting + audit.in_flight:,} waiting, the oldest due {audit.late_ms / 1000:.0f} s ago"
    if audit.late_ms > _LATE_MS:
        yield warn(f"{lane}: in time", found, _LATE_ADVICE[lane])
    else:
        yield ok(f"{lane}: in time", found)


_LATE_ADVICE: Final = {
    RELAY: "is a worker with the lane 'relay' running, and do the endpoints answer? An open gate holds units back too",
    BILLING: "is a worker with the lane 'billing' running, and does Postgres take writes?",
    RECORDINGS: "is a worker with the lane 'recordings' running? One that cannot be fetched waits for its next try",
}


def judged_outcomes(waiting: int, oldest_ms: int) -> Finding:
    """What is on its way to Postgres."""
    found = f"{waiting:,} waiting, the oldest for {oldest_ms / 1000:.0f} s"
    if oldest_ms > _LATE_MS:
        advice = "is a worker with the lane 'record' running, and does Postgres take writes? They use Redis' memory"
        return warn("record: in time", found, advice)
    return ok("record: in time", found)
