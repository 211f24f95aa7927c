"""CanaryLLM's inbound webhooks: `/api/convagents/webhook/event`, `/context` and `/complete`.

Their sender is proved by a template's secret, not by a signature over the body, so this module only reads. The whole
body is the data of the event; where it names its session, conversation, template and agent is decided by the
project's docs ("CanaryLLM's inbound webhooks"). These calls are ElevenLabs' calls: the events' provider is
`elevenlabs`, so that `/complete` and a signed post-call webhook of one conversation are one charge. Endpoints hence
see the types `elevenlabs.event` and `elevenlabs.complete`, or `elevenlabs.post_call_transcription` where `/complete`
carries exactly that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from relay.calls import CallEvent, Ending, keepable, unnamed_conversation
from relay.errors import PayloadError
from relay.providers import elevenlabs
from relay.providers.decoding import ABSENT, Reader, fingerprint, integer, number, optional, session_id

Route = Literal["event", "context", "complete"]


@dataclass(frozen=True, slots=True)
class CanaryEvent:
    """A call event, and what the body says about the template that it belongs to.

    `template_id` is the body's `templateId`; the agent's id is in `call.agent_id`, the session's in
    `call.session_hint`. None of them proves anything: they choose among what the secret opens.
    """

    call: CallEvent
    template_id: int | None


class _Metadata(msgspec.Struct, frozen=True):
    call_duration_secs: msgspec.Raw = ABSENT


class _Data(msgspec.Struct, frozen=True):
    conversation_id: str | None = None
    agent_id: str | None = None
    metadata: _Metadata | None = None
    conversation_initiation_client_data: elevenlabs.ClientData | None = None


class _Body(msgspec.Struct, frozen=True):
    type: str | None = None
    event_timestamp: msgspec.Raw = ABSENT
    status: str | None = None
    session_id: msgspec.Raw = msgspec.field(name="sessionId", default=ABSENT)
    canary_session_id: msgspec.Raw = ABSENT
    conversation_id: str | None = msgspec.field(name="conversationId", default=None)
    template_id: msgspec.Raw = msgspec.field(name="templateId", default=ABSENT)
    agent_id_camel: str | None = msgspec.field(name="agentId", default=None)
    agent_id: str | None = None
    duration_camel: msgspec.Raw = msgspec.field(name="durationSeconds", default=ABSENT)
    duration_seconds: msgspec.Raw = ABSENT
    metadata: _Metadata | None = None
    data: _Data | None = None


_READER: Final = Reader(_Body)


def read(body: bytes, *, route: Route, idempotency_key: str | None) -> CanaryEvent:
    """The facts of a body whose secret was right. `idempotency_key` is the header of that name, None when missing.

    A repeat is known by that key, else by the hash of the body; `/complete` in ElevenLabs' form has ElevenLabs' key.
    Raises PayloadError, with code `session_required` if neither a session nor a conversation is named.
    """
    payload = _READER.read(body)
    data = payload.data or _Data()
    session = _named_session(payload, data)
    template_id = session_id(payload.template_id)
    if route == "complete" and _is_post_call(payload, data):
        call = msgspec.structs.replace(elevenlabs.read(body), session_hint=session)
        return CanaryEvent(call=call, template_id=template_id)
    call = CallEvent(
        provider=elevenlabs.NAME,
        kind=route,
        event_class="complete" if route == "complete" else "event",
        conversation_id=_conversation_id(payload, data, session),
        dedupe=_dedupe(body, idempotency_key),
        agent_id=_agent_id(payload, data),
        session_hint=session,
        ending=_ending(payload, data) if route == "complete" else None,
        # Only an agent in the middle of its call asks or tells.
        begins=route != "complete",
    )
    return CanaryEvent(call=call, template_id=template_id)


def _is_post_call(payload: _Body, data: _Data) -> bool:
    has_key = data.conversation_id is not None and integer(payload.event_timestamp) is not None
    return payload.type == elevenlabs.TRANSCRIPTION and has_key


def _named_session(payload: _Body, data: _Data) -> int | None:
    for raw in (payload.session_id, payload.canary_session_id):
        if (named := session_id(raw)) is not None:
            return named
    return elevenlabs.named_session(data.conversation_initiation_client_data)


def _conversation_id(payload: _Body, data: _Data, session: int | None) -> str:
    named = optional(payload.conversation_id, "conversationId") or optional(
        data.conversation_id, "data.conversation_id"
    )
    if named is not None:
        return named
    if session is None:
        raise PayloadError("name the session in sessionId", code="session_required", field="sessionId")
    return unnamed_conversation(session)


def _agent_id(payload: _Body, data: _Data) -> str | None:
    return (
        optional(payload.agent_id_camel, "agentId")
        or optional(payload.agent_id, "agent_id")
        or optional(data.agent_id, "data.agent_id")
    )


def _dedupe(body: bytes, idempotency_key: str | None) -> tuple[str, str]:
    if idempotency_key:
        # Its hash: the sender chooses the key freely, and facts are kept in the clear.
        return "idempotency", fingerprint(keepable(idempotency_key, "Idempotency-Key").encode())
    return "body", fingerprint(body)


def _ending(payload: _Body, data: _Data) -> Ending:
    durations = (
        payload.duration_camel,
        payload.duration_seconds,
        (payload.metadata or _Metadata()).call_duration_secs,
        (data.metadata or _Metadata()).call_duration_secs,
    )
    return Ending(
        status="failed" if payload.status in ("failed", "error") else "completed",
        duration_seconds=next((text for raw in durations if (text := number(raw)) is not None), None),
    )
