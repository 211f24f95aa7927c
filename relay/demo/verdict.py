"""Whether a round of the demo went as promised: a pure decision from what was counted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What was counted in a round.

    accepted      webhooks that the ingress answered 200, each event once
    delivered     of these, what the receiver verified
    dead          of these, what was given up and recorded as such
    charged       charges in the ledger less reversals
    held          of these, whose sealed content is still in Redis
    unaccounted   `switchhook_unaccounted_events` of /metrics; None if it could not be read
    """

    accepted: int
    delivered: int
    dead: int
    charged: int
    held: int
    unaccounted: int | None

    @property
    def lost(self) -> int:
        """Accepted, and neither delivered nor given up on record: the number that must be 0."""
        return self.accepted - self.delivered - self.dead

    @property
    def line(self) -> str:
        """The demo's last line."""
        return f"demo: {self.accepted} accepted, {self.delivered} delivered, {self.charged} charged, {self.lost} lost"


def shortcomings(tally: Tally, *, events: int, calls: int) -> tuple[str, ...]:
    """What is wrong with a round of so many events and calls, each with where to look; nothing if all is well."""
    found = []
    if tally.accepted != events:
        found.append(f"{tally.accepted} of {events} webhooks were accepted: see web's log")
    if tally.lost:
        found.append(f"{tally.lost} accepted events were neither delivered nor given up: see worker's log")
    if tally.dead:
        found.append(f"{tally.dead} deliveries were given up: see worker's log")
    if tally.charged != calls:
        found.append(f"{tally.charged} charges were written for {calls} calls: see worker's log")
    if tally.held:
        found.append(f"{tally.held} events were settled, but their content was kept: see worker's log")
    if tally.unaccounted is None:
        found.append("/metrics could not be read: see web's log")
    elif tally.unaccounted:
        found.append(f"/metrics counts {tally.unaccounted} unaccounted events: see worker's log")
    return tuple(found)
