"""The beat process: rings every lane and upkeep now and then.

It rings only while fewer than two messages wait in a queue, so that queues do not grow while no worker listens. No
event depends on it: workers look into the outbox by themselves.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

import redis
from celery.beat import ScheduleEntry, Scheduler

from relay import queues
from relay.connections import redis_client
from relay.settings import Settings
from relay.telemetry import logs, port
from relay.telemetry.publisher import Publisher

_ENOUGH: Final = 2
_SCHEDULE: Final = {
    queues.KICK: timedelta(seconds=10),
    queues.CHARGE: timedelta(seconds=10),
    queues.RECORD_TASK: timedelta(seconds=10),
    queues.MEASURE: timedelta(minutes=1),
    queues.AGENTS: timedelta(seconds=30),
    queues.WEBHOOKS: timedelta(minutes=1),
    queues.MIRROR: timedelta(minutes=1),
    queues.EXPIRY: timedelta(minutes=1),
    queues.PARTITIONS: timedelta(hours=1),
    queues.RETENTION: timedelta(hours=6),
    queues.REWRITE: timedelta(hours=1),
    queues.FORGET: timedelta(hours=1),
    queues.LOST: timedelta(minutes=10),
    queues.CONVERSATIONS: timedelta(minutes=10),
    queues.ABANDONED: timedelta(minutes=10),
    queues.ENDPOINTS: timedelta(hours=1),
    queues.CLOSING: timedelta(hours=1),
    queues.RECONCILIATION: timedelta(hours=1),
    queues.EXPORTS: timedelta(minutes=1),
    queues.UNRATED: timedelta(minutes=5),
    queues.CHECK: timedelta(hours=1),
    queues.NOTICES: timedelta(minutes=1),
}


class RingingScheduler(Scheduler):  # type: ignore[misc]
    """Celery's scheduler without its file, ringing only where a bell is missing."""

    client: redis.Redis

    def apply_async(self, entry: ScheduleEntry, producer: Any = None, advance: bool = True, **kwargs: Any) -> Any:
        """Ring unless two bells wait in the task's queue already."""
        queue = self.app.amqp.router.route({}, entry.task)["queue"].name
        try:
            waiting: Any = self.client.llen(f"{queues.KEY_PREFIX}{queue}")
        except redis.RedisError:
            waiting = 0
        if waiting >= _ENOUGH:
            return self.reserve(entry) if advance else entry
        return super().apply_async(entry, producer=producer, advance=advance, **kwargs)


def schedule() -> dict[str, dict[str, Any]]:
    """Celery's form of what is rung, and how often. No entry has arguments."""
    options = {"expires": queues.BELL_SECONDS}
    return {name: {"task": name, "schedule": every, "options": options} for name, every in _SCHEDULE.items()}


def run(settings: Settings) -> None:
    """Ring until SIGTERM. Raises SettingsError for a port that is taken."""
    logs.configure(settings.log_level)
    port.serve(settings)
    app = queues.celery_app(settings)
    app.conf.beat_schedule = schedule()
    scheduler = type("BoundScheduler", (RingingScheduler,), {"client": redis_client(settings)})
    publisher = Publisher.of(settings, "beat")
    publisher.start()
    try:
        app.Beat(scheduler_cls=scheduler, loglevel="WARNING", quiet=True).run()
    finally:
        publisher.stop()
