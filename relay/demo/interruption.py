"""Ctrl-C: the first one ends the demo, a second one hurries its end."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Final

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """Turns SIGINT, SIGTERM and SIGHUP into KeyboardInterrupt, in the main thread, within the `with` block.

    Once `leave` was called they only set `hurried`: cleaning up is never broken off. `number` is the last one raised.
    """

    def __init__(self) -> None:
        self.hurried = threading.Event()
        self.number: int | None = None
        self._is_leaving = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interruption:
        self._before = {number: signal.signal(number, self._heard) for number in _SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def leave(self) -> None:
        """The demo is ending: from now on signals only hurry it."""
        self._is_leaving = True

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        if self._is_leaving:
            self.hurried.set()
            return
        self.number = number
        raise KeyboardInterrupt
