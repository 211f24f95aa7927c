"""Charges a call by its provider's record, as the billing lane charges by an event."""

from __future__ import annotations

from typing import Final

from billing.assessment import Assessment
from billing.ledger import Rated, charge
from relay.calls import Facts
from relay.errors import Conflict, Unavailable
from relay.store import reconciling
from relay.store.database import Database
from relay.telemetry import logs, metrics

# The lane may be writing the same new session at this moment; the second try finds its row.
_TRIES: Final = 5


def charged(database: Database, facts: Facts, *, is_found: bool) -> Assessment | None:
    """What the record made of the session's bill; None where Postgres refuses it. Raises Unavailable.

    `is_found`: nobody had told of the call. The session remembers that its provider was asked, and so that what it
    said is still to be relayed.
    """
    try:
        rated = _written(database, facts, is_found=is_found)
    except Unavailable:
        raise
    except Exception as error:
        logs.failure("charge_refused", error, event_id=facts.event_id, account_id=facts.account_id)
        return None
    for entry in rated.assessment.entries:
        if entry.kind == "charge" and entry.part == 0:
            metrics.record_charge(facts.call.provider, entry.currency, float(entry.billed_seconds))
    if rated.assessment.is_news and rated.assessment.reason is not None:
        metrics.record_unrated(rated.assessment.reason)
        logs.alarm("session_unrated", reason=rated.assessment.reason, event_id=facts.event_id)
    return rated.assessment


def _written(database: Database, facts: Facts, *, is_found: bool) -> Rated:
    for _ in range(_TRIES - 1):
        try:
            return _committed(database, facts, is_found=is_found)
        except Conflict:
            continue
    return _committed(database, facts, is_found=is_found)


def _committed(database: Database, facts: Facts, *, is_found: bool) -> Rated:
    call = facts.call
    with database.begin() as connection:
        rated = charge(connection, [facts])[0]
        if is_found:
            reconciling.asked(
                connection,
                account_id=facts.account_id,
                provider=call.provider,
                conversation_id=call.conversation_id,
            )
    return rated
