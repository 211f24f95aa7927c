"""Names of customers' URLs, resolved while somebody waits: for a bounded time, in a bounded number of threads.

The system's resolver can take half a minute over a name whose servers are silent, and nothing can stop it. So each
name is asked for in a thread of its own, which whoever asked leaves behind. Until it ends it counts against the account
that named it: one customer's silent zone leaves room for the names of others.
"""

from __future__ import annotations

import threading
from collections import Counter
from functools import partial
from typing import Final

from relay.delivery.resolver import Addresses, Lookup, system_lookup
from relay.errors import Unavailable
from relay.telemetry import logs

# As long as the usual resolver waits for one name server (resolv.conf(5), `timeout`).
_SECONDS: Final = 5.0
# Threads that wait for name servers, and how many of them one account may have; each costs some 50 KB.
_MOST: Final = 32
_EACH: Final = 8


class _Asked:
    """One name, and whoever waits for it."""

    __slots__ = ("addresses", "ended")

    def __init__(self) -> None:
        self.addresses: Addresses = ()
        self.ended = threading.Event()


class Lookups:
    """Resolves names for owners, each of whom has a share. Safe for threads."""

    def __init__(
        self, lookup: Lookup = system_lookup, *, seconds: float = _SECONDS, most: int = _MOST, each: int = _EACH
    ) -> None:
        self._lookup = lookup
        self._seconds = seconds
        self._most = most
        self._each = each
        self._lock = threading.Lock()
        self._of: Counter[str] = Counter()

    @property
    def waiting(self) -> int:
        """How many names are being asked for."""
        with self._lock:
            return self._of.total()

    def of(self, owner: str) -> Lookup:
        """What resolves a name for this owner.

        It raises Unavailable `name_unanswered` when that takes too long, and `names_busy` at once when as many names as
        may be, of this owner or of all, are being asked for.
        """
        return partial(self._resolved, owner)

    def _resolved(self, owner: str, host: str) -> Addresses:
        self._enter(owner)
        asked = _Asked()
        thread = threading.Thread(target=self._ask, args=(owner, host, asked), name="lookup", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # as many threads as this container may have
            self._leave(owner)
            raise _busy() from None
        if not asked.ended.wait(self._seconds):
            text = "the name servers of this host name do not answer; see whether they do, and try again"
            raise Unavailable(text, code="name_unanswered")
        return asked.addresses

    def _ask(self, owner: str, host: str, asked: _Asked) -> None:
        try:
            asked.addresses = self._lookup(host)
        except Exception as error:
            logs.failure("lookup_failed", error)
        finally:
            self._leave(owner)
            asked.ended.set()

    def _enter(self, owner: str) -> None:
        with self._lock:
            if self._of.total() >= self._most or self._of[owner] >= self._each:
                raise _busy()
            self._of[owner] += 1

    def _leave(self, owner: str) -> None:
        with self._lock:
            self._of[owner] -= 1
            if not self._of[owner]:
                del self._of[owner]


def _busy() -> Unavailable:
    text = "as many host names as may be are being looked up; their name servers are slow: try again shortly"
    return Unavailable(text, code="names_busy")


LOOKUPS: Final = Lookups()
"""Those of this process."""
