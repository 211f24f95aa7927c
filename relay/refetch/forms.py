"""What a provider's API tells of a call, in the form of the webhook that told of it first. Pure.

The webhook's `data` is the model of ElevenLabs' GET conversation, and its `call` that of Retell's get-call (both
providers' docs, "Webhooks"), so that the answer is spliced in byte for byte. The bytes of the webhook itself are not
claimed: a provider may have added to its own record meanwhile.
"""

from __future__ import annotations

from typing import Final

import msgspec

from relay.content import Content
from relay.providers import elevenlabs, retell
from relay.providers.decoding import ABSENT, Reader, integer


class _Deletion(msgspec.Struct, frozen=True):
    deleted_transcript_at_time_unix_secs: msgspec.Raw = ABSENT


class _Metadata(msgspec.Struct, frozen=True):
    deletion_settings: _Deletion | None = None


class _Conversation(msgspec.Struct, frozen=True):
    metadata: _Metadata | None = None


_CONVERSATIONS: Final = Reader(_Conversation)


def transcription(conversation: Content, *, accepted_at_ms: int) -> Content:
    """ElevenLabs' `post_call_transcription`. Its timestamp is that of the webhook's acceptance, in seconds."""
    head = b'{"type":"%b","event_timestamp":%d,"data":' % (elevenlabs.TRANSCRIPTION.encode(), accepted_at_ms // 1000)
    return Content(b"".join((head, conversation.reveal(), b"}")))


def ended(call: Content) -> Content:
    """Retell's `call_ended`, of a call in error."""
    return _of_call(retell.ENDED, call)


def analyzed(call: Content) -> Content:
    """Retell's `call_analyzed`."""
    return _of_call(retell.ANALYZED, call)


def was_deleted(conversation: Content) -> bool:
    """Whether ElevenLabs has deleted what was said and kept the rest. Raises PayloadError."""
    metadata = _CONVERSATIONS.read(conversation.reveal()).metadata or _Metadata()
    deletion = metadata.deletion_settings or _Deletion()
    return integer(deletion.deleted_transcript_at_time_unix_secs) is not None


def _of_call(kind: str, call: Content) -> Content:
    return Content(b"".join((b'{"event":"%b","call":' % kind.encode(), call.reveal(), b"}")))
