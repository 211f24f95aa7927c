"""What came of reading a list."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, Final, Literal

from billing.money import ARITHMETIC, ZERO
from relay.reconciliation.decisions import Need
from relay.store import shown
from relay.store.reconciliations import OPERATOR, Reconciliation


class Stopped(Exception):
    """What is under way ends before its end: another process has the list, or time is up."""

    def __init__(self, outcome: Literal["busy", "postponed"]) -> None:
        super().__init__(outcome)
        self.outcome: Final = outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A call as its provider lists it, and whose it is: for the comparison of its day."""

    account_id: str
    conversation_id: str
    seconds: Decimal
    cost_usd: Decimal | None


@dataclass(slots=True)
class Tally:
    """Counts of calls.

    read                those that had ended, whosever they are; twice where a window was read twice
    mended              those that were charged, by why; also where there was no rate card for it
    unmended            those that ought to have been, and were not
    relayed             those that were sent to the endpoints of their account
    unassigned          those that are nobody's here
    asked               sessions whose provider was asked what became of them
    difference_seconds  by how much what was charged was beside what the provider says, before it was mended
    found               those that we had not heard of, by account and day (UTC), as long as nobody took that over
    """

    read: int = 0
    mended: Counter[Need] = field(default_factory=Counter)
    unmended: int = 0
    relayed: int = 0
    unassigned: int = 0
    asked: int = 0
    difference_seconds: Decimal = ZERO
    found: Counter[tuple[str, date]] = field(default_factory=Counter)

    def differ(self, ours: Decimal | None, theirs: Decimal | None) -> None:
        """Note what one call lasted here and there."""
        gap = ARITHMETIC.subtract(theirs or ZERO, ours or ZERO).copy_abs()
        self.difference_seconds = ARITHMETIC.add(self.difference_seconds, gap)

    def add(self, other: Tally) -> None:
        """Count another's in, but for what it found."""
        self.read += other.read
        self.mended.update(other.mended)
        self.unmended += other.unmended
        self.relayed += other.relayed
        self.unassigned += other.unassigned
        self.asked += other.asked
        self.difference_seconds = ARITHMETIC.add(self.difference_seconds, other.difference_seconds)

    def taken_found(self) -> Counter[tuple[str, date]]:
        """What was found since the last time."""
        found, self.found = self.found, Counter()
        return found

    def counted(self) -> dict[str, int]:
        """For the metrics, by result."""
        mended = {need.value: self.mended[need] for need in (Need.FOUND, Need.RATED, Need.CORRECTED)}
        others = ("relayed", "unassigned", "unmended", "asked")
        return mended | {name: getattr(self, name) for name in others}

    def shown(self) -> dict[str, Any]:
        """As JSON."""
        return {"read": self.read, **self.counted(), "differenceSeconds": f"{self.difference_seconds:f}"}


@dataclass(slots=True)
class Outcome:
    """What became of one list; `busy`: another process reads it, `postponed`: time was up. `days` were compared."""

    account_id: str
    provider: str
    outcome: Literal["done", "busy", "postponed", "failed"] = "done"
    tally: Tally = field(default_factory=Tally)
    days: list[Reconciliation] = field(default_factory=list)

    def shown(self) -> dict[str, Any]:
        """As JSON. The operator's list is nobody's."""
        whose = None if self.account_id == OPERATOR else self.account_id
        told = {"accountId": whose, "provider": self.provider, "outcome": self.outcome}
        return told | self.tally.shown() | {"days": [shown.reconciliation(one) for one in self.days]}
