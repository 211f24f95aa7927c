"""The alarm for `switchhook_unaccounted_events`: the sum that must come out even is looked at where it is worked."""

from __future__ import annotations

import time
from typing import Final

from relay.outbox import Outbox
from relay.queues import OUTBOX_LANES
from relay.telemetry import logs

_PERIOD_SECONDS: Final = 60.0


class AuditAlarm:
    """Raises the alarm when a lane's units do not add up in two audits in a row, and again when the number changes.

    An audit reads every line's length, so `audit_if_due` makes one a minute.
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._due_at = 0.0
        self._missing = dict.fromkeys(OUTBOX_LANES, 0)
        self._told = dict.fromkeys(OUTBOX_LANES, 0)

    def audit_if_due(self) -> None:
        """Audit once a minute. Raises Unavailable."""
        if time.monotonic() >= self._due_at:
            self.audit()
            self._due_at = time.monotonic() + _PERIOD_SECONDS

    def audit(self) -> None:
        """Audit every lane once. Raises Unavailable."""
        for lane in OUTBOX_LANES:
            missing = self._outbox.audit(lane).unaccounted
            if not missing:
                self._told[lane] = 0
            elif self._missing[lane] and missing != self._told[lane]:
                logs.alarm("units_unaccounted", lane=lane, unaccounted=missing)
                self._told[lane] = missing
            self._missing[lane] = missing
