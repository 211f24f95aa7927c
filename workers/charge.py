"""The billing lane: claim, commit session and ledger in one transaction, settle.

There is no attempt budget: a bill that cannot be written waits until it can. A claim that is not settled, because
the process died after its commit, is claimed again and found charged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from billing.ledger import Rated, charge
from relay.errors import Conflict, Unavailable
from relay.outbox import Claim, Outbox, Room, Settlement, Verb
from relay.outbox.outcomes import decode_facts
from relay.queues import BILLING
from relay.store.database import Database
from relay.telemetry import logs, metrics

_BATCH: Final = 256
# Two processes may write one new session at one moment; the second try finds its row.
_CONFLICT_TRIES: Final = 5
# A row that Postgres refuses every time: it waits, raising an alarm each time, until someone has mended the cause.
_REFUSED_WAIT_MS: Final = 60_000


class ChargeLane:
    """Charges what waits in the billing lane."""

    def __init__(self, outbox: Outbox, database: Database, *, batch: int = _BATCH) -> None:
        self._outbox = outbox
        self._database = database
        self._batch = batch
        self._is_idle = False

    def expect(self) -> None:
        """A bell was rung: look at the lane itself."""
        self._is_idle = False

    def step(self) -> bool:
        """Charge one batch; True if there may be more. Raises Unavailable when Redis or Postgres is away."""
        if self._is_idle and not self._outbox.is_due(BILLING):
            return False
        claims = self._outbox.claim(BILLING, Room(self._batch), alone=True, content=False)
        self._is_idle = not claims.units
        if self._is_idle:
            return False
        try:
            settlements = self._charged(claims.units)
        except Unavailable:
            self._outbox.settle(BILLING, [Settlement(claim, Verb.RELEASE) for claim in claims.units])
            raise
        self._outbox.settle(BILLING, settlements)
        return claims.more or len(claims.units) == self._batch

    def _charged(self, claims: Sequence[Claim]) -> list[Settlement]:
        """Charge these, or halves of them until the row that fails is alone."""
        try:
            rated = self._commit(claims)
        except Unavailable:
            raise
        except Exception as error:
            if len(claims) > 1:
                middle = len(claims) // 2
                return self._charged(claims[:middle]) + self._charged(claims[middle:])
            logs.failure("charge_refused", error, event_id=claims[0].event_id, lane=BILLING)
            return [Settlement(claims[0], Verb.RELEASE, delay_ms=_REFUSED_WAIT_MS)]
        for one in rated:
            _record(one)
        return [Settlement(claim, Verb.DONE) for claim in claims]

    def _commit(self, claims: Sequence[Claim]) -> list[Rated]:
        events = [decode_facts(claim.facts, event_id=claim.event_id, account_id=claim.account_id) for claim in claims]
        for _ in range(_CONFLICT_TRIES - 1):
            try:
                with self._database.begin() as connection:
                    return charge(connection, events)
            except Conflict:
                continue
        with self._database.begin() as connection:
            return charge(connection, events)


def _record(rated: Rated) -> None:
    assessment, call = rated.assessment, rated.facts.call
    for entry in assessment.entries:
        if entry.kind == "charge" and entry.part == 0:
            metrics.record_charge(call.provider, entry.currency, float(entry.billed_seconds))
    if assessment.reason is not None:
        metrics.record_unrated(assessment.reason)
        logs.alarm("session_unrated", reason=assessment.reason, event_id=rated.facts.event_id)
