"""Sends what accounts are told by Switchhook itself: on the way that a provider's events take, to operations endpoints.

They are no calls: never charged, no sessions, and their bodies are ours. `relay.store.notices` has them until they are
in the outbox; what was sent before somebody died is a repeat there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from relay.calls import SWITCHHOOK, CallEvent, Facts, derived_session_id
from relay.content import Content
from relay.delivery.admitting import Admitting
from relay.directory import Directory
from relay.errors import OverQuota, Unavailable
from relay.outbox import Accepted, Outbox, Verdict
from relay.sealing import KeyRing, UnsealError
from relay.settings import Settings
from relay.store import notices
from relay.store.database import Database
from relay.store.notices import Notice
from relay.telemetry import logs

# An account's configuration may change while a notice is on its way; more often than this it does not.
_ROUTINGS: Final = 4
_LATER: Final = timedelta(minutes=10)


class Notices:
    """Sends what is due. `on_accepted` is called after each, to ring for those who deliver."""

    def __init__(
        self,
        settings: Settings,
        ring: KeyRing,
        database: Database,
        directory: Directory,
        outbox: Outbox,
        *,
        on_accepted: Callable[[Accepted], None] = lambda _: None,
    ) -> None:
        self._database = database
        self._directory = directory
        self._outbox = outbox
        self._admitting = Admitting(settings, ring)
        self._on_accepted = on_accepted

    def send(self, *, limit: int) -> int:
        """Put what is due into the outbox, at most so many; how many. Safe in several processes at once.

        An account that cannot be told now (it is over its quota, or its configuration does not open) is tried again
        later, and keeps nobody else waiting. Raises Unavailable when Redis or Postgres is away.
        """
        with self._database.begin() as connection:
            waiting = notices.due(connection, limit=limit)
        return sum(self._is_sent(notice) for notice in waiting)

    def _is_sent(self, notice: Notice) -> bool:
        try:
            self.notify(notice)
        except (OverQuota, UnsealError) as error:
            logs.warning("notice_postponed", account_id=notice.account_id, event_id=notice.id, error=error)
            with self._database.begin() as connection:
                notices.postpone(connection, notice.id, by=_LATER)
            return False
        with self._database.begin() as connection:
            notices.sent(connection, notice.id)
        return True

    def notify(self, notice: Notice) -> None:
        """Commit one to the outbox, unless it was before. Raises OverQuota, Unavailable, UnsealError."""
        facts = _facts(notice)
        body = Content(notice.body.encode())
        for _ in range(_ROUTINGS):
            view = self._directory.account(notice.account_id)
            accepted = self._outbox.accept([self._admitting.admission(view, facts, body)])
            self._directory.saw(accepted.config_version)
            (verdict,) = accepted.verdicts
            if verdict in (Verdict.NEW, Verdict.REPEAT):
                self._on_accepted(accepted)
                return
            if verdict is Verdict.QUOTA:
                raise OverQuota
            if verdict is not Verdict.STALE:
                break
            self._directory.reload(notice.account_id)
        raise Unavailable("the notice could not be stored; it is sent again")


def _facts(notice: Notice) -> Facts:
    """A notice as the event that it becomes: of the account alone, of no template and no source."""
    call = CallEvent(
        provider=SWITCHHOOK,
        kind=notice.kind,
        event_class="event",
        conversation_id=notice.subject,
        occurred_at_ms=int(notice.at.timestamp() * 1000),
    )
    return Facts(
        event_id=notice.id,
        account_id=notice.account_id,
        call=call,
        session_id=derived_session_id(notice.account_id, SWITCHHOOK, notice.subject),
        accepted_at_ms=time.time_ns() // 1_000_000,
    )
