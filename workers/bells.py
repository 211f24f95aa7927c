"""How a worker takes bells: without acknowledging them.

A bell is worth nothing once it was heard: the outbox says what there is to do, and a worker looks by itself. And
kombu's bookkeeping of acknowledgements ends the process when Redis dies in the middle of it: it meets a connection
that it has set to None, and Celery takes the AttributeError for a reason to stop.

Nor is there ever a bell to restore. kombu looks for some at every connect, under a lock that it writes: Redis at
maxmemory refuses the write, and the worker that was to drain it would end.
"""

from __future__ import annotations

from typing import Any, Final

from celery.worker.strategy import default
from kombu.transport.redis import Channel, QoS

STRATEGY: Final = f"{__name__}:take_unacknowledged"


class _Forgetful(QoS):
    """What kombu keeps of a connection's messages, without a search for those that nobody acknowledged."""

    def restore_visible(self, *_: Any, **__: Any) -> None:
        """Nothing is kept that could be restored."""


def restore_nothing() -> None:
    """Have kombu's Redis connections of this process begin without a write."""
    Channel.QoS = _Forgetful


def take_unacknowledged(task: Any, app: Any, consumer: Any) -> Any:
    """Celery's strategy for the messages of a task, without its acknowledgements."""
    handle = default(task, app, consumer)

    def take(message: Any, body: Any, _ack: Any, _reject: Any, callbacks: Any, **options: Any) -> Any:
        return handle(message, body, _nothing, _nothing, callbacks, **options)

    return take


def _nothing(*_: Any, **__: Any) -> None:
    pass
