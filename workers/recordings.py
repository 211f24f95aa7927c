"""The recordings lane: claim a call, measure its recording, commit what came of it as an event, settle.

The event has an id that follows from the call's, and is committed before the unit is settled: a process that dies in
between leaves a unit that is claimed again, and its event is known by then. So each call becomes one event. The outbox
knows that for a day; a call that was charged longer ago is known by its session, and nothing more becomes of it.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final

import redis

from relay.calls import Facts
from relay.delivery.admitting import Admitting
from relay.directory import Directory
from relay.errors import BodiesFull, NotFound, Unavailable
from relay.outbox import Accepted, Claim, Outbox, Room, Settlement, Verb, Verdict
from relay.outbox.outcomes import decode_facts
from relay.outbox.ring import unmute
from relay.queues import RECORDINGS
from relay.recordings import event, request
from relay.recordings.fetch import Egress
from relay.recordings.measure import Measured
from relay.recordings.measuring import Measuring
from relay.recordings.request import HandedIn
from relay.recordings.schedule import wait_ms
from relay.recordings.unmeasured import Interrupted, Unmeasured
from relay.sealing import KeyRing, UnsealError
from relay.settings import Settings
from relay.store import sessions
from relay.store.database import Database
from relay.telemetry import logs, metrics
from workers.crew import Crew

# A recording ends within its deadline; the lease leaves time to commit and to settle what came of it.
DEADLINE_SECONDS: Final = 90.0
LEASE_MS: Final = 120_000
# Recordings at once in one process, and of one account: what hangs, hangs in its share.
SLOTS: Final = 4
# An idle lane is looked at this often, by whichever thread comes first: what a lost bell costs. A recording has time.
LOOK_SECONDS: Final = 3.0
_ACCOUNT_SLOTS: Final = 2
# While other recordings hold the memory; and when an operator must mend something, such as a key that is missing.
_FULL_WAIT_MS: Final = 5_000
_UNREADABLE_WAIT_MS: Final = 60_000
# An account's configuration may change while an event is on its way in; more often than this it does not.
_ROUTINGS: Final = 4
# The call itself was taken within the account's quota, and gives its bytes back when this is settled.
_NO_QUOTA: Final = 1 << 53
_POISON: Final = "poison"
_CONTENT_GONE: Final = "content_gone"
_INTERNAL_ERROR: Final = "internal_error"

Measure = Callable[[str], Measured]


class RecordingLane:
    """Works the lane off, in as many threads as call `step`. `on_accepted` is told of each event that is committed.

    `measure` turns an address into a duration; it raises Unmeasured, Interrupted, BodiesFull.
    """

    def __init__(
        self,
        outbox: Outbox,
        directory: Directory,
        ring: KeyRing,
        admitting: Admitting,
        measure: Measure,
        *,
        database: Database,
        on_accepted: Callable[[Accepted], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._outbox = outbox
        self._database = database
        self._directory = directory
        self._ring = ring
        self._admitting = admitting
        self._measure = measure
        self._on_accepted = on_accepted
        self._lock = threading.Lock()
        self._accounts: Counter[str] = Counter()
        self._is_expected = True
        self._clock = clock
        self._looked_at = -LOOK_SECONDS

    def expect(self) -> None:
        """A bell was rung: look at the lane itself."""
        self._is_expected = True

    def step(self) -> bool:
        """Work on one call; True if there may be more. Raises Unavailable when Redis or Postgres is away."""
        if not self._is_due():
            return False
        with self._lock:
            self._is_expected = False
            full = tuple(account for account, count in self._accounts.items() if count >= _ACCOUNT_SLOTS)
            claims = self._outbox.claim(RECORDINGS, Room(1, full_accounts=full), alone=True, content=True)
            # Where there was one there may be more: who was woken by the same bell claims without asking.
            self._is_expected = self._is_expected or bool(claims.units)
            self._accounts.update(claim.account_id for claim in claims.units)
        self._directory.saw(claims.config_version)
        for claim in claims.units:
            try:
                self._outbox.settle(RECORDINGS, [self._settlement(claim)])
            except Unavailable:
                # Not left to its lease: five of those would make it look like poison.
                self._outbox.settle(RECORDINGS, [Settlement(claim, Verb.RELEASE)])
                raise
            finally:
                self._left(claim.account_id)
        return bool(claims.units)

    def _is_due(self) -> bool:
        """Whether to look at the lane itself. Redis is asked once for all who wait, not by each of them."""
        if self._is_expected:
            return True
        with self._lock:
            now = self._clock()
            if now - self._looked_at < LOOK_SECONDS:
                return False
            self._looked_at = now
        return self._outbox.is_due(RECORDINGS)

    def _left(self, account_id: str) -> None:
        with self._lock:
            self._accounts[account_id] -= 1
            if not self._accounts[account_id]:
                del self._accounts[account_id]

    def _settlement(self, claim: Claim) -> Settlement:
        """What becomes of a unit; what has ended is committed as an event by then."""
        try:
            return self._worked(claim)
        except Unavailable:
            raise
        except NotFound:
            return Settlement(claim, Verb.DEAD)  # its account is gone, and nobody is there to be told or charged
        except Exception as error:
            logs.failure("recording_refused", error, event_id=claim.event_id, lane=RECORDINGS)
            return Settlement(claim, Verb.RELEASE, delay_ms=_UNREADABLE_WAIT_MS)

    def _worked(self, claim: Claim) -> Settlement:
        facts = decode_facts(claim.facts, event_id=claim.event_id, account_id=claim.account_id)
        if self._is_repeat(facts):
            metrics.record_recording("repeated")
            return Settlement(claim, Verb.DONE)
        handed_in: HandedIn | None = None
        try:
            if claim.sealed is not None:
                handed_in = request.opened(
                    self._ring, claim.sealed, event_id=claim.event_id, account_id=claim.account_id
                )
            outcome = self._outcome(claim, handed_in)
        except (Interrupted, BodiesFull) as error:
            return Settlement(claim, Verb.RELEASE, delay_ms=0 if isinstance(error, Interrupted) else _FULL_WAIT_MS)
        except UnsealError as error:
            logs.failure("recording_unreadable", error, event_id=claim.event_id)
            return Settlement(claim, Verb.RELEASE, delay_ms=_UNREADABLE_WAIT_MS)
        if outcome is None:
            metrics.record_recording("retried")
            delay_ms = wait_ms(claim.attempts + 1, jitter=random.uniform(-1, 1))  # noqa: S311  it spreads load
            return Settlement(claim, Verb.RETRY, delay_ms=delay_ms or 0, attempted=True)
        self._commit(facts, handed_in, outcome)
        metrics.record_recording("completed" if isinstance(outcome, Measured) else outcome)
        return Settlement(claim, Verb.DONE)

    def _is_repeat(self, facts: Facts) -> bool:
        """Whether this call was measured and charged before: another file must not contradict that."""
        call = facts.call
        with self._database.begin() as connection:
            return sessions.has_been_a_call(
                connection,
                account_id=facts.account_id,
                provider=call.provider,
                conversation_id=call.conversation_id,
            )

    def _outcome(self, claim: Claim, handed_in: HandedIn | None) -> Measured | str | None:
        """The duration, the code of a failure, or None for another try."""
        if handed_in is None:
            return _CONTENT_GONE
        if claim.is_poison:
            return _POISON
        is_last = wait_ms(claim.attempts + 1, jitter=0) is None
        try:
            return self._measure(handed_in.location)
        except Unmeasured as failure:
            logs.warning(
                "recording_unmeasured",
                event_id=claim.event_id,
                code=failure.code,
                reason=failure.detail_code,
                attempt=claim.attempts + 1,
            )
            return failure.code if failure.permanent or is_last else None
        except (Interrupted, BodiesFull):
            raise
        except Exception as error:
            # What was accepted ends all the same, and harms no other.
            logs.failure("recording_failed", error, event_id=claim.event_id)
            return _INTERNAL_ERROR if is_last else None

    def _commit(self, facts: Facts, handed_in: HandedIn | None, outcome: Measured | str) -> None:
        """Commit the event that ends a call, once. Raises NotFound, Unavailable."""
        ended = event.facts_of(facts, outcome, now_ms=time.time_ns() // 1_000_000)
        body = event.body_of(facts, None if handed_in is None else handed_in.assistant, outcome)
        for _ in range(_ROUTINGS):
            view = self._directory.account(facts.account_id)
            admission = self._admitting.admission(view, ended, body)._replace(quota_bytes=_NO_QUOTA)
            accepted = self._outbox.accept([admission])
            if accepted.verdicts[0] in (Verdict.NEW, Verdict.REPEAT):
                self._on_accepted(accepted)
                return
            if accepted.verdicts[0] is not Verdict.STALE:
                break
            self._directory.reload(facts.account_id)
        raise Unavailable("the event of a recording could not be stored")


def recordings_crew(
    settings: Settings,
    ring: KeyRing,
    client: redis.Redis,
    database: Database,
    directory: Directory,
    *,
    on_accepted: Callable[[Accepted], None],
) -> Crew:
    """The threads of this process that measure recordings."""
    egress = Egress(allow=settings.egress_allow, ca_file=settings.ca_file)
    measuring = Measuring(egress, most_bytes=settings.max_recording_bytes, deadline_seconds=DEADLINE_SECONDS)
    stopping = threading.Event()
    lane = RecordingLane(
        Outbox(client, lease_ms=LEASE_MS),
        directory,
        ring,
        Admitting(settings, ring),
        partial(measuring.measure, is_stopping=stopping.is_set),
        database=database,
        on_accepted=on_accepted,
    )

    def rung() -> None:
        lane.expect()
        unmute(client, RECORDINGS)

    return Crew(RECORDINGS, lane.step, before_look=rung, stopping=stopping, size=SLOTS, tick_seconds=LOOK_SECONDS)
