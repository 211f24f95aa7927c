"""Whether a round of the demo went as promised: a pure decision from what was counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What was counted in a round.

    accepted      webhooks that the ingress answered 200, each event once
    delivered     of these, what the receiver verified
    refused       deliveries that it did not find genuine
    dead          of the accepted, what was given up and recorded as such
    charged       charges in the ledger less reversals
    held          of the accepted, those whose sealed content is still in Redis
    unaccounted   `switchhook_unaccounted_events` of /metrics; None if it could not be read
    """

    accepted: int
    delivered: int
    refused: int
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


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a round came to: its line, and what is wrong with it, each with where to look."""

    line: str
    shortcomings: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """0 when everything was accounted for, else 1."""
        return 1 if self.shortcomings else 0


def judged(tally: Tally, *, events: int, calls: int) -> Verdict:
    """The verdict on a round of so many events and calls: all delivered and verified, each call charged once."""
    return Verdict(tally.line, tuple(_shortcomings(tally, events, calls)))


def _shortcomings(tally: Tally, events: int, calls: int) -> Iterator[str]:
    if tally.accepted != events:
        yield f"{tally.accepted} of {events} webhooks were accepted; look into web's log"
    if tally.lost:
        yield f"{tally.lost} accepted events were neither delivered nor given up; look into worker's log"
    if tally.refused:
        yield f"the receiver refused {tally.refused} deliveries, whose signature, age or secret was wrong"
    if tally.dead:
        yield f"{tally.dead} deliveries were given up; look into worker's log"
    if tally.charged != calls:
        yield f"{tally.charged} charges were written for {calls} calls; look into worker's log"
    if tally.held:
        yield f"the content of {tally.held} events is still held; look into worker's log"
    if tally.unaccounted is None:
        yield "/metrics could not be read; look into web's log"
    elif tally.unaccounted:
        yield f"/metrics counts {tally.unaccounted} unaccounted events; look into worker's log"
