"""The only door to the outbox: fair lease queues in Redis. It moves sealed bytes and never opens them.

An event waits in a line per endpoint (lane `relay`) and per account (`billing`, `recordings`). `accept` commits it,
`claim` leases waiting units fairly over the lines, `settle` says what became of them, `readmit` puts ended deliveries
back, `restore` those whose content was fetched again, `shred` deletes content before its time; each is one atomic Lua
script. Every method raises relay.errors.Unavailable when Redis does not answer.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import redis

from relay.connections import answered
from relay.outbox import keys
from relay.outbox.scripts import Arg, Call, Scripts
from relay.outbox.units import (
    Accepted,
    Admission,
    Audit,
    Backlog,
    Claim,
    Claims,
    GateVerdict,
    Readmission,
    Replay,
    Restoration,
    Restore,
    Room,
    Settlement,
    Shred,
    Shredded,
    Unit,
    Verb,
    Verdict,
    Worst,
)
from relay.queues import BILLING

__all__ = [
    "Accepted",
    "Admission",
    "Audit",
    "Backlog",
    "Claim",
    "Claims",
    "GateVerdict",
    "Outbox",
    "Readmission",
    "Replay",
    "Restoration",
    "Restore",
    "Room",
    "Settlement",
    "Shred",
    "Shredded",
    "Unit",
    "Verb",
    "Verdict",
    "Worst",
]

# Longer than the longest attempt (20 s), the wait before its settle and the reserve of 5 s, with room to spare.
LEASE_MS: Final = 60_000
# Two clocks that run alike differ by far less after so long than the slack.
_CLOCK_SECONDS: Final = 30.0
_CLOCK_SLACK_MS: Final = 50
# Replays and events in one call: Redis serves nobody else meanwhile.
READMIT_MOST: Final = 200
SHRED_MOST: Final = 200


class _LastClaim(NamedTuple):
    """Redis' clock (ms) at a moment of our monotonic one (s): hosts' wall clocks disagree, and jump."""

    redis_ms: int
    at: float
    has_suspects: bool


class Outbox:
    """The outbox on one Redis. Safe for threads; a claim belongs to the process that made it."""

    def __init__(self, client: redis.Redis, *, lease_ms: int = LEASE_MS) -> None:
        self._client = client
        self._scripts = Scripts(client)
        self._lease_ms = lease_ms
        self._claimed: dict[str, _LastClaim] = {}

    def accept(self, admissions: Sequence[Admission]) -> Accepted:
        """Commit a group of events, each exactly once; a verdict for each, in order."""
        now_ms, version, rings, verdicts, half_full = self._scripts.run_all([accept_call(admissions)])[0]
        return Accepted(
            now_ms=now_ms,
            config_version=int(version),
            rings=tuple(lane.decode() for lane in rings),
            verdicts=tuple(Verdict(verdict.decode()) for verdict in verdicts),
            half_full=tuple(account_id.decode() for account_id in half_full),
        )

    def is_due(self, lane: str) -> bool:
        """Whether a claim may find something: what an idle worker asks every second, in one cheap command.

        True also when this process' last claim of the lane left a suspect, or was half a minute ago: by then it may
        know neither of new suspects nor how late it is by Redis' clock.
        """
        claimed = self._claimed.get(lane)
        if claimed is None or claimed.has_suspects or time.monotonic() - claimed.at > _CLOCK_SECONDS:
            return True
        with answered():
            first: Any = self._client.zrange(keys.due(lane), 0, 0, withscores=True)
        now_ms = claimed.redis_ms + (time.monotonic() - claimed.at) * 1000
        return bool(first) and first[0][1] <= now_ms + _CLOCK_SLACK_MS

    def claim(self, lane: str, room: Room, *, alone: bool, content: bool) -> Claims:
        """Lease due units of a lane, as many as there is room for, with their sealed content if asked for."""
        call = self._claim_call(lane, room, alone=alone, content=content)
        began = time.monotonic()
        return self._claims(lane, self._scripts.run_all([call])[0], began)

    def settle(self, lane: str, settlements: Sequence[Settlement]) -> list[str]:
        """Say what became of claimed units; `ok`, `stale` (the lease was lost) or `error` for each."""
        return _settled(self._scripts.run_all([_settle_call(lane, settlements)])[0])

    def settle_charged(self, settlements: Sequence[Settlement], batch: bytes, *, keep_ms: int) -> list[str]:
        """Settle units of the billing lane and keep their facts (relay.outbox.charged), in one round trip.

        `batch` empty or `keep_ms` 0: nothing is kept. What Redis refuses to keep is settled all the same.
        """
        calls = [_settle_call(BILLING, settlements)]
        if batch and keep_ms:
            # First: a process that dies in between leaves units that are claimed again, and kept twice.
            calls.insert(0, ("keep", (batch, keep_ms)))
        return _settled(self._scripts.run_all(calls)[-1])

    def settle_and_claim(
        self, lane: str, settlements: Sequence[Settlement], room: Room, *, alone: bool
    ) -> tuple[list[str], Claims]:
        """Settle, then claim content, in one round trip."""
        calls = [
            _settle_call(lane, settlements),
            self._claim_call(lane, room, alone=alone, content=True),
        ]
        began = time.monotonic()
        settled, claimed = self._scripts.run_all(calls)
        return _settled(settled), self._claims(lane, claimed, began)

    def sweep(self, *, most: int = 500) -> int:
        """See to events whose end has come: a last attempt, or shredding. Returns how many were seen."""
        return int(self._scripts.run("sweep", most))

    def knows(self, event_id: str) -> bool:
        """Whether this outbox has an event, or settled it within the last 24 h."""
        with answered():
            return bool(self._client.exists(keys.event(event_id)))

    def readmit(self, replays: Sequence[Replay], *, dry_run: bool = False) -> list[Readmission]:
        """Put ended deliveries back into their lines, due now; what became of each, in order.

        With `dry_run` nothing changes and `readmitted` means that it could be. Safe to repeat: what is back already is
        `pending`. Raises ValueError for more than READMIT_MOST.
        """
        if len(replays) > READMIT_MOST:
            raise ValueError(f"at most {READMIT_MOST} replays in one call")
        args: list[Arg] = [int(dry_run), len(replays)]
        for item in replays:
            attempts = -1 if item.attempts is None else item.attempts
            args += (item.endpoint_id, item.event_id, attempts, item.window_ms, item.outcome)
        return [Readmission(verdict.decode()) for verdict in self._scripts.run("readmit", *args)[1]]

    def facts(self, event_ids: Sequence[str]) -> list[bytes]:
        """The facts of these events, in order; empty for one of which nothing is left to do or to keep."""
        with answered():
            kept: Any = self._client.mget([keys.facts(event_id) for event_id in event_ids])
        return [facts or b"" for facts in kept]

    def restore(self, item: Restore) -> Restoration:
        """Put an ended delivery back with content that was fetched again. Safe to repeat, as `readmit` is.

        `changed`: read the facts and try again. Billing is not touched.
        """
        unit = item.replay
        attempts = -1 if unit.attempts is None else unit.attempts
        args: list[Arg] = [unit.event_id, item.account_id, unit.endpoint_id, attempts, unit.window_ms]
        args += (item.retention_ms, item.quota_bytes, item.accepted_ms, item.found, item.facts, item.sealed)
        return Restoration(self._scripts.run("restore", *args, unit.outcome)[1].decode())

    def shred(self, items: Sequence[Shred]) -> list[Shredded | None]:
        """Delete the content of events now, and end what waits for it; of each, in order, what that was.

        Safe to repeat. None where Redis refused it. Raises ValueError for more than SHRED_MOST.
        """
        if len(items) > SHRED_MOST:
            raise ValueError(f"at most {SHRED_MOST} events in one call")
        args: list[Arg] = [len(items), *(part for item in items for part in item)]
        return [_shredded(reply) for reply in self._scripts.run("shred", *args)[1]]

    def reopen(self, lane: str, key: str, *, release: bool = False) -> None:
        """Forget what a key's gate has seen, so that what waits is due again: its endpoint was enabled by hand.

        With `release` what waits for its next attempt is due now as well: the endpoint is gone, and it can end.
        """
        self._scripts.run("reopen", lane, key, int(release))

    def audit(self, lane: str) -> Audit:
        """Count where every accepted unit of a lane is, at one moment."""
        return Audit(*self._scripts.run("audit", lane))

    def worst(self, most: int) -> Worst:
        """The endpoints whose oldest due unit is the latest, at most so many; of equals, those with more waiting."""
        now_ms, endpoints, looked_at, rows = self._scripts.run("worst", most)
        backlogs = tuple(Backlog(*(cell.decode() for cell in row[:3]), *row[3:]) for row in rows)
        return Worst(now_ms, endpoints, looked_at, backlogs)

    def _claims(self, lane: str, reply: Any, began: float) -> Claims:
        claims = _read_claims(reply)
        # As if Redis had answered at once: what looks due too early costs a claim, what looks due too late a wait.
        self._claimed[lane] = _LastClaim(claims.now_ms, began, claims.drain)
        return claims

    def _claim_call(self, lane: str, room: Room, *, alone: bool, content: bool) -> Call:
        limits = (room.units, room.size_bytes, self._lease_ms, int(alone), int(content))
        return "claim", (lane, *limits, room.probation_units, room.probation_bytes, *room.full_accounts)


def accept_call(admissions: Sequence[Admission]) -> Call:
    """The script call that commits a group of events."""
    args: list[Arg] = [len(admissions)]
    for item in admissions:
        args += item[:7]
        units = dict.fromkeys(item.units)
        args += (item.config_version, item.twin, len(units))
        for unit in units:
            args += unit
    return "accept", args


def _settle_call(lane: str, settlements: Sequence[Settlement]) -> Call:
    args: list[Arg] = [lane, len(settlements)]
    for claim, verb, delay_ms, attempted, gate, shred, outcome in settlements:
        args += (claim.key, claim.event_id, claim.token, verb, delay_ms, int(attempted), gate, int(shred), outcome)
    return "settle", args


def _shredded(reply: Any) -> Shredded | None:
    return None if reply == b"error" else Shredded(bool(reply[0]), reply[1], reply[2])


def _settled(reply: Any) -> list[str]:
    return [verdict.decode() for verdict in reply[1]]


def _read_claims(reply: Any) -> Claims:
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
                is_replay=bool(is_replay),
                is_on_probation=bool(is_on_probation),
                account_id=account_id.decode(),
                is_erased=bool(is_erased),
            )
            for (
                key,
                event_id,
                token,
                attempts,
                claims,
                accepted_ms,
                end_ms,
                gate,
                facts,
                sealed,
                is_replay,
                is_on_probation,
                account_id,
                is_erased,
            ) in units
        ),
    )
