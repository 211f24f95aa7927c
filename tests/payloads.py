"""What providers send: bodies in their documented shapes, and the signatures that prove them.

The bodies are written by hand where bytes matter: with blanks, escapes and characters beyond ASCII that no JSON
encoder would write the same way again.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from typing import Any, Final

from retell.lib.webhook_auth import symmetric

# Unequal spacing, an escaped slash, an escape that need not be one, raw UTF-8, a key twice, a float with a zero.
ODD_MEMBERS: Final = r'"note" :  "caf\u00e9 \/ café 👋","n":1.0,"dup":1,"dup":2'


def elevenlabs_transcription(
    conversation_id: str,
    *,
    seconds: int = 22,
    agent_id: str = "agent_1",
    said: str = "Hey there.",
    session_id: int | None = None,
    timestamp_seconds: int = 1_795_000_000,
) -> bytes:
    """`post_call_transcription` (ElevenLabs docs, "Post-call webhooks")."""
    variables = {} if session_id is None else {"canary_session_id": session_id}
    data = {
        "agent_id": agent_id,
        "conversation_id": conversation_id,
        "status": "done",
        "transcript": [{"role": "agent", "message": said, "time_in_call_secs": 0}],
        "metadata": {"start_time_unix_secs": 1_794_999_900, "call_duration_secs": seconds, "cost": 296},
        "conversation_initiation_client_data": {"dynamic_variables": variables},
    }
    return (
        f'{{"type":"post_call_transcription", "event_timestamp":{timestamp_seconds},'
        f'\n "data":{json.dumps(data)},{ODD_MEMBERS}}}'
    ).encode()


def retell_event(
    event: str, call_id: str, *, seconds: float = 91, said: str = "Hi!", start_ms: int = 1_794_999_900_000, **call: Any
) -> bytes:
    """A call event (Retell docs, "Webhook Overview"). Further arguments are members of `call`."""
    members = {
        "call_id": call_id,
        "agent_id": "agent_2",
        "call_status": "ended",
        "start_timestamp": start_ms,
        "end_timestamp": start_ms + round(seconds * 1000),
        "transcript": said,
        **call,
    }
    return f'{{"event" : "{event}","call":{json.dumps(members)},{ODD_MEMBERS}}}'.encode()


def agora_notification(
    event_type: int,
    payload: dict[str, Any],
    *,
    notice_id: str = "2000001428:4330:107",
    product_id: int = 17,
    notify_ms: int | None = None,
) -> bytes:
    """A notification (Agora docs, "Webhooks"), sent now unless `notify_ms` says otherwise."""
    notify_ms = int(time.time() * 1000) if notify_ms is None else notify_ms
    return (
        f'{{"sid":"C866467GVJJ54687", "noticeId":"{notice_id}","productId":{product_id},"eventType" : {event_type},'
        f'"notifyMs":{notify_ms},"payload":{json.dumps(payload)},{ODD_MEMBERS}}}'
    ).encode()


def agora_headers(body: bytes, secret: str) -> dict[str, str]:
    """Both headers that Agora proves a body with, by its docs."""
    old = hmac.new(secret.encode(), body, hashlib.sha1).hexdigest()
    return {"Agora-Signature": old, "Agora-Signature-V2": _hex_hmac(secret, body)}


def retell_headers(body: bytes, api_key: str) -> dict[str, str]:
    """The header that Retell proves a body with, made by its official package."""
    return {"X-Retell-Signature": symmetric["sign"](body.decode(), api_key)}


def retell_digest(body: bytes, api_key: str) -> dict[str, str]:
    """The same by Retell's docs, for bytes that are no text: its package signs text only."""
    moment = str(int(time.time() * 1000))
    return {"X-Retell-Signature": f"v={moment},d={_hex_hmac(api_key, body + moment.encode())}"}


def elevenlabs_headers(body: bytes, secret: str, *, at_seconds: int | None = None) -> dict[str, str]:
    """The header that ElevenLabs proves a body with; its packages only verify, so it is made by its docs."""
    moment = int(time.time()) if at_seconds is None else at_seconds
    return {"ElevenLabs-Signature": f"t={moment},v0={_hex_hmac(secret, f'{moment}.'.encode() + body)}"}


def _hex_hmac(key: str, message: bytes) -> str:
    return hmac.new(key.encode(), message, hashlib.sha256).hexdigest()
