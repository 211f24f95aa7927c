"""Relays a call whose end was never told: the event that its webhook would have been, into the outbox, once.

Its id follows from the conversation alone, so that it is a repeat of itself, and a webhook that comes later is one of
it (`relay.calls.fetched_event_id`). Its bill is not among its units: it is charged before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from relay.calls import TRUST_PROVIDER, Facts, fetched_event_id
from relay.content import Content
from relay.delivery.admitting import Admitting
from relay.directory import AccountView, Directory
from relay.directory.belonging import Belonging
from relay.outbox import Accepted, Outbox, Verdict
from relay.providers.records import CallRecord
from relay.queues import RELAY
from relay.sealing import KeyRing
from relay.settings import Settings
from relay.store import erasure
from relay.store.database import Database
from relay.store.events import PastEvent
from relay.store.reconciling import Known

# An account's configuration may change while an event is on its way; more often than this it does not.
_ROUTINGS: Final = 4


class Relaying:
    """Makes facts of records and commits them. Every method raises Unavailable, and NotFound for the account."""

    def __init__(
        self,
        settings: Settings,
        ring: KeyRing,
        database: Database,
        directory: Directory,
        outbox: Outbox,
        *,
        on_accepted: Callable[[Accepted], None],
    ) -> None:
        self._database = database
        self._directory = directory
        self._belonging = Belonging(directory)
        self._outbox = outbox
        self._admitting = Admitting(settings, ring)
        self._on_accepted = on_accepted

    def facts(self, account_id: str, record: CallRecord, known: Known | None) -> Facts:
        """The facts of a call, as if its webhook had come now, with its provider's authority."""
        view, call = self._directory.account(account_id), record.call
        session_id, template = self._belonging.of(view, call)
        template_id = None if template is None else template.id
        if known is not None:
            session_id = known.id
            if known.template_id is not None:
                template_id, template = known.template_id, view.templates.get(known.template_id)
        return Facts(
            event_id=fetched_event_id(call, account_id=account_id) or "",
            account_id=account_id,
            call=call,
            session_id=session_id,
            accepted_at_ms=int(time.time() * 1000),
            source_id=_source(view, call.provider, has_template=template_id is not None),
            template_id=template_id,
            template_name=None if template is None else template.name,
            refetched=True,
            trust=TRUST_PROVIDER,
        )

    def relay(self, facts: Facts, body: Content) -> bool:
        """Whether it goes out now: not if it went before, or is erased, or if its account holds too much already."""
        for _ in range(_ROUTINGS):
            admission = self._admitting.admission(self._directory.account(facts.account_id), facts, body)
            units = tuple(unit for unit in admission.units if unit.lane == RELAY)
            with self._database.begin() as connection:
                # From here on an erasure waits for us, and finds what we have put in.
                if not erasure.may_return(connection, _past(facts)):
                    return False
                accepted = self._outbox.accept([admission._replace(units=units, twin="")])
            self._directory.saw(accepted.config_version)
            if accepted.verdicts[0] is not Verdict.STALE:
                self._on_accepted(accepted)
                return accepted.verdicts[0] is Verdict.NEW
            self._directory.reload(facts.account_id)
        return False


def _source(view: AccountView, provider: str, *, has_template: bool) -> str | None:
    """The source that its webhook would have come to, where that is certain: whose endpoint it then goes to.

    Agents of templates report to the source that we look after, if there is one, and all others to one of the account's
    own.
    """
    mine = [one for one in view.sources.values() if one.provider == provider and not one.shared]
    likely = [one for one in mine if one.managed == has_template] or mine
    return likely[0].id if len(likely) == 1 else None


def _past(facts: Facts) -> PastEvent:
    call = facts.call
    return PastEvent(
        id=facts.event_id,
        account_id=facts.account_id,
        provider=call.provider,
        kind=call.kind,
        event_class=call.event_class,
        conversation_id=call.conversation_id,
        session_id=facts.session_id,
        source_id=facts.source_id,
        template_id=facts.template_id,
        template_name=facts.template_name,
        livemode=call.livemode,
        accepted_at=datetime.fromtimestamp(facts.accepted_at_ms / 1000, UTC),
    )
