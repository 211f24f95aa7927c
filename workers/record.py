"""The record lane: what was accepted and what became of each attempt, from the outcomes stream into Postgres."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from relay.calls import SWITCHHOOK
from relay.errors import Unavailable
from relay.outbox.outcomes import AcceptedOutcome, AttemptOutcome, OutcomeReader, StreamEntry, UnreadableEntry
from relay.store import records
from relay.store.database import Database
from relay.store.deliveries import sortable
from relay.store.records import AttemptRecord, BeginningRecord, DeliveryRecord, EventRecord, SessionRecord
from relay.telemetry import logs, metrics

_BATCH: Final = 500
# Entries that another worker left behind are looked for this often, however busy the lane is.
_ABANDONED_SECONDS: Final = 10.0


class RecordLane:
    """Records outcomes. An entry leaves the stream only when it is in Postgres, or was set aside with an alarm.

    `on_gone` is called with the account and the endpoint that answered 410.
    """

    def __init__(
        self, reader: OutcomeReader, database: Database, *, on_gone: Callable[[str, str], None], batch: int = _BATCH
    ) -> None:
        self._reader = reader
        self._database = database
        self._on_gone = on_gone
        self._batch = batch
        # Read and not yet recorded, for Postgres was away: the stream takes them for delivered, and gives only others.
        self._unrecorded: list[StreamEntry | UnreadableEntry] = []
        self._next_abandoned = 0.0

    def step(self) -> bool:
        """Record one batch; True if there may be more. Raises Unavailable when Redis or Postgres is away."""
        abandoned = not self._unrecorded and time.monotonic() >= self._next_abandoned
        entries = self._unrecorded or self._reader.read(most=self._batch, abandoned=abandoned)
        if abandoned and len(entries) < self._batch:
            self._next_abandoned = time.monotonic() + _ABANDONED_SECONDS
        if not entries:
            return abandoned
        self._unrecorded = entries
        readable = [entry for entry in entries if isinstance(entry, StreamEntry)]
        recorded = self._write(readable)
        for account_id, endpoint_id in gone_endpoints(readable):
            self._on_gone(account_id, endpoint_id)
        self._reader.done([entry.stream_id for entry in entries])
        self._unrecorded = []
        # Only now: while Postgres or Redis is away these entries come here again and again.
        for entry in entries:
            if isinstance(entry, UnreadableEntry):
                logs.alarm("outcome_unreadable", stream_id=entry.stream_id)
        metrics.record_recorded("recorded", recorded)
        metrics.record_recorded("refused", len(entries) - recorded)
        return abandoned or len(entries) == self._batch

    def _write(self, entries: Sequence[StreamEntry]) -> int:
        """Write these, or halves of them until the one that Postgres refuses is alone; it is set aside.

        Returns how many were written.
        """
        if not entries:
            return 0
        folded = fold(entries)
        try:
            with self._database.begin() as connection:
                records.write(
                    connection,
                    events=folded.events,
                    deliveries=list(folded.deliveries.values()),
                    attempts=list(folded.attempts.values()),
                    sessions=list(folded.sessions.values()),
                    beginnings=folded.beginnings,
                )
        except Unavailable:
            raise
        except Exception as error:
            if len(entries) > 1:
                middle = len(entries) // 2
                return self._write(entries[:middle]) + self._write(entries[middle:])
            logs.failure("outcome_refused", error, stream_id=entries[0].stream_id)
            return 0
        return len(entries)


@dataclass(slots=True)
class Folded:
    """Rows to write, each key once: two rows of one key in a statement are refused by Postgres (SQLSTATE 21000).

    `beginnings` are not inserted, and may repeat.
    """

    events: list[EventRecord] = field(default_factory=list)
    deliveries: dict[tuple[str, str], DeliveryRecord] = field(default_factory=dict)
    attempts: dict[tuple[str, str, int], AttemptRecord] = field(default_factory=dict)
    sessions: dict[tuple[str, str, str], SessionRecord] = field(default_factory=dict)
    beginnings: list[BeginningRecord] = field(default_factory=list)


def fold(entries: Iterable[StreamEntry]) -> Folded:
    """Turn entries, in the stream's order, into rows. Pure."""
    folded = Folded()
    for entry in entries:
        if isinstance(entry.outcome, AcceptedOutcome):
            _fold_accepted(folded, entry, entry.outcome)
        else:
            _fold_attempt(folded, entry, entry.outcome)
    return folded


def gone_endpoints(entries: Iterable[StreamEntry]) -> set[tuple[str, str]]:
    """Account and endpoint of every 410 among these."""
    return {
        (outcome.account_id, outcome.endpoint_id)
        for entry in entries
        if isinstance(outcome := entry.outcome, AttemptOutcome) and outcome.http_status == 410
    }


def _fold_accepted(folded: Folded, entry: StreamEntry, accepted: AcceptedOutcome) -> None:
    facts, call = accepted.facts, accepted.facts.call
    at = _moment(facts.accepted_at_ms)
    folded.events.append(
        EventRecord(
            id=facts.event_id,
            day=at.date(),
            account_id=facts.account_id,
            provider=call.provider,
            kind=call.kind,
            event_class=call.event_class,
            conversation_id=call.conversation_id,
            session_id=facts.session_id,
            source_id=facts.source_id,
            template_id=facts.template_id,
            livemode=call.livemode,
            size_bytes=accepted.size_bytes,
            accepted_at=at,
        )
    )
    for endpoint_id in accepted.endpoint_ids:
        folded.deliveries.setdefault(
            (facts.event_id, endpoint_id),
            DeliveryRecord(
                event_id=facts.event_id,
                endpoint_id=endpoint_id,
                day=at.date(),
                account_id=facts.account_id,
                status="pending",
                code=None,
                attempts=0,
                next_attempt_at=at,
                last_stream_id=sortable(entry.stream_id),
                accepted_at=at,
                settled_at=None,
            ),
        )
    if call.provider != SWITCHHOOK and (call.ending is None or not call.livemode):
        folded.sessions.setdefault(
            (facts.account_id, call.provider, call.conversation_id),
            SessionRecord(
                account_id=facts.account_id,
                id=facts.session_id,
                provider=call.provider,
                conversation_id=call.conversation_id,
                template_id=facts.template_id,
                agent_id=call.agent_id,
                status="active" if call.ending is None else call.ending.status,
                livemode=call.livemode,
                created_at=at,
            ),
        )
    if call.begins:
        folded.beginnings.append(
            BeginningRecord(
                account_id=facts.account_id,
                id=facts.session_id,
                provider=call.provider,
                conversation_id=call.conversation_id,
                livemode=call.livemode,
                at=at if call.occurred_at_ms is None else _moment(call.occurred_at_ms),
            )
        )


def _fold_attempt(folded: Folded, entry: StreamEntry, outcome: AttemptOutcome) -> None:
    accepted, at = _moment(outcome.accepted_ms), _moment(entry.at_ms)
    key = (outcome.event_id, outcome.endpoint_id)
    retry_in = None if outcome.retry_in_ms is None else timedelta(milliseconds=outcome.retry_in_ms)
    folded.deliveries[key] = DeliveryRecord(
        event_id=outcome.event_id,
        endpoint_id=outcome.endpoint_id,
        day=accepted.date(),
        account_id=outcome.account_id,
        status=outcome.status,
        code=outcome.code,
        attempts=outcome.number,
        next_attempt_at=None if retry_in is None else at + retry_in,
        last_stream_id=sortable(entry.stream_id),
        accepted_at=accepted,
        settled_at=None if outcome.status == "pending" else at,
    )
    if outcome.attempted:
        folded.attempts[*key, outcome.number] = AttemptRecord(
            event_id=outcome.event_id,
            endpoint_id=outcome.endpoint_id,
            number=outcome.number,
            day=accepted.date(),
            at=at,
            http_status=outcome.http_status,
            code=outcome.code,
            detail=outcome.detail,
            duration_ms=outcome.duration_ms,
            response_bytes=outcome.response_bytes,
        )


def _moment(moment_ms: int) -> datetime:
    return datetime.fromtimestamp(moment_ms / 1000, UTC)
