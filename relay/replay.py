"""Replaying deliveries that have ended: the same event with the same bytes, once more. The CLI and an API come here.

Content is needed for it. It is kept while a delivery of its event is open, and after one has died until its retention
ends; an event that was delivered everywhere has none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

import msgspec

from relay.delivery.retry import retry_window
from relay.errors import NotFound
from relay.outbox import READMIT_MOST, Outbox, Readmission, Replay
from relay.outbox.outcomes import AttemptOutcome, encode_outcome
from relay.store import deliveries
from relay.store.database import Database
from relay.store.deliveries import Candidate, DeliveryStatus

_MILLISECOND: Final = timedelta(milliseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Answer(StrEnum):
    """What became of the wish to replay a delivery."""

    REPLAYED = "replayed"
    PENDING = "pending"  # it has not ended
    CONTENT_GONE = "content_gone"  # delivered everywhere, not retained, or its retention has ended
    CONTENT_LOST = "content_lost"  # can never be replayed
    ENDPOINT_DISABLED = "endpoint_disabled"
    ENDPOINT_GONE = "endpoint_gone"  # it answered 410, or does not exist any more
    UNKNOWN = "unknown"  # the records are behind: it may have ended a moment ago
    FAILED = "failed"  # Redis refused it


_ANSWERS: Final = {
    Readmission.READMITTED: Answer.REPLAYED,
    Readmission.PENDING: Answer.PENDING,
    Readmission.GONE: Answer.CONTENT_GONE,
    Readmission.CLOSED: Answer.ENDPOINT_GONE,
    Readmission.UNKNOWN: Answer.UNKNOWN,
    Readmission.ERROR: Answer.FAILED,
}
_ENDED: Final = frozenset({"delivered", "dead"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which deliveries. What is None does not narrow; `since` is the earliest acceptance."""

    event_id: str | None = None
    endpoint_id: str | None = None
    account_id: str | None = None
    status: DeliveryStatus | None = None
    since: datetime | None = None


class Replayed(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One delivery and what became of the wish, as JSON shows it; `status` and `attempts` are those of before."""

    event_id: str
    endpoint_id: str
    account_id: str
    status: DeliveryStatus
    attempts: int
    accepted_at: datetime
    answer: Answer


def replay(
    database: Database,
    outbox: Outbox,
    selection: Selection,
    *,
    retention: timedelta,
    most: int | None = None,
    dry_run: bool = False,
) -> Iterator[list[Replayed]]:
    """Replay what is selected, oldest first, until `most` are on their way, or all; yields a part whenever it is done.

    `retention` is the setting's default. A worker sends them within a second, at the pace of each endpoint. Safe to
    repeat after a crash: what is on its way is `pending`. With `dry_run` nothing changes and `replayed` means that it
    could be. Raises NotFound if an event is named of which no such delivery is recorded, and Unavailable.
    """
    found = False
    for page in _pages(database, selection):
        found = True
        left = [candidate for candidate in page if candidate.is_latest]
        while left and most != 0:
            size = READMIT_MOST if most is None else min(most, READMIT_MOST)
            part, left = left[:size], left[size:]
            answers = _replay(outbox, part, retention=retention, dry_run=dry_run)
            if most is not None:
                most -= answers.count(Answer.REPLAYED)
            yield [_replayed(candidate, answer) for candidate, answer in zip(part, answers, strict=True)]
        if most == 0:
            return
    if selection.event_id is not None and not found:
        raise NotFound("no such delivery is recorded; 'switchhook deliveries' lists them")


def refusal(candidate: Candidate) -> Answer | None:
    """Why a delivery cannot be replayed whatever the outbox holds, if so. Pure."""
    if candidate.status == "content_lost":
        return Answer.CONTENT_LOST
    if candidate.endpoint_state == "disabled":
        return Answer.ENDPOINT_DISABLED
    if candidate.endpoint_state != "active":
        return Answer.ENDPOINT_GONE
    if candidate.retention_hours == 0:
        return Answer.CONTENT_GONE  # one attempt is all that such an endpoint gets
    return None


def _pages(database: Database, selection: Selection) -> Iterator[list[Candidate]]:
    after = None
    while True:
        with database.begin() as connection:
            page = deliveries.candidates(
                connection,
                account_id=selection.account_id,
                endpoint_id=selection.endpoint_id,
                event_id=selection.event_id,
                status=selection.status,
                since=selection.since,
                after=after,
                limit=READMIT_MOST,
            )
        if page:
            yield page
        if len(page) < READMIT_MOST:
            return
        after = page[-1].cursor


def _replay(outbox: Outbox, part: Sequence[Candidate], *, retention: timedelta, dry_run: bool) -> list[Answer]:
    refused = [refusal(candidate) for candidate in part]
    asked = [candidate for candidate, answer in zip(part, refused, strict=True) if answer is None]
    wishes = [_wish(candidate, retention=retention) for candidate in asked]
    verdicts = iter(outbox.readmit(wishes, dry_run=dry_run) if wishes else ())
    return [_ANSWERS[next(verdicts)] if answer is None else answer for answer in refused]


def _wish(candidate: Candidate, *, retention: timedelta) -> Replay:
    own = retention if candidate.retention_hours is None else timedelta(hours=candidate.retention_hours)
    outcome = AttemptOutcome(
        event_id=candidate.event_id,
        endpoint_id=candidate.endpoint_id,
        account_id=candidate.account_id,
        accepted_ms=(candidate.accepted_at - _EPOCH) // _MILLISECOND,
        number=candidate.attempts,
        status="pending",
        attempted=False,
        retry_in_ms=0,
    )
    return Replay(
        endpoint_id=candidate.endpoint_id,
        event_id=candidate.event_id,
        attempts=candidate.attempts if candidate.status in _ENDED else None,
        window_ms=retry_window(own) // _MILLISECOND,
        outcome=encode_outcome(outcome),
    )


def _replayed(candidate: Candidate, answer: Answer) -> Replayed:
    return Replayed(
        event_id=candidate.event_id,
        endpoint_id=candidate.endpoint_id,
        account_id=candidate.account_id,
        status=candidate.status,
        attempts=candidate.attempts,
        accepted_at=candidate.accepted_at,
        answer=answer,
    )
