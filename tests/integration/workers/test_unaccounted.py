"""A worker looks at the sum that must come out even, on a real Redis."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import redis

from relay.outbox import keys
from relay.queues import RELAY, celery_app
from relay.settings import Settings
from relay.telemetry import logs
from workers.app import Worker

SETTINGS = Settings(database_url="postgresql+psycopg://nobody@localhost/nowhere", redis_url="", keys="k" * 32)


def test_a_worker_that_relays_raises_the_alarm(
    redis_url: str, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a minute, with a sweep: the second audit that finds a unit missing says so."""
    alarms: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(logs, "alarm", lambda event, **fields: alarms.append((event, fields)))
    settings = replace(SETTINGS, redis_url=redis_url)
    worker = Worker(settings, celery_app(settings), (RELAY,))
    redis_client.hincrby(keys.totals(RELAY), "accepted", 1)

    assert worker._audit_alarm is not None
    worker._sweep()
    worker._sweep()
    assert alarms == []
    monkeypatch.setattr(worker._audit_alarm, "_due_at", 0.0)
    worker._sweep()
    assert alarms == [("units_unaccounted", {"lane": "relay", "unaccounted": 1})]
