"""Names of the outbox's keys in Redis. `prelude.lua` spells the same prefix."""

from __future__ import annotations

from typing import Final

PREFIX: Final = "sw:"
OUTCOMES: Final = PREFIX + "outcomes"
CHARGED: Final = PREFIX + "charged"
ENDS: Final = PREFIX + "ends"
CONFIG_VERSION: Final = PREFIX + "config:version"


def event(event_id: str) -> str:
    """Hash: units still open and their attempts; the dedupe gate. A string `1` once nothing is left to do.

    The facts stand apart (`facts:<evt>`): short values keep the hash in Redis' compact encoding, a third of the size.
    """
    return f"{PREFIX}event:{event_id}"


def facts(event_id: str) -> str:
    """String: the event's facts, encoded."""
    return f"{PREFIX}facts:{event_id}"


def sealed(event_id: str) -> str:
    """String with a TTL: the sealed content."""
    return f"{PREFIX}sealed:{event_id}"


def line(lane: str, key: str) -> str:
    """Sorted set: waiting events and when each is due (ms)."""
    return f"{PREFIX}line:{lane}:{key}"


def fly(lane: str, key: str) -> str:
    """Sorted set: claimed events and the end of each lease (ms), which is also the claim's token."""
    return f"{PREFIX}fly:{lane}:{key}"


def due(lane: str) -> str:
    """Sorted set: the lane's keys and when each next wants service (ms)."""
    return f"{PREFIX}due:{lane}"


def suspects(lane: str) -> str:
    """Sorted set: units that may have killed their process, claimed alone; see claim.lua."""
    return f"{PREFIX}suspects:{lane}"


def gate(key: str) -> str:
    """Hash: the breaker of one endpoint, global to all workers."""
    return f"{PREFIX}gate:{key}"


def held_bytes(account_id: str) -> str:
    """Counter: sealed bytes held for an account."""
    return f"{PREFIX}bytes:{account_id}"


def again(event_id: str, endpoint_id: str) -> str:
    """String with a TTL: the attempts of a delivery before its content was last restored."""
    return f"{PREFIX}again:{event_id}:{endpoint_id}"


def totals(lane: str) -> str:
    """Hash: units accepted, delivered, dead and lost since Redis began; never reset."""
    return f"{PREFIX}totals:{lane}"


def ring(lane: str) -> str:
    """String with a short TTL: a bell for this lane is on its way."""
    return f"{PREFIX}ring:{lane}"
