"""Upkeep: what must happen now and then. Every function is safe to run twice and in several processes at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import redis

from relay.directory import Mirror
from relay.outbox import Outbox, keys
from relay.store import endpoints, partitions
from relay.store.database import Database
from relay.telemetry import logs

# Records of deliveries and attempts are kept this long; the ledger and sessions are kept for good.
RECORDS_KEPT: Final = timedelta(days=30)
_SWEEP_MOST: Final = 500
_REWRITE_EVERY: Final = timedelta(hours=24)
_REWRITTEN: Final = keys.PREFIX + "rewritten"


def end_events(outbox: Outbox) -> int:
    """Give events whose end has come their last attempt, and shred retained content. Returns how many were seen."""
    seen = 0
    while True:
        batch = outbox.sweep(most=_SWEEP_MOST)
        seen += batch
        if batch < _SWEEP_MOST:
            return seen


def make_partitions(database: Database) -> list[str]:
    """Make the partitions of the coming days."""
    with database.begin() as connection:
        made = partitions.ensure(connection, datetime.now(UTC).date())
    if made:
        logs.info("partitions_made", count=len(made))
    return made


def drop_old_records(database: Database) -> list[str]:
    """Forget the records of deliveries that are older than their retention."""
    with database.begin() as connection:
        dropped = partitions.drop_before(connection, (datetime.now(UTC) - RECORDS_KEPT).date())
    if dropped:
        logs.info("partitions_dropped", count=len(dropped))
    return dropped


def rewrite_append_only_file(client: redis.Redis) -> None:
    """Have Redis rewrite its append-only file once a day: until then a deleted value, sealed, is still on disk.

    Whether it is time is remembered in Redis, so that a restarted beat does not begin its day anew. Managed servers
    that do not allow the command rewrite by themselves.
    """
    try:
        if client.set(_REWRITTEN, 1, nx=True, ex=_REWRITE_EVERY):
            client.bgrewriteaof()
    except redis.RedisError as error:
        logs.warning("append_only_file_not_rewritten", error=error)


def mirror_configuration(mirror: Mirror, database: Database) -> int:
    """Mirror what a crash between commit and mirror left behind. Returns how many accounts were behind."""
    behind = mirror.publish_all(database)
    with database.begin() as connection:
        mirror.note_disabled_endpoints(endpoints.count_disabled(connection))
    if behind:
        logs.info("configuration_mirrored", count=behind)
    return behind
