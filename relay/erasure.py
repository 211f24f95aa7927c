"""Shredding the content of a session now, on request: what is kept of it goes, what waits for it ends.

The charge stays, and so does what was recorded: neither holds anything that was said. Copies that were delivered are
their receivers'; a provider's own copy is the provider's, and is not fetched again from then on.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
import redis

from relay.errors import Unavailable
from relay.outbox import SHRED_MOST, Outbox, Shred
from relay.outbox.outcomes import AttemptOutcome, decode_facts, encode_outcome, is_recorded, newest
from relay.store import audit, erasure, events, sessions, shown
from relay.store.database import Database
from relay.store.events import EventOfSession
from relay.store.sessions import Session

CODE: Final = "erased"
# The records of what was accepted follow within a second; whoever waits for longer is told to come again.
PATIENCE_SECONDS: Final = 5.0
_STEP_SECONDS: Final = 0.02
_MILLISECOND: Final = timedelta(milliseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Erased(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What an erasure did, as JSON shows it.

    `shredded` counts the events whose content was deleted. Deliveries that waited have `ended`; those `in_flight`, of
    which an attempt was under way, end with it.
    """

    session_id: int
    shredded: int
    ended: int
    in_flight: int


def erase(
    database: Database,
    outbox: Outbox,
    client: redis.Redis,
    *,
    account_id: str,
    session_id: int,
    actor: str,
    patience_seconds: float = PATIENCE_SECONDS,
) -> Erased:
    """Shred the content of all that was accepted of a session before this call. Safe to repeat.

    Raises NotFound, also for a session of another account, and Unavailable: what a repeat finds done stays done.
    """
    _await_records(client, patience_seconds)
    with database.begin() as connection:
        before = sessions.get(connection, account_id=account_id, session_id=session_id)
        after = erasure.mark(connection, account_id=account_id, session_id=session_id)
        audit.record(
            connection,
            account_id=account_id,
            actor=actor,
            action="session.content_erased",
            object_id=session_id,
            before=shown.session(before),
            after=shown.session(after),
        )
    return _shred(database, outbox, after)


def _await_records(client: redis.Redis, patience_seconds: float) -> None:
    """Return when all that was accepted until now is known by its session."""
    last, deadline = newest(client), time.monotonic() + patience_seconds
    while last is not None and not is_recorded(client, last):
        if time.monotonic() > deadline:
            raise Unavailable("the records lag behind, so that not all of this session is known yet; try again shortly")
        time.sleep(_STEP_SECONDS)


def _shred(database: Database, outbox: Outbox, session: Session) -> Erased:
    shredded = ended = in_flight = refused = 0
    last = None
    while True:
        with database.begin() as connection:
            page = events.of_session(connection, session, after=last, limit=SHRED_MOST)
        for said in outbox.shred(_wishes(outbox, session.account_id, page)) if page else ():
            if said is None:
                refused += 1
                continue
            shredded += said.had_content
            ended += said.ended
            in_flight += said.in_flight
        if len(page) < SHRED_MOST:
            break
        last = page[-1].id
    if refused:
        raise Unavailable("Redis refused to shred some of this session; try again shortly")
    return Erased(
        session_id=session.id,
        shredded=shredded,
        ended=ended,
        in_flight=in_flight,
    )


def _wishes(outbox: Outbox, account_id: str, page: Sequence[EventOfSession]) -> list[Shred]:
    found = outbox.facts([event.id for event in page])
    return [
        Shred(event.id, _outcome(account_id, event.id, _accepted_ms(account_id, event, facts)))
        for event, facts in zip(page, found, strict=True)
    ]


def _accepted_ms(account_id: str, event: EventOfSession, facts: bytes) -> int:
    """When what is open of an event was accepted: an event that came again later has its first time in its record."""
    with suppress(msgspec.MsgspecError):
        return decode_facts(facts, event_id=event.id, account_id=account_id).accepted_at_ms
    return (event.accepted_at - _EPOCH) // _MILLISECOND


def _outcome(account_id: str, event_id: str, accepted_ms: int) -> bytes:
    return encode_outcome(
        AttemptOutcome(
            event_id=event_id,
            endpoint_id="",  # the outbox knows which
            account_id=account_id,
            accepted_ms=accepted_ms,
            number=0,
            status="dead",
            attempted=False,
            code=CODE,
            detail=CODE,
        )
    )
