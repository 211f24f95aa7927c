"""The beat rings what must be rung, and only where a bell is missing."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from celery.beat import ScheduleEntry

from relay import queues
from relay.settings import Settings
from workers import app as worker_app
from workers import beat

SETTINGS = Settings(
    database_url="postgresql+psycopg://unused.invalid/x", redis_url="redis://unused.invalid", keys="x" * 40
)


class Waiting:
    """A Redis in which every queue holds so many messages."""

    def __init__(self, count: int) -> None:
        self._count = count

    def llen(self, _: str) -> int:
        return self._count


def test_everything_that_is_scheduled_is_done_by_a_worker() -> None:
    """Each entry of the schedule is a task of the worker, and each upkeep task is scheduled."""
    tasks = set(worker_app.create_worker(SETTINGS, queues.LANES).tasks)
    scheduled = set(beat._SCHEDULE)
    ours = {name for name in tasks if not name.startswith("celery.")}
    assert scheduled == ours
    assert {queues.LOST, queues.MIRROR, queues.PARTITIONS, queues.RETENTION, queues.REWRITE} < scheduled


def test_tasks_carry_no_arguments_and_keep_no_results() -> None:
    """A bell says nothing: all state is in the outbox."""
    app = queues.celery_app(SETTINGS)
    assert app.conf.task_ignore_result
    assert app.conf.result_backend is None
    app.conf.beat_schedule = beat.schedule()
    assert all(not entry.get("args") and not entry.get("kwargs") for entry in app.conf.beat_schedule.values())


@pytest.mark.parametrize(("waiting", "rings"), [(0, 1), (1, 1), (2, 0), (50, 0)])
def test_rings_while_fewer_than_two_bells_wait(monkeypatch: pytest.MonkeyPatch, waiting: int, rings: int) -> None:
    """Queues do not grow while no worker listens."""
    rung: list[str] = []
    monkeypatch.setattr(
        "celery.beat.Scheduler.apply_async", lambda _, entry, **__: rung.append(entry.task), raising=True
    )
    scheduler: Any = type("Bound", (beat.RingingScheduler,), {"client": Waiting(waiting)})(
        app=queues.celery_app(SETTINGS), lazy=True
    )
    entry = ScheduleEntry(name="kick", task=queues.KICK, schedule=timedelta(seconds=10), app=scheduler.app)
    scheduler.apply_async(entry, advance=False)
    assert len(rung) == rings
