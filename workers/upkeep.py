"""Upkeep: what must happen now and then. Every function is safe to run twice and in several processes at once."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

import redis

from relay.agents.rounds import WebhookRounds
from relay.agents.sync import Sync
from relay.connections import answered
from relay.directory import Mirror
from relay.outbox import Outbox, charged, keys
from relay.outbox.outcomes import backlog
from relay.store import endpoints, partitions, pending, sessions, voice_agents
from relay.store.database import Database
from relay.store.pending import Pending
from relay.telemetry import logs

# Records of deliveries and attempts are kept this long; the ledger and sessions are kept for good.
RECORDS_KEPT: Final = timedelta(days=30)
_SWEEP_MOST: Final = 500
# A record is made within seconds of its event; what is pending for longer must be in the outbox.
_LOST_AFTER: Final = timedelta(minutes=10)
_LOST_PAGE: Final = 500
_ABANDON_MOST: Final = 10_000
_REWRITE_EVERY: Final = timedelta(hours=24)
_REWRITE_AGAIN: Final = timedelta(hours=1)
_REWRITTEN: Final = keys.PREFIX + "rewritten"
# More than a turn has time for.
_AGENTS_MOST: Final = 100
_WEBHOOKS_MOST: Final = 200


def end_events(outbox: Outbox) -> int:
    """Give events whose end has come their last attempt, and shred retained content. Returns how many were seen."""
    seen = 0
    while True:
        batch = outbox.sweep(most=_SWEEP_MOST)
        seen += batch
        if batch < _SWEEP_MOST:
            return seen


def find_lost_deliveries(client: redis.Redis, database: Database) -> int:
    """Tell of deliveries that Postgres takes for pending and the outbox knows nothing of; how many.

    It was emptied, or an older copy of it came back. They end `content_lost`, with an alarm for each account: what was
    accepted must not end in silence. While outcomes wait to be recorded nothing is judged: theirs may be among them.
    Raises Unavailable.
    """
    accepted_before = datetime.now(UTC) - _LOST_AFTER
    _, oldest_ms = backlog(client)
    if timedelta(milliseconds=oldest_ms) > _LOST_AFTER:
        return 0
    found, after = Counter[str](), None
    while True:
        with database.begin() as connection:
            page = pending.page(connection, accepted_before=accepted_before, after=after, limit=_LOST_PAGE)
        lost = _unknown_to_the_outbox(client, page)
        if lost:
            with database.begin() as connection:
                pending.lose(connection, lost, accepted_before=accepted_before)
            found.update(one.account_id for one in lost)
        if len(page) < _LOST_PAGE:
            break
        after = page[-1]
    for account_id, count in found.items():
        logs.alarm("deliveries_lost", account_id=account_id, count=count)
    return found.total()


def _unknown_to_the_outbox(client: redis.Redis, page: list[Pending]) -> list[Pending]:
    if not page:
        return []
    pipeline = client.pipeline(transaction=False)
    for one in page:
        pipeline.exists(keys.event(one.event_id))
    with answered():
        return [one for one, is_known in zip(page, pipeline.execute(), strict=True) if not is_known]


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


def forget_charged(client: redis.Redis, keep: timedelta) -> None:
    """Drop the facts of what was charged longer ago than they are kept. Raises Unavailable.

    The billing lane drops most of them; this is for when it has nothing more to charge.
    """
    charged.forget(client, older_than=keep)


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
        with suppress(redis.RedisError):
            client.expire(_REWRITTEN, _REWRITE_AGAIN)  # a rewrite under way, or no room for a fork: that passes


def abandon_sessions(database: Database) -> int:
    """End sessions that nothing more will be heard of. Returns how many."""
    with database.begin() as connection:
        abandoned = sessions.abandon(connection, limit=_ABANDON_MOST)
    if abandoned:
        logs.info("sessions_abandoned", count=abandoned)
    return abandoned


def mirror_configuration(mirror: Mirror, database: Database) -> int:
    """Mirror what a crash between commit and mirror left behind. Returns how many accounts it mirrored.

    Raises Unavailable, also for accounts that cannot be read, when the others are mirrored.
    """
    # First, because accounts that cannot be read end this.
    with database.begin() as connection:
        mirror.note_disabled_endpoints(endpoints.count_disabled(connection))
    restored = mirror.conversations.publish_all(database)
    if restored:
        logs.info("conversations_mirrored", count=restored)
    mirrored = mirror.publish_all(database)
    if mirrored:
        logs.info("configuration_mirrored", count=mirrored)
    return mirrored


def look_after_webhooks(rounds: WebhookRounds) -> int:
    """See that the webhooks by which ElevenLabs reports calls are there and on. Raises Unavailable.

    Returns how many were looked at.
    """
    return rounds.due(_WEBHOOKS_MOST)


def sync_agents(sync: Sync, mirror: Mirror, database: Database) -> int:
    """Bring voice agents to where their templates want them, and count those that are not there. Raises Unavailable.

    Returns how many were tried.
    """
    tried = sync.due(_AGENTS_MOST)
    with database.begin() as connection:
        counts = voice_agents.counts(connection)
    mirror.note_unsynced_agents(counts)
    return tried
