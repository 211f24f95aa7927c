"""Names to addresses, apart from libcurl: names that hang must not delay names that answer.

libcurl without c-ares resolves in a pool of some twenty threads, first come first served; as many names whose servers
never answer would stop every delivery to a new host. Here a name is asked for once at a time, however many wait for
it; names that were slow or failed share a part of the threads only; and a name that answered a minute ago is used
again while it is asked for anew. No answer is trusted: the guard judges the address of every connection.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from relay.telemetry import logs

Addresses = tuple[str, ...]
Lookup = Callable[[str], Addresses]

# Threads that wait for name servers; each costs some 50 KB while it waits, and none is started before it is needed.
# Names that answered quickly the last time may have all of them, others only a share.
_THREADS: Final = 64
_THREADS_FOR_NEW: Final = 48
_THREADS_FOR_SLOW: Final = 32
_SLOW_SECONDS: Final = 1.0
# An answer counts as fresh for so long, and is used while it is asked for anew for so long.
_FRESH_SECONDS: Final = 10.0
_STALE_SECONDS: Final = 300.0
_IDLE_SECONDS: Final = 30.0
_MOST_NAMES: Final = 20_000


def system_lookup(host: str) -> Addresses:
    """What the system's resolver says, in its order of preference; empty for a name without addresses."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    # A scope belongs to a link-local address, which is no destination anyway, and libcurl could not read it.
    return tuple(dict.fromkeys(str(info[4][0]).partition("%")[0] for info in found))


@dataclass(slots=True)
class _Known:
    addresses: Addresses
    at: float


class _Standing(IntEnum):
    """How a name behaved the last time. The worse, the fewer threads may wait for such names."""

    QUICK = 0
    NEW = 1
    SLOW = 2


def _standing(before: _Standing | None, is_quick: bool) -> _Standing:
    """One slow answer makes a quick name a new one; the next one makes it slow."""
    if is_quick:
        return _Standing.QUICK
    return _Standing.NEW if before is _Standing.QUICK else _Standing.SLOW


_SHARES: Final = {_Standing.QUICK: _THREADS, _Standing.NEW: _THREADS_FOR_NEW, _Standing.SLOW: _THREADS_FOR_SLOW}


class Resolver:
    """Resolves names in threads of its own. Its methods belong to one other thread, which `on_answer` wakes."""

    def __init__(self, lookup: Lookup, *, on_answer: Callable[[], None] = lambda: None) -> None:
        self._lookup = lookup
        self._on_answer = on_answer
        self._known: dict[str, _Known] = {}
        self._standings: dict[str, _Standing] = {}
        self._asked: set[str] = set()
        self._answers: deque[tuple[str, Addresses, float]] = deque()
        self._lock = threading.Condition()
        self._queues: dict[_Standing, deque[str]] = {standing: deque() for standing in _Standing}
        self._busy = dict.fromkeys(_Standing, 0)
        self._threads = self._idle = 0
        self._is_closed = False

    @property
    def has_answers(self) -> bool:
        """Whether `answered` would return something."""
        return bool(self._answers)

    def known(self, host: str) -> Addresses | None:
        """What a name was last resolved to; None if it has to be asked for first."""
        known = self._known.get(host)
        if known is None:
            return None
        age = time.monotonic() - known.at
        if age >= _FRESH_SECONDS:
            if age >= _STALE_SECONDS:
                return None
            self.ask(host)
        return known.addresses

    def ask(self, host: str) -> None:
        """Have a name resolved. Returns at once; `answered` tells when it was."""
        if self._is_closed:
            return
        with self._lock:
            if host not in self._asked:
                self._asked.add(host)
                self._queues[self._standings.get(host, _Standing.NEW)].append(host)
                self._lock.notify()
            # A thread that was woken counts as idle until it runs.
            if sum(map(len, self._queues.values())) > self._idle and self._threads < _THREADS:
                self._start_thread()

    def _start_thread(self) -> None:
        self._threads += 1
        try:
            threading.Thread(target=self._run, name="resolver", daemon=True).start()
        except RuntimeError:
            # As many threads as this container may have: those that run take the name, or the next `ask` tries again.
            self._threads -= 1

    def answered(self) -> list[tuple[str, Addresses]]:
        """The names that were answered since the last call, with their addresses: none for an unknown name."""
        answers: list[tuple[str, Addresses]] = []
        while self._answers:
            host, addresses, seconds = self._answers.popleft()
            self._asked.discard(host)
            if len(self._standings) >= _MOST_NAMES:
                self._known.clear()
                self._standings.clear()
            if addresses:
                # An answer that failed leaves the one before in force, for as long as an old one may be.
                self._known[host] = _Known(addresses, time.monotonic())
            self._standings[host] = _standing(self._standings.get(host), bool(addresses) and seconds <= _SLOW_SECONDS)
            answers.append((host, addresses))
        return answers

    def forget(self, host: str) -> None:
        """Ask anew the next time: a connection to what the name was resolved to could not be made."""
        self._known.pop(host, None)

    def close(self) -> None:
        """Ask for nothing more. Threads that wait for a name server end when it answers; nobody waits for them."""
        with self._lock:
            self._is_closed = True
            for queue in self._queues.values():
                queue.clear()
            self._lock.notify_all()

    def _run(self) -> None:
        while True:
            taken = self._take()
            if taken is None:
                return
            standing, host = taken
            began = time.monotonic()
            addresses: Addresses = ()
            try:
                addresses = self._lookup(host)
            except Exception as error:
                logs.failure("lookup_failed", error)
            finally:
                self._answers.append((host, addresses, time.monotonic() - began))
                with self._lock:
                    self._busy[standing] -= 1
                self._on_answer()

    def _take(self) -> tuple[_Standing, str] | None:
        """The next name; None when this thread is not needed any more."""
        with self._lock:
            while not self._is_closed:
                for standing, queue in self._queues.items():
                    # Worse names count against the share of better ones, never the other way round.
                    busy = sum(count for other, count in self._busy.items() if other >= standing)
                    if queue and busy < _SHARES[standing]:
                        self._busy[standing] += 1
                        return standing, queue.popleft()
                self._idle += 1
                is_needed = self._lock.wait(_IDLE_SECONDS)
                self._idle -= 1
                if not is_needed and not any(self._queues.values()):
                    break
            self._threads -= 1
            return None
