"""Signals that come while a signal is handled."""

from __future__ import annotations

from celery.signals import worker_shutting_down

from relay.queues import RECORD
from relay.settings import Settings
from workers.app import create_worker

SETTINGS = Settings(database_url="postgresql+psycopg://nobody@localhost/nowhere", redis_url="redis://", keys="k" * 32)


def test_a_second_sigterm_in_the_middle_of_the_first_does_not_wait_for_itself() -> None:
    """Celery's handler holds this lock, and the next signal's handler takes it again in the same thread."""
    create_worker(SETTINGS, (RECORD,))
    with worker_shutting_down.lock:
        assert worker_shutting_down.lock.acquire(timeout=1)
        worker_shutting_down.lock.release()
