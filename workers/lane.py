"""A thread that works a lane off: when its bell rings, and at every tick in any case.

The tick is monotonic and in every worker, so that a lost bell, a deaf consumer, a dead broker or a missing beat costs
a tick (a second, unless said otherwise) and not an event.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from relay.errors import Unavailable
from relay.telemetry import logs

_TICK_SECONDS: Final = 1.0
# Between two looks at a lane that was not full: under load its transactions gather rows instead of racing the bell.
_REST_SECONDS: Final = 0.1
_PAUSE_MOST_SECONDS: Final = 30.0


class Lane:
    """Runs `step` until it says that nothing is left, again and again. `step` returns whether to go on at once.

    `before_look` is called before a look that a bell asked for: what is accepted from then on must ring again.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], bool],
        *,
        before_look: Callable[[], None] = lambda: None,
        tick_seconds: float = _TICK_SECONDS,
    ) -> None:
        self.name = name
        self._step = step
        self._before_look = before_look
        self._tick_seconds = tick_seconds
        self._rung = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """Work now: the bell was rung."""
        self._rung.set()

    def stop(self) -> None:
        """Begin no further step."""
        self._stopping.set()
        self._rung.set()

    def join(self, timeout_seconds: float) -> None:
        """Wait for the step under way."""
        if self._thread.is_alive():
            self._thread.join(timeout_seconds)

    def _run(self) -> None:
        pause = _TICK_SECONDS
        while not self._stopping.is_set():
            is_rung = self._rung.wait(self._tick_seconds)
            self._rung.clear()
            began = time.monotonic()
            try:
                if is_rung:
                    self._before_look()
                while not self._stopping.is_set() and self._step():
                    pass
            except Unavailable as error:
                # Redis or Postgres is away: wait longer each time, so that its return is not met by a crowd.
                pause = min(_PAUSE_MOST_SECONDS, pause * 2)
                logs.warning("lane_paused", lane=self.name, error=error, wait_seconds=pause)
                self._stopping.wait(pause)
            except Exception as error:
                pause = min(_PAUSE_MOST_SECONDS, pause * 2)
                logs.failure("lane_failed", error, lane=self.name)
                self._stopping.wait(pause)
            else:
                pause = _TICK_SECONDS
                self._stopping.wait(max(0.0, began + _REST_SECONDS - time.monotonic()))
