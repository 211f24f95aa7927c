"""The alarm for units that are neither settled nor waiting."""

from __future__ import annotations

from typing import Any

import pytest

from relay.outbox import Audit, Outbox
from relay.telemetry import logs
from workers.audit import AuditAlarm


class ScriptedOutbox(Outbox):
    """Of `relay` so many units are missing; of the others none."""

    def __init__(self) -> None:
        self.missing = 0

    def audit(self, lane: str) -> Audit:
        missing = self.missing if lane == "relay" else 0
        return Audit(waiting=1, in_flight=1, late_ms=0, accepted=7 + missing, delivered=3, dead=1, lost=1, keys=1)


@pytest.mark.parametrize(
    ("audits", "alarms"),
    [
        ([0, 0, 0], []),
        ([1, 0, 1, 0], []),  # once is not in a row
        ([1, 1], [1]),
        ([-1, -1], [-1]),  # an invented unit is as bad as a lost one
        ([2, 2, 2, 2], [2]),  # told already
        ([2, 2, 3, 3], [2, 3]),
        ([1, 1, 0, 1, 1], [1, 1]),
    ],
)
def test_two_audits_in_a_row_raise_the_alarm(
    monkeypatch: pytest.MonkeyPatch, audits: list[int], alarms: list[int]
) -> None:
    """One line for each number that is found, with the lane."""
    told: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(logs, "alarm", lambda event, **fields: told.append((event, fields)))
    outbox = ScriptedOutbox()
    alarm = AuditAlarm(outbox)
    for missing in audits:
        outbox.missing = missing
        alarm.audit()
    assert told == [("units_unaccounted", {"lane": "relay", "unaccounted": missing}) for missing in alarms]
