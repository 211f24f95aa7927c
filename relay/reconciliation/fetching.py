"""One call from its provider: what it knows of how the call ended, and the event that its webhook would have been."""

from __future__ import annotations

from dataclasses import dataclass

from relay.content import Content
from relay.errors import PayloadError, ProviderFailed
from relay.providers import agora, elevenlabs, retell
from relay.providers.records import CallRecord
from relay.providers.rest.agora import Agora
from relay.providers.rest.elevenlabs import ElevenLabs
from relay.providers.rest.retell import Retell
from relay.refetch import forms
from relay.settings import ProviderAccess

# A key that is refused is refused for every call.
_KEY_REFUSED = frozenset({401, 403})


@dataclass(frozen=True, slots=True)
class Fetched:
    """A call. `body` is what its webhook would have been; None where the provider keeps no content of it."""

    record: CallRecord
    body: Content | None


def fetched(
    access: ProviderAccess, provider: str, conversation_id: str, *, project: str | None = None
) -> Fetched | None:
    """A call as its provider keeps it; None for one that it does not know, or shows in another form.

    `project` is Agora's. Raises ProviderUnavailable, and ProviderFailed for a key that it refuses.
    """
    try:
        match provider:
            case elevenlabs.NAME:
                found = _conversation(ElevenLabs(access).conversation(conversation_id))
            case retell.NAME:
                found = _call(Retell(access).call(conversation_id))
            case agora.NAME if project is not None:
                found = _agent(Agora(access), project, conversation_id)
            case _:
                return None
    except ProviderFailed as error:
        if error.provider_status in _KEY_REFUSED:
            raise
        return None
    except PayloadError:
        return None
    return found if found.record.call.conversation_id == conversation_id else None


def _conversation(raw: bytes) -> Fetched:
    content, record = Content(raw), elevenlabs.record(raw)
    if not record.is_over or forms.was_deleted(content):
        return Fetched(record, None)
    # The same however often it is fetched: whoever receives it twice may compare.
    return Fetched(record, forms.transcription(content, accepted_at_ms=record.call.occurred_at_ms or 0))


def _call(raw: bytes) -> Fetched:
    record = retell.record(raw)
    form = forms.ended if record.call.kind == retell.ENDED else forms.analyzed
    return Fetched(record, form(Content(raw)) if record.is_over else None)


def _agent(api: Agora, project: str, agent_id: str) -> Fetched:
    state = api.status(project, agent_id)
    record = agora.record(agent_id, status=state.status, start_ts=state.start_ts, stop_ts=state.stop_ts)
    return Fetched(record, None)
