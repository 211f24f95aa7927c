"""An outbox on a Redis in memory whose clock the test moves, with one event in it: evt_1 of acct_1."""

from __future__ import annotations

from typing import Any

import fakeredis
import pytest
import redis

from relay.outbox import Admission, Claim, Outbox, Room, Settlement, Unit, Verb, keys

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
RETENTION_MS, WINDOW_MS = 96 * HOUR_MS, 95 * HOUR_MS
EP1, EP2, BILL = Unit("relay", "ep_1"), Unit("relay", "ep_2"), Unit("billing", "acct_1")


class Clock:
    """The time that fakeredis sees. It stands still until it is moved."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ms = 1_770_811_500_000
        monkeypatch.setattr("time.time", lambda: self.now_ms / 1000)

    def advance(self, ms: int) -> None:
        """Let time pass."""
        self.now_ms += ms


class Bench:
    """The outbox and what a test does to it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock(monkeypatch)
        self.client: redis.Redis = fakeredis.FakeRedis(server=fakeredis.FakeServer())
        self.outbox = Outbox(self.client, lease_ms=MINUTE_MS)

    def accept(self, *units: Unit, retention_ms: int = RETENTION_MS, window_ms: int = WINDOW_MS) -> str:
        """Accept evt_1 for these units (ep_1 if none is named), with 100 sealed bytes; the verdict."""
        admission = Admission("evt_1", "acct_1", b"facts", b"s" * 100, retention_ms, window_ms, 10**9, units or (EP1,))
        return self.outbox.accept([admission]).verdicts[0].value

    def claims(self, lane: str = "relay") -> tuple[Claim, ...]:
        """Claim what is due."""
        return self.outbox.claim(lane, Room(1000), alone=False, content=True).units

    def claim(self, endpoint_id: str = "ep_1") -> Claim:
        """Claim the unit of this endpoint, which must be due. Others are given back."""
        units = {unit.key: unit for unit in self.claims()}
        given = [Settlement(unit, Verb.RELEASE) for key, unit in units.items() if key != endpoint_id]
        self.outbox.settle("relay", given)
        return units[endpoint_id]

    def end(self, verb: Verb, endpoint_id: str = "ep_1", **changes: Any) -> None:
        """Have the unit of an endpoint end after an attempt."""
        settlement = Settlement(self.claim(endpoint_id), verb, **({"attempted": True} | changes))
        assert self.outbox.settle("relay", [settlement]) == ["ok"]

    def bill(self) -> None:
        """Have the event's bill written."""
        (unit,) = self.claims("billing")
        assert self.outbox.settle("billing", [Settlement(unit, Verb.DONE)]) == ["ok"]

    @property
    def held(self) -> int:
        """The bytes that the account holds."""
        return int(self.client.get(keys.held_bytes("acct_1")) or 0)

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Accepted, delivered, dead, waiting or in flight; nothing is unaccounted."""
        audit = self.outbox.audit("relay")
        assert audit.unaccounted == 0
        return audit.accepted, audit.delivered, audit.dead, audit.waiting + audit.in_flight

    def last_outcomes(self, count: int) -> list[dict[bytes, bytes]]:
        """What Postgres was told last, in order."""
        entries: Any = self.client.xrevrange(keys.OUTCOMES, count=count)
        return [fields for _, fields in reversed(entries)]

    def left(self) -> set[str]:
        """The keys that hold something of evt_1, or wait for it."""
        mine = {keys.sealed("evt_1"), keys.facts("evt_1"), keys.event("evt_1"), keys.ENDS, keys.line("relay", "ep_1")}
        return {name for name in mine if self.client.exists(name)}

    def everything(self) -> dict[bytes, bytes | None]:
        """All that Redis holds."""
        return {name: self.client.dump(name) for name in self.client.scan_iter()}
