"""Recordings that Redis has lost: their calls have a session in Postgres, and the outbox knows nothing of them.

A call that is handed in makes no delivery until it is measured, so that only its session tells that it was accepted.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Final

import redis

from relay.connections import answered
from relay.outbox import keys
from relay.outbox.outcomes import backlog
from relay.recordings import event, request
from relay.store import pending, sessions
from relay.store.database import Database
from relay.store.pending import Unmeasured
from relay.telemetry import logs
from workers import upkeep

CODE: Final = "recording_lost"
# A session is recorded within seconds of its call; what is open for longer must be in the outbox.
LOST_AFTER: Final = timedelta(minutes=10)
_PAGE: Final = 500


def find_what_was_lost(client: redis.Redis, database: Database) -> int:
    """Tell of every delivery and every recording that Redis has lost; how many. Raises Unavailable."""
    return upkeep.find_lost_deliveries(client, database) + find_lost_recordings(client, database)


def find_lost_recordings(client: redis.Redis, database: Database) -> int:
    """Fail the sessions of calls that wait for a measurement nobody will make, with an alarm per account; how many.

    The same call can be handed in again, and is measured and charged then. While outcomes wait to be recorded nothing
    is judged: theirs may be among them. Raises Unavailable.
    """
    _, oldest_ms = backlog(client)
    if timedelta(milliseconds=oldest_ms) > LOST_AFTER:
        return 0
    created_before = datetime.now(UTC) - LOST_AFTER
    found, after = Counter[str](), None
    while True:
        with database.begin() as connection:
            page = pending.unmeasured(
                connection, provider=request.PROVIDER, created_before=created_before, after=after, limit=_PAGE
            )
        lost = _unknown_to_the_outbox(client, page)
        if lost:
            with database.begin() as connection:
                # In the order of their keys, as billing locks them.
                for one in sorted(lost, key=lambda one: (one.account_id, one.session_id)):
                    sessions.fail(connection, account_id=one.account_id, session_id=one.session_id, code=CODE)
            found.update(one.account_id for one in lost)
        if len(page) < _PAGE:
            break
        after = page[-1]
    for account_id, count in found.items():
        logs.alarm("recording_lost", account_id=account_id, count=count)
    return found.total()


def _unknown_to_the_outbox(client: redis.Redis, page: list[Unmeasured]) -> list[Unmeasured]:
    """Those of which neither the call is known nor the event that it became."""
    if not page:
        return []
    pipeline = client.pipeline(transaction=False)
    for one in page:
        pipeline.exists(*(keys.event(event_id) for event_id in event.ids(one.account_id, one.call_id)))
    with answered():
        return [one for one, known in zip(page, pipeline.execute(), strict=True) if not known]
