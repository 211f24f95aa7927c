"""How many requests of the API one process works on at once: what is over is refused at once, and waits for nothing.

The ingress shares the server's threads with the API. Whoever keeps the API busy, with a provider that is silent or a
Postgres that hangs, must find threads left that take webhooks.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Final

from relay.errors import ApiBusy

# Of the server's threads, as divisors: at 256 of them the API has 64.
_OF_THREADS: Final = 4
# Of those, each account may have 16; 32 may wait for others' servers, 8 of them for one account.
_FOR_ACCOUNT: Final = 4
_SLOW: Final = 2
_SLOW_FOR_ACCOUNT: Final = 8
# A server with few threads is somebody's own: the API must work there, too.
_FEWEST: Final = 4


class Gate:
    """At most so many at once, and at most `each` of one owner."""

    def __init__(self, most: int, *, each: int) -> None:
        self.most = most
        self.each = each
        self._lock = threading.Lock()
        self._inside = 0
        self._of: Counter[Hashable] = Counter()

    @contextmanager
    def passed(self, owner: Hashable) -> Iterator[None]:
        """Be inside for as long as the block lasts. Raises ApiBusy at once."""
        with self._lock:
            if self._inside >= self.most or self._of[owner] >= self.each:
                raise ApiBusy
            self._inside += 1
            self._of[owner] += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                self._of[owner] -= 1
                if not self._of[owner]:
                    del self._of[owner]


class Gates:
    """The gates of one server process with so many threads. Every method raises ApiBusy."""

    def __init__(self, *, threads: int) -> None:
        most = min(threads, max(_FEWEST, threads // _OF_THREADS))
        each = max(1, most // _FOR_ACCOUNT)
        self.arrivals = Gate(most, each=each)
        self.accounts = Gate(most, each=each)
        self.slow = Gate(max(1, most // _SLOW), each=max(1, most // _SLOW_FOR_ACCOUNT))

    @contextmanager
    def arrived(self, credential: str | None) -> Iterator[None]:
        """Before anything is looked up: nobody knows yet whose key this is, so that each key counts by itself."""
        # What is kept of it is a number that tells nothing outside of this process.
        with self.arrivals.passed(hash(credential)):
            yield

    @contextmanager
    def admitted(self, account_id: str, *, is_slow: bool) -> Iterator[None]:
        """Once it is known whose it is. `is_slow`: it may wait for the servers of others."""
        with self.accounts.passed(account_id):
            if not is_slow:
                yield
                return
            with self.slow.passed(account_id):
                yield
