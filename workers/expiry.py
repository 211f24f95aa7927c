"""What has had its time: API keys that expired, signing secrets whose overlap is over. Once a minute, and at any time.

The API looks at the clock itself. The ingress and the courier know a configuration only as it was mirrored.
"""

from __future__ import annotations

from relay.directory import Mirror
from relay.errors import NotFound
from relay.sealing import KeyRing
from relay.store import accounts, audit, endpoints, shown
from relay.store.database import Database
from relay.telemetry import logs


def end_what_is_over(mirror: Mirror, database: Database, ring: KeyRing) -> int:
    """Revoke expired keys and end overlaps, audited, and mirror the accounts. Returns how many ended.

    Safe to run twice and in several processes at once. Raises Unavailable.
    """
    with database.begin() as connection:
        expired = accounts.with_expired_keys(connection)
        overlaps = endpoints.ended_overlaps(connection)
    ended = sum(_revoke(database, account_id) for account_id in expired)
    ended += sum(_end_overlap(database, ring, *overlap) for overlap in overlaps)
    for account_id in sorted({*expired, *(account_id for account_id, _ in overlaps)}):
        mirror.publish(database, account_id)
    if ended:
        logs.info("expired", count=ended)
    return ended


def _revoke(database: Database, account_id: str) -> int:
    with database.begin() as connection:
        revoked = accounts.expire_keys(connection, account_id=account_id)
        for key in revoked:
            audit.record(
                connection,
                account_id=account_id,
                actor=audit.UPKEEP,
                action="key.expired",
                object_id=key.id,
                after=shown.unused_key(key),
            )
    return len(revoked)


def _end_overlap(database: Database, ring: KeyRing, account_id: str, endpoint_id: str) -> bool:
    try:
        with database.begin() as connection:
            before, after = endpoints.end_overlap(connection, ring, account_id=account_id, endpoint_id=endpoint_id)
            audit.record(
                connection,
                account_id=account_id,
                actor=audit.UPKEEP,
                action="endpoint.overlap_ended",
                object_id=endpoint_id,
                before=shown.endpoint(before),
                after=shown.endpoint(after),
            )
    except NotFound:
        return False  # another process was first, or the endpoint was deleted or rotated again meanwhile
    return True
