"""Makes the ledger again after Postgres was restored from a backup: charges once more what Redis has kept.

Every event that was charged lately is in a stream (relay.outbox.charged) with the terms that its session had. Charging
it again is safe: what is there stays, what is missing is written as it was before, corrections too. Sessions that were
made since the backup come back under their own ids, and Postgres is kept from handing those out again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Final, NamedTuple

import redis

from billing.ledger import Rated
from relay.calls import DERIVED_SESSION_BASE
from relay.directory import Mirror
from relay.directory.used import UsedIds, used_ids
from relay.errors import Unavailable
from relay.outbox import charged
from relay.outbox.charged import ChargedEvent
from relay.store import accounts, restored
from relay.store.database import Database
from relay.store.terms import Terms
from relay.telemetry import logs
from workers.charge import commit

# The moment of a backup is told by a clock that is not Redis'; what is charged twice does no harm.
OVERLAP: Final = timedelta(minutes=10)
_BATCH: Final = 256
# Of differences: enough to see what they have in common.
_SHOWN_MOST: Final = 100


class Answer(StrEnum):
    """What came of charging one event again.

    `no_account`: of an account that was made since the backup. `refused`: Postgres does not take it. `unreadable`: an
    entry of the stream that this version cannot read, however many events it has.
    """

    CHARGED = "charged"
    CORRECTED = "corrected"
    UNRATED = "unrated"
    FREE = "free"
    KNOWN = "known"
    NO_ACCOUNT = "no_account"
    REFUSED = "refused"
    UNREADABLE = "unreadable"


class Difference(NamedTuple):
    """A call that costs now what it did not cost before: a rate card is missing, or is another one."""

    account_id: str
    session_id: int
    event_id: str
    was: Decimal
    now: Decimal | None


@dataclass(slots=True)
class Recharged:
    """What was done so far. `differences` are the first of `different`; `through_ms` is how far the stream was read."""

    counts: Counter[Answer] = field(default_factory=Counter)
    missing_accounts: set[str] = field(default_factory=set)
    different: int = 0
    differences: list[Difference] = field(default_factory=list)
    through_ms: int = 0


class Prepared(NamedTuple):
    """Accounts whose configuration was mirrored again, and the largest ids that are known to be in use."""

    configurations: int
    used: UsedIds


def prepare(client: redis.Redis, database: Database, mirror: Mirror, *, since: datetime) -> Prepared:
    """Have Postgres hand out no id again that was used, and the mirror take what Postgres has. Safe to repeat.

    What waited to be exported at the backup may have been sent since. Raises Unavailable and what Database raises.
    """
    used = used_ids(client)
    for batch in charged.read(client, since_ms=_since_ms(since)):
        for event in batch.events or ():
            session_id = event.session_id if event.session_id < DERIVED_SESSION_BASE else 0
            used = used.or_larger(session_id, event.template_id or 0)
    with database.begin() as connection:
        restored.use_up_to(connection, session_id=used.session_id, template_id=used.template_id)
        restored.waited(connection, backup=since)
    return Prepared(mirror.overtake(database), used)


def recharge(
    client: redis.Redis, database: Database, *, since: datetime, account_id: str | None = None, dry_run: bool = False
) -> Iterator[Recharged]:
    """Charge again what was charged since a moment, in the order in which it was; the sum so far after each batch.

    With `dry_run` nothing is written; a call's second event does not know then of its first, so that these are the most
    that there would be. Raises Unavailable and what Database raises; doing it again goes on.
    """
    done = Recharged()
    with database.begin() as connection:
        known = frozenset(accounts.versions(connection))
    waiting: list[ChargedEvent] = []
    for batch in charged.read(client, since_ms=_since_ms(since)):
        done.through_ms = batch.at_ms
        if batch.events is None:
            done.counts[Answer.UNREADABLE] += 1
            continue
        for event in batch.events:
            if account_id not in (None, event.account_id):
                continue
            if event.account_id not in known:
                done.counts[Answer.NO_ACCOUNT] += 1
                done.missing_accounts.add(event.account_id)
                continue
            waiting.append(event)
        while len(waiting) >= _BATCH:
            _charge(database, waiting[:_BATCH], done, dry_run=dry_run)
            del waiting[:_BATCH]
            yield done
    _charge(database, waiting, done, dry_run=dry_run)
    yield done


def _charge(database: Database, events: Sequence[ChargedEvent], done: Recharged, *, dry_run: bool) -> None:
    """Charge these, or halves of them until the one that fails is alone."""
    if not events:
        return
    try:
        rated = commit(
            database,
            [event.decoded() for event in events],
            remembered={event.event_id: _terms(event) for event in events},
            rehearse=dry_run,
        )
    except Unavailable:
        raise
    except Exception as error:
        if len(events) > 1:
            middle = len(events) // 2
            _charge(database, events[:middle], done, dry_run=dry_run)
            _charge(database, events[middle:], done, dry_run=dry_run)
            return
        logs.failure("charge_refused", error, event_id=events[0].event_id)
        done.counts[Answer.REFUSED] += 1
        return
    as_kept = {event.event_id: event for event in events}
    for one in rated:
        event = as_kept[one.facts.event_id]
        done.counts[answer(one)] += 1
        if differs(event, one):
            done.different += 1
            if len(done.differences) < _SHOWN_MOST:
                done.differences.append(_difference(event, one))


def answer(rated: Rated) -> Answer:
    """What came of one event. Pure."""
    assessment = rated.assessment
    if any(entry.kind == "reversal" for entry in assessment.entries):
        return Answer.CORRECTED
    if assessment.entries:
        return Answer.CHARGED
    if not assessment.is_news:
        return Answer.KNOWN
    if assessment.reason is not None:
        return Answer.UNRATED
    return Answer.FREE if assessment.charge is None else Answer.KNOWN


def differs(event: ChargedEvent, rated: Rated) -> bool:
    """Whether an event that is news, as it was then, makes its call cost something else. Pure."""
    assessment = rated.assessment
    if event.amount is None or not assessment.is_news:
        return False
    return assessment.charge is None or assessment.charge.amount != event.amount


def _difference(event: ChargedEvent, rated: Rated) -> Difference:
    charge = rated.assessment.charge
    was = event.amount or Decimal(0)
    now = None if charge is None else charge.amount
    return Difference(event.account_id, event.session_id, event.event_id, was, now)


def _terms(event: ChargedEvent) -> Terms:
    return Terms(event.template_id, event.pinned_card_id, event.tag, event.own_key)


def _since_ms(since: datetime) -> int:
    return max(0, int((since - OVERLAP).timestamp() * 1000))
