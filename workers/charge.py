"""The billing lane: claim, commit session and ledger in one transaction, settle.

There is no attempt budget: a bill that cannot be written waits until it can. A claim that is not settled, because
the process died after its commit, is claimed again and found charged. With the settle the facts of what was charged
are kept in Redis for a while, whether or not it was news, so that the ledger can be made again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final, NamedTuple

from billing.ledger import Rated, charge
from relay.calls import Facts
from relay.errors import Conflict, Unavailable
from relay.outbox import Claim, Outbox, Room, Settlement, Verb, charged
from relay.outbox.charged import ChargedEvent
from relay.outbox.outcomes import decode_facts
from relay.queues import BILLING
from relay.store import restored
from relay.store.database import Database
from relay.store.terms import Terms
from relay.telemetry import logs, metrics

_BATCH: Final = 256
# Two processes may write one new session at one moment; the second try finds its row.
_CONFLICT_TRIES: Final = 5
# A row that Postgres refuses every time: it waits, raising an alarm each time, until someone has mended the cause.
_REFUSED_WAIT_MS: Final = 60_000
_NOTHING: Final[Mapping[str, Terms]] = MappingProxyType({})


class _Done(NamedTuple):
    """What becomes of claims, and what is to be kept of those that were charged."""

    settlements: list[Settlement]
    charged: list[ChargedEvent]


class ChargeLane:
    """Charges what waits in the billing lane. `keep`: for how long Redis keeps the facts of what was charged."""

    def __init__(
        self, outbox: Outbox, database: Database, *, keep: timedelta = timedelta(), batch: int = _BATCH
    ) -> None:
        self._outbox = outbox
        self._database = database
        self._keep_ms = keep // timedelta(milliseconds=1)
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
            done = self._charged(claims.units)
        except Unavailable:
            self._outbox.settle(BILLING, [Settlement(claim, Verb.RELEASE) for claim in claims.units])
            raise
        batch = charged.encoded(done.charged) if self._keep_ms and done.charged else b""
        self._outbox.settle_charged(done.settlements, batch, keep_ms=self._keep_ms)
        return claims.more or len(claims.units) == self._batch

    def _charged(self, claims: Sequence[Claim]) -> _Done:
        """Charge these, or halves of them until the row that fails is alone."""
        try:
            rated = commit(self._database, [_facts(claim) for claim in claims])
        except Unavailable:
            raise
        except Exception as error:
            if len(claims) > 1:
                middle = len(claims) // 2
                before, after = self._charged(claims[:middle]), self._charged(claims[middle:])
                return _Done(before.settlements + after.settlements, before.charged + after.charged)
            logs.failure("charge_refused", error, event_id=claims[0].event_id, lane=BILLING)
            return _Done([Settlement(claims[0], Verb.RELEASE, delay_ms=_REFUSED_WAIT_MS)], [])
        for one in rated:
            _record(one)
        facts = {claim.event_id: claim.facts for claim in claims}
        kept = [_kept(one, facts[one.facts.event_id]) for one in rated]
        return _Done([Settlement(claim, Verb.DONE) for claim in claims], kept)


def commit(
    database: Database, events: Sequence[Facts], *, remembered: Mapping[str, Terms] = _NOTHING, rehearse: bool = False
) -> list[Rated]:
    """Charge events in one transaction (billing.ledger.charge), again where another process was writing the same.

    `remembered` are those that were charged before: destinations may have their rows since they were accepted. With
    `rehearse` it is rolled back. Raises as Database does.
    """
    for _ in range(_CONFLICT_TRIES - 1):
        try:
            return _committed(database, events, remembered, rehearse=rehearse)
        except Conflict:
            continue
    return _committed(database, events, remembered, rehearse=rehearse)


def _committed(
    database: Database, events: Sequence[Facts], remembered: Mapping[str, Terms], *, rehearse: bool
) -> list[Rated]:
    with database.begin() as connection:
        if not rehearse:
            rated = charge(connection, events, remembered=remembered)
            restored.may_be_sent(connection, _first_accepted(rated, remembered))
            return rated
        with connection.begin_nested() as rehearsal:
            rated = charge(connection, events, remembered=remembered)
            rehearsal.rollback()
        return rated


def _first_accepted(rated: Sequence[Rated], remembered: Mapping[str, Terms]) -> dict[tuple[str, int], datetime]:
    """Since when rows of these sessions may have been sent, as far as their events were charged before."""
    found: dict[tuple[str, int], datetime] = {}
    for one in rated:
        if one.facts.event_id in remembered:
            key = (one.facts.account_id, one.session.id)
            at = datetime.fromtimestamp(one.facts.accepted_at_ms / 1000, UTC)
            found[key] = min(at, found.get(key, at))
    return found


def _facts(claim: Claim) -> Facts:
    return decode_facts(claim.facts, event_id=claim.event_id, account_id=claim.account_id)


def _kept(rated: Rated, facts: bytes) -> ChargedEvent:
    assessment, session = rated.assessment, rated.session
    return ChargedEvent(
        event_id=rated.facts.event_id,
        account_id=rated.facts.account_id,
        facts=facts,
        session_id=session.id,
        template_id=session.template_id,
        pinned_card_id=session.pinned_card_id,
        tag=session.tag,
        own_key=session.own_key,
        amount=assessment.charge.amount if assessment.is_news and assessment.charge is not None else None,
    )


def _record(rated: Rated) -> None:
    assessment, call = rated.assessment, rated.facts.call
    for entry in assessment.entries:
        if entry.kind == "charge" and entry.part == 0:
            metrics.record_charge(call.provider, entry.currency, float(entry.billed_seconds))
    if assessment.is_mismatch:
        metrics.record_duration_mismatch(call.provider)
    if assessment.reason is not None:
        metrics.record_unrated(assessment.reason)
        logs.alarm("session_unrated", reason=assessment.reason, event_id=rated.facts.event_id)
