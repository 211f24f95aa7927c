"""Taking a call that is handed in: checked as far as that needs no network, sealed, committed."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from msgspec.structs import replace

from relay.delivery.url import written_url
from relay.directory import Directory
from relay.outbox import Admission, Unit, Verdict
from relay.outbox.outcomes import encode_facts
from relay.queues import RECORDINGS
from relay.recordings.request import HandedIn, facts_of, sealed
from relay.sealing import KeyRing
from relay.settings import Settings

_MILLISECOND: Final = timedelta(milliseconds=1)


class RecordingIntake:
    """Takes calls into the outbox, for the lane `recordings`."""

    def __init__(
        self, settings: Settings, ring: KeyRing, directory: Directory, *, commit: Callable[[Admission], Verdict]
    ) -> None:
        self._ring = ring
        self._directory = directory
        self._commit = commit
        self._https_only = not settings.allow_http
        self._retention_ms = settings.retention // _MILLISECOND
        self._quota_bytes = settings.account_quota_bytes

    def take(self, account_id: str, handed_in: HandedIn) -> bool:
        """Commit a call; False if it was before, and nothing more happens.

        Raises TargetRefused for an address that is written wrong, OverQuota, and Unavailable. Where it leads is judged
        by whoever fetches it: the call fails then, like any that cannot be reached.
        """
        location = written_url(handed_in.location, https_only=self._https_only, field="location")
        handed_in = replace(handed_in, location=location)
        facts = facts_of(handed_in, account_id=account_id, now_ms=int(time.time() * 1000))
        admission = Admission(
            event_id=facts.event_id,
            account_id=account_id,
            facts=encode_facts(facts),
            sealed=sealed(self._ring, handed_in, event_id=facts.event_id, account_id=account_id),
            retention_ms=self._retention_ms,
            window_ms=self._retention_ms,
            quota_bytes=self._directory.account(account_id).quota_bytes or self._quota_bytes,
            units=(Unit(RECORDINGS, account_id),),
        )
        return self._commit(admission) is Verdict.NEW
