"""The courier: one thread per worker process that owns claim, send and settle.

It claims as many units as it has free slots, sends them over one libcurl multi handle, and settles what has ended
every few milliseconds. Redis is spoken to from a second thread, one round trip at a time (settle, then claim), so that
sockets never wait for an fsync.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from relay.delivery.dispatch import Dispatcher, Posting, settled
from relay.delivery.load import Load
from relay.delivery.quarantine import Quarantine
from relay.delivery.transport import Finished, Transport
from relay.directory import Directory
from relay.errors import Unavailable
from relay.outbox import Claim, Claims, Outbox, Room, Settlement, Verb
from relay.queues import RELAY
from relay.telemetry import logs, metrics

# Settling waits this long or for this many ended attempts, whichever comes first: it shares round trips.
_SETTLE_SECONDS: Final = 0.005
_SETTLE_MANY: Final = 64
# Without a bell, the outbox is looked into this often: a lost bell, a due retry or a dead beat costs a second.
_TICK_SECONDS: Final = 1.0
# After the last unit came, look again so often for so long before waiting for the bell: under load no bell is needed.
_LINGER_SECONDS: Final = 0.05
_LINGER_STEP_SECONDS: Final = 0.002
# A request is not begun when its lease could run out before it is settled.
_LEASE_RESERVE_SECONDS: Final = 5.0
# After Redis failed, ask again after this long; what has ended meanwhile is kept and settled then.
_REDIS_PAUSE_SECONDS: Final = 0.5
DRAIN_SECONDS: Final = 25.0


@dataclass(slots=True)
class _RoundTrip:
    """One round trip to Redis under way: what it settles, and since when."""

    future: Future[Claims | None]
    settlements: list[Settlement]
    began: float


class Courier:
    """Delivers the relay lane until stopped. `wake` and `stop` may be called from any thread, `run` from one."""

    def __init__(
        self,
        outbox: Outbox,
        directory: Directory,
        dispatcher: Dispatcher,
        transport: Transport,
        *,
        lease_seconds: float,
        on_settled: Callable[[], None] = lambda: None,
        on_more: Callable[[], None] = lambda: None,
        on_idle: Callable[[], None] = lambda: None,
        load: Load | None = None,
    ) -> None:
        self._outbox = outbox
        self._directory = directory
        self._dispatcher = dispatcher
        self._transport = transport
        self._lease_seconds = lease_seconds
        self._on_settled = on_settled
        self._on_more = on_more
        self._on_idle = on_idle
        self._load = load or Load()
        self._redis = ThreadPoolExecutor(max_workers=1, thread_name_prefix="courier-redis")
        self._round_trip: _RoundTrip | None = None
        self._ended: list[Settlement] = []
        self._ended_since = 0.0
        self._next_look = 0.0
        self._linger_until = 0.0
        self._next_bell = 0.0
        self._quiet = False
        self._quarantine = Quarantine()
        self._redis_ahead_ms = 0
        self._rung = threading.Event()
        self._stopping_since: float | None = None

    def wake(self) -> None:
        """Look into the outbox now: a bell was rung."""
        self._rung.set()
        self._transport.wake()

    def stop(self) -> None:
        """Claim nothing more; `run` returns when what is in flight was settled, or after 25 s. Safe to repeat."""
        if self._stopping_since is None:
            self._stopping_since = time.monotonic()
        self._transport.wake()

    def run(self) -> None:
        """Deliver until stopped."""
        while not self._is_finished():
            for finished in self._transport.step(self._wait_seconds()):
                self._take_in(finished)
            claims = self._concluded_claims()
            if self._round_trip is None:
                # Before what was claimed is sent: Redis and the sockets work at the same time.
                self._begin_round_trip()
            if claims is not None:
                self._send(*claims)
        self._redis.shutdown()
        self._transport.close()

    def _is_finished(self) -> bool:
        if self._stopping_since is None or self._round_trip is not None:
            return False
        if time.monotonic() - self._stopping_since > DRAIN_SECONDS:
            # Nothing has a deadline this long; what remains goes back for another worker.
            for posting in self._transport.abort():
                self._load.ended(posting.claim)
                self._ended.append(Settlement(posting.claim, Verb.RELEASE))
        if self._transport.in_flight:
            return False
        if not self._ended:
            return True
        # Redis has been away since the stop: the leases run out, the next worker sends these again.
        return time.monotonic() - self._stopping_since > DRAIN_SECONDS + 2

    def _wait_seconds(self) -> float:
        now = time.monotonic()
        if self._round_trip is not None:
            return _TICK_SECONDS  # its end wakes the transport
        until = self._next_look
        if self._ended:
            until = min(until, max(self._ended_since + _SETTLE_SECONDS, self._redis_back_at()))
        if self._rung.is_set() and self._can_claim():
            return 0.0
        return min(max(0.0, until - now), _TICK_SECONDS)

    def _redis_back_at(self) -> float:
        return self._next_look if self._quiet else 0.0

    def _can_claim(self) -> bool:
        if self._stopping_since is not None or self._quiet:
            return False
        return not self._load.is_full and not self._quarantine.holds(time.monotonic(), self._load.units)

    def _take_in(self, finished: Finished) -> None:
        posting: Posting = finished.ticket
        self._load.ended(posting.claim)
        settlement = settled(
            posting,
            finished,
            redis_now_ms=self._redis_now_ms(),
            jitter=random.uniform(-1, 1),  # noqa: S311
        )
        self._record(posting, finished, settlement)
        self._settle_later(settlement)

    def _record(self, posting: Posting, finished: Finished, settlement: Settlement) -> None:
        outcome = "delivered" if settlement.verb is Verb.DONE else finished.result.tenant_code
        metrics.record_attempt(outcome, finished.duration_ms / 1000)
        if settlement.verb is Verb.DONE and not posting.claim.is_replay:
            metrics.record_lag((self._redis_now_ms() - posting.claim.accepted_ms) / 1000)

    def _settle_later(self, settlement: Settlement) -> None:
        if not self._ended:
            self._ended_since = time.monotonic()
        self._ended.append(settlement)

    def _begin_round_trip(self) -> None:
        now = time.monotonic()
        if self._quiet and now < self._next_look:
            return
        self._quiet = False
        settle = bool(self._ended) and (
            len(self._ended) >= _SETTLE_MANY or now - self._ended_since >= _SETTLE_SECONDS or not self._load.units
        )
        look = self._can_claim() and (settle or self._rung.is_set() or now >= self._next_look)
        if not settle and not look:
            if now >= self._next_look:
                self._next_look = now + _TICK_SECONDS
            return
        is_idle = not self._ended and not self._rung.is_set() and not self._linger_until
        self._rung.clear()
        settlements, self._ended = self._ended, []
        room = self._load.room() if look else None
        if is_idle:
            self._next_look = now + _TICK_SECONDS
        future = self._redis.submit(self._exchange, settlements, room, self._quarantine.is_due(now), is_idle)
        self._round_trip = _RoundTrip(future, settlements, now)
        future.add_done_callback(lambda _: self._transport.wake())

    def _exchange(self, settlements: list[Settlement], room: Room | None, alone: bool, is_idle: bool) -> Claims | None:
        if room is None:
            self._outbox.settle(RELAY, settlements)
            return None
        if is_idle and not self._outbox.is_due(RELAY):
            return None
        if not settlements:
            return self._outbox.claim(RELAY, room, alone=alone, content=True)
        return self._outbox.settle_and_claim(RELAY, settlements, room, alone=alone)[1]

    def _concluded_claims(self) -> tuple[Claims, float] | None:
        """What a round trip that has ended claimed, and when it began; None if none has ended or asked for units."""
        trip = self._round_trip
        if trip is None or not trip.future.done():
            return None
        self._round_trip = None
        now = time.monotonic()
        try:
            claims = trip.future.result()
        except Unavailable:
            # Settling is safe to repeat: what was settled is found settled.
            self._ended = trip.settlements + self._ended
            self._quiet, self._next_look = True, now + _REDIS_PAUSE_SECONDS
            return None
        if trip.settlements:
            self._on_settled()
        if claims is None:
            return None
        for claim in claims.units:
            self._load.claimed(claim)
        self._redis_ahead_ms = claims.now_ms - int(time.monotonic() * 1000)
        self._directory.saw(claims.config_version)
        self._quarantine.saw(claims, now)
        self._plan_next_look(claims, now)
        return claims, trip.began

    def _plan_next_look(self, claims: Claims, now: float) -> None:
        if claims.units:
            self._linger_until = now + _LINGER_SECONDS
        if claims.more and self._can_claim():
            self._next_look = now
        elif claims.more:
            self._next_look = now + _TICK_SECONDS
            if now >= self._next_bell:  # one is enough for all workers to look
                self._next_bell = self._next_look
                self._on_more()
        elif now < self._linger_until:
            self._next_look = now + _LINGER_STEP_SECONDS
        else:
            # From now on the bell is needed again; one more look closes the gap before it could be rung.
            was_lingering, self._linger_until = self._linger_until > 0, 0.0
            if was_lingering:
                self._redis.submit(self._on_idle)
            self._next_look = now if was_lingering else now + _TICK_SECONDS

    def _send(self, claims: Claims, began: float) -> None:
        now_ms = int(time.time() * 1000)
        for claim in claims.units:
            job = self._dispatcher.dispatch(claim, redis_now_ms=claims.now_ms, now_ms=now_ms)
            if isinstance(job, Settlement):
                _log_unsent(claim, job)
                self._give_back(claim, job)
            elif (
                time.monotonic() > began + self._lease_seconds - job.request.deadline_ms / 1000 - _LEASE_RESERVE_SECONDS
            ):
                self._give_back(claim, Settlement(claim, Verb.RELEASE))  # this process stood still since it claimed
            else:
                self._transport.start(job.request, job.posting)

    def _give_back(self, claim: Claim, settlement: Settlement) -> None:
        self._load.ended(claim)
        self._settle_later(settlement)

    def _redis_now_ms(self) -> int:
        # By the monotonic clock: a host's wall clock may be set while a request is under way.
        return int(time.monotonic() * 1000) + self._redis_ahead_ms


def _log_unsent(claim: Claim, settlement: Settlement) -> None:
    """What ends without a request is worth a line; what was lost, or kills its process, an alarm."""
    if settlement.verb is Verb.LOST:
        logs.alarm("content_lost", event_id=claim.event_id, endpoint_id=claim.key)
    elif settlement.verb is Verb.DEAD and claim.is_poison:
        logs.alarm("delivery_poison", event_id=claim.event_id, endpoint_id=claim.key)
    elif settlement.verb is Verb.DEAD:
        logs.warning("delivery_ended_unsent", event_id=claim.event_id, endpoint_id=claim.key)
