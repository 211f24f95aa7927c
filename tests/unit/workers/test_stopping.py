"""A worker that is asked to end breaks off what takes long: Celery waits for every job that is under way."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from relay import queues
from relay.reconciliation import Reconciler
from relay.settings import Settings
from workers import app as worker_app
from workers import books

SETTINGS = Settings(
    database_url="postgresql+psycopg://unused.invalid/x", redis_url="redis://unused.invalid", keys="x" * 40
)


@pytest.mark.parametrize("job", [queues.CHECK, queues.CLOSING, queues.RECONCILIATION])
def test_long_jobs_end_when_their_worker_is_asked_to(job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checking, closing and reconciling are told at once."""
    told: list[bool] = []

    def long(*_: object, goes_on: Callable[[], bool], **__: object) -> None:
        told.append(goes_on())
        worker.stop()
        told.append(goes_on())

    monkeypatch.setattr(books, "check", long)
    monkeypatch.setattr(worker_app, "close_months", long)
    monkeypatch.setattr(Reconciler, "run", long)
    app = queues.celery_app(SETTINGS)
    worker = worker_app.Worker(SETTINGS, app, ())
    worker_app._add_tasks(app, worker)
    app.tasks[job]()
    assert told == [True, False]
