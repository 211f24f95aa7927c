"""Synchronous POSTs from many threads, over the one thread that owns a transport.

So connections are used again, and the guard, the resolver and the deadline are those of deliveries.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from relay.delivery.retry import Failure
from relay.delivery.transport import Finished, Request, Transport
from relay.errors import ContextBusy, Unavailable
from relay.telemetry import logs

# Each holds a thread of the server for up to 20 s: an eighth of them by default, so that the rest stay free.
MOST_CALLS: Final = 32
# What all requests together may hold; one that is larger goes alone.
MOST_BYTES: Final = 32 * 1024 * 1024
# The transport keeps deadlines. Only if its thread were stuck would a caller have to give up by itself.
_GRACE_SECONDS: Final = 5.0
# Nothing happens in between: arrivals wake the transport, and its own timers shorten the wait.
_IDLE_SECONDS: Final = 60.0


class Caller:
    """Makes calls for threads that wait for them. Its own thread begins with the first call, not before.

    The server may fork or import the application before it serves.
    """

    def __init__(self, open_transport: Callable[[], Transport]) -> None:
        self._open_transport = open_transport
        self._lock = threading.Lock()
        self._transport: Transport | None = None
        self._arrived: deque[_Call] = deque()
        self._calls = 0
        self._bytes = 0
        self._is_closed = False

    def call(self, request: Request) -> Finished:
        """Send a request and wait for its end, at most for its deadline.

        Raises ContextBusy when as many calls as may be, or as many bytes, are under way in this process, and
        Unavailable when the request could not be sent for a reason that is ours.
        """
        call = _Call(request)
        self._admit(call)
        try:
            call.ended.wait(request.deadline_ms / 1000 + _GRACE_SECONDS)
        finally:
            self._leave(call)
        if call.finished is None or call.finished.result.failure is Failure.UNSENDABLE:
            raise Unavailable("The request could not be passed on; send it again.")
        return call.finished

    def close(self) -> None:
        """Give up what is under way and release every connection. Nothing may be called afterwards."""
        with self._lock:
            self._is_closed = True
            if self._transport is not None:
                self._transport.wake()

    def _admit(self, call: _Call) -> None:
        with self._lock:
            if self._calls >= MOST_CALLS or (self._calls and self._bytes + call.size > MOST_BYTES):
                raise ContextBusy
            if self._is_closed:
                raise Unavailable
            if self._transport is None:
                transport = self._open_transport()
                try:
                    threading.Thread(target=self._run, args=(transport,), name="caller", daemon=True).start()
                except RuntimeError:  # as many threads as this container may have
                    transport.close()
                    raise Unavailable from None
                self._transport = transport
            self._calls += 1
            self._bytes += call.size
            self._arrived.append(call)
            self._transport.wake()

    def _leave(self, call: _Call) -> None:
        with self._lock:
            self._calls -= 1
            self._bytes -= call.size

    def _run(self, transport: Transport) -> None:
        try:
            while not self._is_closed:
                self._start_arrived(transport)
                for finished in transport.step(_IDLE_SECONDS):
                    finished.ticket.end(finished)
        except Exception as error:
            # The next call opens another transport.
            logs.failure("caller_failed", error)
        finally:
            self._give_up(transport)

    def _start_arrived(self, transport: Transport) -> None:
        while self._arrived:
            call = self._arrived.popleft()
            transport.start(call.request, call)

    def _give_up(self, transport: Transport) -> None:
        with self._lock:
            self._transport = None
            stranded = [*transport.abort(), *self._arrived]
            self._arrived.clear()
        for call in stranded:
            call.end(None)
        transport.close()


class _Call:
    """One request and the thread that waits for it."""

    __slots__ = ("ended", "finished", "request", "size")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.size = len(request.body)
        self.finished: Finished | None = None
        self.ended = threading.Event()

    def end(self, finished: Finished | None) -> None:
        """Let its thread go on; without a result if there is none."""
        self.finished = finished
        self.ended.set()
