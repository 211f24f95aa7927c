"""The only door to the outbox: fair lease queues in Redis. It moves sealed bytes and never opens them.

An event waits in a line per endpoint (lane `relay`) and per account (lane `billing`). `accept` commits it, `claim`
leases waiting units fairly over the lines, `settle` says what became of them; each is one atomic Lua script. Every
method raises relay.errors.Unavailable when Redis does not answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import redis

from relay.outbox.scripts import Arg, Call, Scripts
from relay.outbox.units import (
    Accepted,
    Admission,
    Audit,
    Claim,
    Claims,
    GateVerdict,
    Settlement,
    Unit,
    Verb,
    Verdict,
)

__all__ = [
    "Accepted",
    "Admission",
    "Audit",
    "Claim",
    "Claims",
    "GateVerdict",
    "Outbox",
    "Settlement",
    "Unit",
    "Verb",
    "Verdict",
]

# Longer than the longest attempt (20 s), the wait before its settle and the reserve of 5 s, with room to spare.
LEASE_MS: Final = 60_000
# Of sealed content in one claim and in one process: keeps a worker small whatever waits.
CLAIM_BYTES: Final = 32 * 1024 * 1024


class Outbox:
    """The outbox on one Redis. Safe for threads; a claim belongs to the process that made it."""

    def __init__(self, client: redis.Redis, *, lease_ms: int = LEASE_MS) -> None:
        self._scripts = Scripts(client)
        self._lease_ms = lease_ms

    def accept(self, admissions: Sequence[Admission]) -> Accepted:
        """Commit a group of events, each exactly once; a verdict for each, in order."""
        args: list[Arg] = [len(admissions)]
        for item in admissions:
            args += item[:7]
            units = dict.fromkeys(item.units)
            args += (item.config_version, len(units))
            for unit in units:
                args += unit
        now_ms, version, rings, verdicts, half_full = self._scripts.run("accept", *args)
        return Accepted(
            now_ms=now_ms,
            config_version=int(version),
            rings=tuple(lane.decode() for lane in rings),
            verdicts=tuple(Verdict(verdict.decode()) for verdict in verdicts),
            half_full=tuple(account_id.decode() for account_id in half_full),
        )

    def claim(self, lane: str, *, most: int, most_bytes: int = CLAIM_BYTES, alone: bool, content: bool) -> Claims:
        """Lease up to `most` due units of a lane, with their sealed content if asked for."""
        call = self._claim_call(lane, most=most, most_bytes=most_bytes, alone=alone, content=content)
        return _claims(self._scripts.run_all([call])[0])

    def settle(self, lane: str, settlements: Sequence[Settlement]) -> list[str]:
        """Say what became of claimed units; `ok`, `stale` (the lease was lost) or `error` for each."""
        return _settled(self._scripts.run_all([_settle_call(lane, settlements)])[0])

    def settle_and_claim(
        self, lane: str, settlements: Sequence[Settlement], *, most: int, most_bytes: int = CLAIM_BYTES, alone: bool
    ) -> tuple[list[str], Claims]:
        """Settle, then claim content, in one round trip."""
        calls = [
            _settle_call(lane, settlements),
            self._claim_call(lane, most=most, most_bytes=most_bytes, alone=alone, content=True),
        ]
        settled, claimed = self._scripts.run_all(calls)
        return _settled(settled), _claims(claimed)

    def sweep(self, *, most: int = 500) -> int:
        """See to events whose end has come: a last attempt, or shredding. Returns how many were seen."""
        reply = self._scripts.run("sweep", most)
        return int(reply[2])

    def reopen(self, lane: str, key: str) -> None:
        """Forget what a key's gate has seen, so that what waits is due again: its endpoint was enabled by hand."""
        self._scripts.run("reopen", lane, key)

    def audit(self, lane: str) -> Audit:
        """Count where every accepted unit of a lane is, at one moment."""
        return Audit(*self._scripts.run("audit", lane))

    def _claim_call(self, lane: str, *, most: int, most_bytes: int, alone: bool, content: bool) -> Call:
        return "claim", (lane, most, most_bytes, self._lease_ms, int(alone), int(content))


def _settle_call(lane: str, settlements: Sequence[Settlement]) -> Call:
    args: list[Arg] = [lane, len(settlements)]
    for claim, verb, delay_ms, attempted, gate, shred, outcome in settlements:
        args += (claim.key, claim.event_id, claim.token, verb, delay_ms, int(attempted), gate, int(shred), outcome)
    return "settle", args


def _settled(reply: Any) -> list[str]:
    return [verdict.decode() for verdict in reply[1]]


def _claims(reply: Any) -> Claims:
    now_ms, version, more, drain, units = reply
    return Claims(
        now_ms=now_ms,
        config_version=int(version),
        more=bool(more),
        drain=bool(drain),
        units=tuple(
            Claim(
                key=key.decode(),
                event_id=event_id.decode(),
                token=token,
                attempts=attempts,
                claims=claims,
                accepted_ms=int(accepted_ms),
                end_ms=int(end_ms),
                gate=gate.decode(),
                facts=facts,
                sealed=sealed,
            )
            for key, event_id, token, attempts, claims, accepted_ms, end_ms, gate, facts, sealed in units
        ),
    )
