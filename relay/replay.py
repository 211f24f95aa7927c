"""Replaying deliveries that have ended: the same event with the same bytes, once more. The CLI and an API come here.

Content is needed for it. It is kept while a delivery of its event is open, and after one has died until its retention
ends; an event that was delivered everywhere has none. Then `relay.refetch` may get it again: whoever wants that passes
it in, for nothing here may reach content.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import msgspec

from relay.delivery.retry import retry_window
from relay.errors import NotFound
from relay.outbox import READMIT_MOST, Outbox, Readmission, Replay
from relay.outbox.outcomes import AttemptOutcome, encode_outcome
from relay.store import audit, deliveries
from relay.store.database import Database
from relay.store.deliveries import Candidate, Cursor, DeliveryStatus

_MILLISECOND: Final = timedelta(milliseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Answer(StrEnum):
    """What became of the wish to replay a delivery."""

    REPLAYED = "replayed"
    REFETCHED = "refetched"  # with content that was fetched from the provider again
    PENDING = "pending"  # it has not ended
    CONTENT_GONE = "content_gone"  # delivered everywhere, not retained, or its retention has ended
    CONTENT_LOST = "content_lost"  # can never be replayed with the same bytes
    CONTENT_ERASED = "content_erased"  # its customer had it shredded: it is not fetched again
    ENDPOINT_DISABLED = "endpoint_disabled"
    ENDPOINT_GONE = "endpoint_gone"  # it answered 410, or does not exist any more
    UNKNOWN = "unknown"  # the records are behind: it may have ended a moment ago
    OVER_QUOTA = "over_quota"  # the account holds too many undelivered bytes
    PROVIDER_FAILED = "provider_failed"  # it refused to give the content again
    PROVIDER_UNAVAILABLE = "provider_unavailable"  # it does not answer now
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
# What a provider may help with.
_GONE: Final = frozenset({Answer.CONTENT_GONE, Answer.CONTENT_LOST})
# On its way.
DONE: Final = frozenset({Answer.REPLAYED, Answer.REFETCHED})
# Each fetch may take seconds: so many deliveries are dealt with before anything is told.
_REFETCH_PART: Final = 10

Refetch = Callable[[Candidate], Answer | None]
"""Gets the content of a delivery again and puts the delivery back; None: its content was there after all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which deliveries. What is None does not narrow.

    `since` is the earliest acceptance; with `after`, the `cursor` of a delivery, only those behind it.
    """

    event_id: str | None = None
    endpoint_id: str | None = None
    account_id: str | None = None
    status: DeliveryStatus | None = None
    since: datetime | None = None
    after: Cursor | None = None


class Replayed(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One delivery and what became of the wish, as JSON shows it; `status` and `attempts` are those of before."""

    event_id: str
    endpoint_id: str
    account_id: str
    status: DeliveryStatus
    attempts: int
    accepted_at: datetime
    answer: Answer

    @property
    def cursor(self) -> Cursor:
        """For `Selection.after`."""
        return Cursor(self.accepted_at, self.event_id, self.endpoint_id)


def replay(
    database: Database,
    outbox: Outbox,
    selection: Selection,
    *,
    retention: timedelta,
    most: int | None = None,
    within: int | None = None,
    dry_run: bool = False,
    refetch: Refetch | None = None,
) -> Iterator[list[Replayed]]:
    """Replay what is selected, oldest first, until `most` are on their way, or all; yields a part whenever it is done.

    At most `within` are looked at. `retention` is the setting's default. A worker sends them within a second, at the
    pace of each endpoint. Safe to repeat after a crash: what is on its way is `pending`. With `dry_run` nothing changes
    and `replayed` means that it could be. `refetch` is asked where the content is gone. Raises NotFound if an event is
    named of which no such delivery is recorded, and Unavailable.
    """
    largest = READMIT_MOST if refetch is None else _REFETCH_PART
    found = False
    for page in _pages(database, selection):
        found = True
        left = [candidate for candidate in page if candidate.is_latest]
        while left and most != 0 and within != 0:
            size = min(bound for bound in (largest, most, within) if bound is not None)
            part, left = left[:size], left[size:]
            answers = _replay(outbox, part, retention=retention, dry_run=dry_run)
            if refetch is not None and not dry_run:
                answers = [
                    _refetched(outbox, candidate, answer, retention=retention, refetch=refetch)
                    for candidate, answer in zip(part, answers, strict=True)
                ]
            if most is not None:
                most -= sum(answer in DONE for answer in answers)
            if within is not None:
                within -= len(part)
            yield [_replayed(candidate, answer) for candidate, answer in zip(part, answers, strict=True)]
        if most == 0 or within == 0:
            return
    if selection.event_id is not None and not found:
        raise NotFound("no such delivery is recorded; look into the list of deliveries")


def audited(database: Database, parts: Iterable[list[Replayed]], *, actor: str) -> Iterator[list[Replayed]]:
    """The same parts, when what was set going is in the audit trail. Raises Unavailable."""
    for part in parts:
        going = [item for item in part if item.answer in DONE]
        if going:
            with database.begin() as connection:
                for item in going:
                    audit.record(
                        connection,
                        account_id=item.account_id,
                        actor=actor,
                        action="delivery.replayed",
                        object_id=f"{item.event_id}/{item.endpoint_id}",
                        after=shown(item),
                    )
        yield part


def shown(item: Replayed) -> dict[str, Any]:
    """What the API shows of a replay, as plain JSON. Pure."""
    return {
        "eventId": item.event_id,
        "endpointId": item.endpoint_id,
        "status": item.status,
        "attempts": item.attempts,
        "answer": item.answer.value,
    }


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
    after = selection.after
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


def _replay(outbox: Outbox, part: Sequence[Candidate], *, retention: timedelta, dry_run: bool = False) -> list[Answer]:
    refused = [refusal(candidate) for candidate in part]
    asked = [candidate for candidate, answer in zip(part, refused, strict=True) if answer is None]
    wishes = [wish(candidate, retention=retention) for candidate in asked]
    verdicts = iter(outbox.readmit(wishes, dry_run=dry_run) if wishes else ())
    return [_ANSWERS[next(verdicts)] if answer is None else answer for answer in refused]


def _refetched(
    outbox: Outbox, candidate: Candidate, answer: Answer, *, retention: timedelta, refetch: Refetch
) -> Answer:
    """The answer for a delivery whose content may be fetched again, if its endpoint would take it."""
    if answer not in _GONE or candidate.endpoint_state != "active" or candidate.retention_hours == 0:
        return answer
    if candidate.status == "pending":
        return Answer.UNKNOWN
    # For another endpoint of the same event it may have been fetched a moment ago.
    if candidate.status in _ENDED and (now := _replay(outbox, [candidate], retention=retention)[0]) not in _GONE:
        return now
    said = refetch(candidate) or _replay(outbox, [candidate], retention=retention)[0]
    return answer if said is Answer.CONTENT_GONE else said


def wish(candidate: Candidate, *, retention: timedelta) -> Replay:
    """What the outbox is to be asked for a delivery; `retention` is the setting's default. Pure."""
    own = retention_of(candidate, default=retention)
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


def retention_of(candidate: Candidate, *, default: timedelta) -> timedelta:
    """How long its endpoint lets content be kept. Pure."""
    return default if candidate.retention_hours is None else timedelta(hours=candidate.retention_hours)


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
