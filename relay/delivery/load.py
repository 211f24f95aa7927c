"""What one process has in flight, and what it may claim on top: nobody takes every slot, or all of the memory.

Endpoints on probation (new ones, and those that have failed lately) share half; an account has five eighths, and what
one claim adds to it. What hangs, hangs in its share.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from relay.outbox import Claim, Room

# Requests in flight in one process. An endpoint that is not known to answer gets 8 of them, a good one 64.
SLOTS: Final = 1024
# Of sealed content: keeps a process small whatever waits.
MOST_BYTES: Final = 32 * 1024 * 1024
# Of one claim, so that a single reply neither blocks Redis for long nor fills a process at once.
_MOST_PER_CLAIM: Final = 256
_MOST_BYTES_PER_CLAIM: Final = 8 * 1024 * 1024
_PROBATION_SHARE: Final = 0.5
# Ten good endpoints of one account; a claim may add _MOST_PER_CLAIM to it.
_ACCOUNT_SHARE: Final = 0.625


class Load:
    """Counts units and their bytes from claim to the end of the attempt: in all, on probation, by account.

    Belongs to one thread.
    """

    def __init__(self, *, slots: int = SLOTS, most_bytes: int = MOST_BYTES) -> None:
        self._slots = slots
        self._most_bytes = most_bytes
        self.units = 0
        self._bytes = 0
        self._probation_units = 0
        self._probation_bytes = 0
        self._account_units: Counter[str] = Counter()
        self._account_bytes: Counter[str] = Counter()

    @property
    def is_full(self) -> bool:
        """Whether nothing more may be claimed."""
        return self.units >= self._slots or self._bytes >= self._most_bytes

    def room(self) -> Room:
        """What may be claimed now."""
        return Room(
            units=min(_MOST_PER_CLAIM, self._slots - self.units),
            size_bytes=min(_MOST_BYTES_PER_CLAIM, self._most_bytes - self._bytes),
            probation_units=max(0, int(self._slots * _PROBATION_SHARE) - self._probation_units),
            probation_bytes=max(0, int(self._most_bytes * _PROBATION_SHARE) - self._probation_bytes),
            full_accounts=self._full_accounts(),
        )

    def _full_accounts(self) -> tuple[str, ...]:
        most_units, most_bytes = self._slots * _ACCOUNT_SHARE, self._most_bytes * _ACCOUNT_SHARE
        if self.units < most_units and self._bytes < most_bytes:
            return ()  # what all have together is no more than one may have
        return tuple(
            account_id
            for account_id, units in self._account_units.items()
            if units >= most_units or self._account_bytes[account_id] >= most_bytes
        )

    def claimed(self, claim: Claim) -> None:
        """A unit was claimed."""
        self._count(claim, 1)

    def ended(self, claim: Claim) -> None:
        """It was sent and has ended, or ends unsent."""
        self._count(claim, -1)

    def _count(self, claim: Claim, sign: int) -> None:
        size = sign * len(claim.sealed or b"")
        self.units += sign
        self._bytes += size
        if claim.is_on_probation:
            self._probation_units += sign
            self._probation_bytes += size
        self._account_units[claim.account_id] += sign
        self._account_bytes[claim.account_id] += size
        if not self._account_units[claim.account_id]:
            del self._account_units[claim.account_id], self._account_bytes[claim.account_id]
