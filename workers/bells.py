"""How a worker takes bells: without acknowledging them.

A bell is worth nothing once it was heard: the outbox says what there is to do, and a worker looks by itself. And
kombu's bookkeeping of acknowledgements ends the process when Redis dies in the middle of it: it meets a connection
that it has set to None, and Celery takes the AttributeError for a reason to stop.
"""

from __future__ import annotations

from typing import Any, Final

from celery.worker.strategy import default

STRATEGY: Final = f"{__name__}:take_unacknowledged"


def take_unacknowledged(task: Any, app: Any, consumer: Any) -> Any:
    """Celery's strategy for the messages of a task, without its acknowledgements."""
    handle = default(task, app, consumer)

    def take(message: Any, body: Any, _ack: Any, _reject: Any, callbacks: Any, **options: Any) -> Any:
        return handle(message, body, _nothing, _nothing, callbacks, **options)

    return take


def _nothing(*_: Any, **__: Any) -> None:
    pass
