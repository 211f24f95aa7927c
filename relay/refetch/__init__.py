"""Content that is gone, fetched from its provider again for a replay: where the provider keeps it, and it is ours.

Whose a conversation is must be proved: its id came in a webhook, which an account signs with a secret that it knows,
and our own key at a provider opens the conversations of every account. So what is fetched with our key must be of an
agent that was made here for the account, or carry its label; with the account's own key it is the account's.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from relay.agents.clients import Clients
from relay.calls import CallEvent, Facts
from relay.content import Content
from relay.errors import PayloadError, ProviderFailed, ProviderNotConfigured, ProviderUnavailable
from relay.outbox import Outbox, Restoration, Restore
from relay.outbox.outcomes import decode_facts, encode_facts
from relay.providers import elevenlabs, retell
from relay.providers.rest.elevenlabs import ElevenLabs
from relay.providers.rest.retell import Retell
from relay.refetch import forms
from relay.replay import Answer, retention_of, wish
from relay.sealing import KeyRing, seal_event
from relay.settings import ProviderAccess, Settings
from relay.store import accounts, erasure, events, ownership
from relay.store.database import Database
from relay.store.deliveries import Candidate
from relay.store.events import PastEvent

_MILLISECOND: Final = timedelta(milliseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# The facts in the outbox may change between our look at them and the script; twice in a row they hardly do.
_TRIES: Final = 3
_ANSWERS: Final = {
    Restoration.RESTORED: Answer.REFETCHED,
    Restoration.PENDING: Answer.PENDING,
    Restoration.CLOSED: Answer.ENDPOINT_GONE,
    Restoration.UNKNOWN: Answer.UNKNOWN,
    Restoration.QUOTA: Answer.OVER_QUOTA,
    Restoration.ERASED: Answer.CONTENT_ERASED,
}


class Refetcher:
    """Fetches the content of deliveries again and puts them back: what `relay.replay` takes as `refetch`.

    `fetches` counts its calls to providers. One that did not answer is not called again.
    """

    def __init__(self, settings: Settings, database: Database, outbox: Outbox, ring: KeyRing, clients: Clients) -> None:
        self._settings = settings
        self._database = database
        self._outbox = outbox
        self._ring = ring
        self._clients = clients
        self._silent: set[str] = set()
        self.fetches = 0

    def __call__(self, candidate: Candidate) -> Answer | None:
        """What became of the wish; None if the content was there after all. Raises Unavailable."""
        with self._database.begin() as connection:
            event = events.get(connection, account_id=candidate.account_id, event_id=candidate.event_id)
            refused = None if event is None else _refusal(erasure.may_return(connection, event))
        if event is None or not event.livemode:
            return Answer.CONTENT_GONE
        if refused is not None:
            return refused
        got = self._asked(event)
        return got if isinstance(got, Answer) else self._restored(candidate, event, got)

    def _asked(self, event: PastEvent) -> Content | Answer:
        if event.provider in self._silent:
            return Answer.PROVIDER_UNAVAILABLE
        try:
            content = self._fetched(event)
        except ProviderNotConfigured:
            return Answer.CONTENT_GONE
        except ProviderUnavailable:
            self._silent.add(event.provider)
            return Answer.PROVIDER_UNAVAILABLE
        except ProviderFailed as error:
            return Answer.CONTENT_GONE if error.provider_status == 404 else Answer.PROVIDER_FAILED
        except PayloadError:
            return Answer.PROVIDER_FAILED
        return Answer.CONTENT_GONE if content is None else content

    def _fetched(self, event: PastEvent) -> Content | None:
        """The webhook's body again; None where the provider has nothing more to give, or gave what is not ours."""
        match event.provider, event.kind:
            case elevenlabs.NAME, elevenlabs.TRANSCRIPTION:
                return self._transcription(event)
            case retell.NAME, retell.ANALYZED:
                return self._analyzed(event)
        return None

    def _transcription(self, event: PastEvent) -> Content | None:
        access, is_own = self._access(event)
        conversation = Content(ElevenLabs(access).conversation(event.conversation_id))
        if forms.was_deleted(conversation):
            return None
        body = forms.transcription(conversation, accepted_at_ms=_ms(event.accepted_at))
        said = elevenlabs.read(body.reveal())
        is_theirs = is_own or self._made_here(event, said.agent_id)
        return body if is_theirs and said.conversation_id == event.conversation_id else None

    def _analyzed(self, event: PastEvent) -> Content | None:
        access, is_own = self._access(event)
        body = forms.analyzed(Content(Retell(access).call(event.conversation_id)))
        said = retell.read(body.reveal())
        is_theirs = is_own or said.account_hint == event.account_id
        return body if is_theirs and said.conversation_id == event.conversation_id else None

    def _access(self, event: PastEvent) -> tuple[ProviderAccess, bool]:
        access = self._clients.access(event.account_id, event.provider)
        self.fetches += 1
        return access

    def _made_here(self, event: PastEvent, agent_id: str | None) -> bool:
        if agent_id is None:
            return False
        with self._database.begin() as connection:
            return ownership.is_made_for(
                connection, account_id=event.account_id, provider=event.provider, agent_id=agent_id
            )

    def _restored(self, candidate: Candidate, event: PastEvent, content: Content) -> Answer | None:
        ids = {"event_id": event.id, "account_id": event.account_id}
        sealed = seal_event(self._ring, content.reveal(), **ids)
        own = retention_of(candidate, default=self._settings.retention)
        replay = wish(candidate, retention=self._settings.retention)
        for _ in range(_TRIES):
            found = self._outbox.facts([event.id])[0]
            with self._database.begin() as connection:
                # From here on an erasure waits for us, and finds what we have put back.
                if (refused := _refusal(erasure.may_return(connection, event))) is not None:
                    return refused
                account = accounts.get(connection, event.account_id)
                said = self._outbox.restore(
                    Restore(
                        replay=replay._replace(attempts=None if candidate.status == "pending" else candidate.attempts),
                        account_id=event.account_id,
                        accepted_ms=_ms(candidate.accepted_at),
                        retention_ms=own // _MILLISECOND,
                        quota_bytes=account.quota_bytes or self._settings.account_quota_bytes,
                        found=found,
                        facts=encode_facts(_facts(event, candidate, found)),
                        sealed=sealed,
                    )
                )
            if said is Restoration.KEPT:
                return None
            if said is not Restoration.CHANGED:
                return _ANSWERS[said]
        return Answer.FAILED


def _refusal(may_return: bool | None) -> Answer | None:
    if may_return is None:
        return Answer.UNKNOWN
    return None if may_return else Answer.CONTENT_ERASED


def _facts(event: PastEvent, candidate: Candidate, found: bytes) -> Facts:
    """The facts of an event: as they were, where a bill still needs them, else from its record. Pure."""
    if found:
        return msgspec.structs.replace(
            decode_facts(found, event_id=event.id, account_id=event.account_id), refetched=True
        )
    call = CallEvent(
        provider=event.provider,
        kind=event.kind,
        event_class=event.event_class,
        conversation_id=event.conversation_id,
        livemode=event.livemode,
    )
    return Facts(
        event_id=event.id,
        account_id=event.account_id,
        call=call,
        session_id=event.session_id,
        accepted_at_ms=_ms(candidate.accepted_at),
        source_id=event.source_id,
        template_id=event.template_id,
        template_name=event.template_name,
        refetched=True,
    )


def _ms(moment: datetime) -> int:
    return (moment - _EPOCH) // _MILLISECOND
