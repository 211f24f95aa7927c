"""Providers' payloads in which every text that may be content is a canary: whatever is kept of them would show it.

Shapes: ElevenLabs docs "Post-call webhooks" and the conversation model of its Python package 2.78; Retell docs "Webhook
Overview" and its OpenAPI call object; Agora docs "Notification event types". What is left as it is are facts (ids,
types, times): docs/privacy.md lists them.
"""

from __future__ import annotations

import base64
import itertools
import json
import secrets
import string
import time
from collections.abc import Collection, Mapping
from typing import Any, Final

# Facts: they are kept, and say nothing of a conversation.
KEPT: Final = frozenset({"type", "event", "agent_id", "conversation_id", "call_id", "chat_id", "conversationId"})
_ALPHABET: Final = string.ascii_letters + string.digits
_TOKEN_CHARS: Final = 22
_NUMBER_DIGITS: Final = 15


class Canary:
    """A text and a number that occur nowhere else, and texts around them that say in which field they were."""

    def __init__(self) -> None:
        self.token = "".join(secrets.choice(_ALPHABET) for _ in range(_TOKEN_CHARS))
        self.number = 10**_NUMBER_DIGITS + secrets.randbelow(9 * 10**_NUMBER_DIGITS)
        self._fields = itertools.count(1)

    @property
    def needles(self) -> tuple[str, str]:
        """What to look for."""
        return self.token, str(self.number)

    def said(self, where: str = "somewhere") -> str:
        """A sentence with a number of its own: no two are equal, so that none is compressed to a reference only."""
        return f"{self.token} {next(self._fields)} café 👋 “{where}”"

    def in_all_of(self, sample: Any, *, kept: Collection[str] = KEPT, where: str = "") -> Any:
        """The same JSON with a sentence for every string, unless it is the value of a kept member."""
        if isinstance(sample, str):
            return self.said(where)
        if isinstance(sample, Mapping):
            planted = {
                name: value
                if name in kept and not isinstance(value, dict | list)
                else self.in_all_of(value, kept=kept, where=f"{where}.{name}")
                for name, value in sample.items()
            }
            return planted | {self.said(f"{where}: a name"): self.number, "not_documented": [self.said(where)]}
        if isinstance(sample, list):
            return [self.in_all_of(item, kept=kept, where=f"{where}[]") for item in sample]
        return sample


def elevenlabs_bodies(canary: Canary) -> dict[str, bytes]:
    """Every kind of webhook that ElevenLabs sends, by a name for it."""
    data = _conversation(canary.number)
    audio = base64.b64encode(canary.said("full_audio").encode() * 20).decode()
    sip = {"type": "sip", "body": {"from_number": "+44", "to_number": "+1", "error_reason": "", "call_sid": "", "n": 1}}
    twilio = {"type": "twilio", "body": {"From": "", "To": "", "CallSid": "", "FromCity": "", "CallStatus": "busy"}}
    samples: dict[str, tuple[str, dict[str, Any]]] = {
        "transcription": ("post_call_transcription", data),
        "transcription, ids only": ("post_call_transcription", {"conversation_id": "conv_bare", "agent_id": "agent_1"}),
        "audio": ("post_call_audio", {"agent_id": "agent_1", "conversation_id": "conv_audio"}),
        "failure, sip": (
            "call_initiation_failure",
            {"conversation_id": "conv_sip", "failure_reason": "", "metadata": sip},
        ),
        "failure, twilio": ("call_initiation_failure", {"conversation_id": "conv_twilio", "metadata": twilio}),
        "unknown": ("answering_machine_detection", {"conversation_id": "conv_unknown", "verdict": ""}),
        "unknown, nameless": ("something_new", {"what": "", "deep": [{"er": [""]}]}),
    }
    made = {
        name: canary.in_all_of({"type": kind, "event_timestamp": 1_795_000_000 + place, "data": value})
        for place, (name, (kind, value)) in enumerate(samples.items())
    }
    made["audio"]["data"]["full_audio"] = audio
    # Where numbers are expected: what was sent instead must not be kept as if it were one.
    numbers = canary.in_all_of({"type": "post_call_transcription", "event_timestamp": 1_795_000_100, "data": data})
    numbers["data"] |= {"conversation_id": "conv_numbers", "status": canary.said("status")}
    numbers["data"]["metadata"] |= dict.fromkeys(
        ("start_time_unix_secs", "call_duration_secs", "cost", "cost_fiat"), canary.said("a number")
    )
    made["transcription, texts for numbers"] = numbers
    return _encoded(made)


def retell_bodies(canary: Canary) -> dict[str, bytes]:
    """Every event that Retell sends, by its name."""
    kinds = ("call_started", "call_ended", "call_analyzed", "transcript_updated", "transfer_started", "transfer_ended")
    made: dict[str, Any] = {}
    for kind in (*kinds, "unknown_to_us"):
        call = _call(f"call_{kind}", canary.number)
        made[kind] = canary.in_all_of(
            {"event": kind, "call": call, "transfer_destination": "", "transfer_option": {"": ""}}
        )
    for kind in ("chat_started", "chat_ended", "chat_analyzed"):
        chat = {
            "chat_id": f"chat_{kind}",
            "agent_id": "agent_2",
            "transcript": "",
            "message_with_tool_calls": [{"content": ""}],
        }
        made[kind] = canary.in_all_of({"event": kind, "chat": chat})
    made["unknown, nameless"] = canary.in_all_of({"event": "call_inbound", "call_inbound": {"from_number": ""}})
    numbers = _call("call_numbers", canary.number) | dict.fromkeys(
        ("start_timestamp", "end_timestamp", "duration_ms", "call_status"), canary.said("a number")
    )
    made["call_ended, texts for numbers"] = canary.in_all_of({"event": "call_ended", "call": numbers})
    return _encoded(made)


def agora_bodies(canary: Canary) -> dict[str, bytes]:
    """Every notification that Agora's Conversational AI sends, by its number."""
    common = {
        "name": "",
        "channel": "",
        "start_ts": 1_794_999_900,
        "labels": {"customer": "", "switchhook_account": ""},
    }
    said = {"role": "user", "content": "", "speech_start_ms": 1, "speech_end_ms": 2, "card": canary.number}
    turn = {"agent_id": "agent_3", "channel": "", "turn_id": 1, "start": {"type": ""}, "end": {"type": ""}}
    payloads: dict[int, dict[str, Any]] = {
        101: {},
        102: {"stop_ts": 1_794_999_991, "status": "", "message": ""},
        103: {"stop_ts": 1_794_999_991, "contents": [said, {"role": "assistant", "content": ""}]},
        104: {"message": ""},
        110: {"turn_id": 2, "errors": [{"module": "llm", "turn_id": 2, "code": 503, "message": ""}]},
        111: {"stop_ts": 1_794_999_991, "metrics": [{"turn_id": 1, "llm_ttfb": 1104, "note": ""}]},
        112: {"stop_ts": 1_794_999_991_000, "total_turn_count": 1, "turns": [turn]},
        201: {"state": "ANSWERED", "report_ms": 1_794_999_900_000, "from": ""},
        202: {"state": "HANGUP", "report_ms": 1_794_999_900_000, "to": ""},
        1002: {"transcripts": [{"text": ""}]},
    }
    made = {str(number): _notified(canary, number, {**common, **payload}) for number, payload in payloads.items()}
    texts = dict.fromkeys(("start_ts", "stop_ts", "status", "uid"), canary.said("a number"))
    made["102, texts for numbers"] = _notified(canary, 102, common | texts)
    made["1001, nameless"] = _notified(canary, 1001, {"what": ""}, agent={})
    return _encoded(made)


def _notified(
    canary: Canary, number: int, payload: Mapping[str, Any], *, agent: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """A notification sent now; its notice is a canary as well, because only a hash of it is kept."""
    named = {"agent_id": f"agent_{number}"} if agent is None else agent
    envelope = {"sid": "", "noticeId": "", "productId": 17, "eventType": number, "notifyMs": int(time.time() * 1000)}
    planted: dict[str, Any] = canary.in_all_of({**envelope, "payload": {**named, **payload}})
    return planted


def canaryllm_bodies(canary: Canary) -> dict[str, bytes]:
    """Bodies for CanaryLLM's `event`, `context` and `complete`, by a name for each."""
    tool = {"conversationId": "k_tool", "query": "", "arguments": {"card": canary.number, "words": [""]}}
    done = {"conversationId": "k_done", "durationSeconds": 61, "transcript": [{"role": "user", "message": ""}]}
    odd = {"conversationId": "k_odd", "durationSeconds": "", "status": "", "metadata": {"call_duration_secs": ""}}
    return _encoded(
        {name: canary.in_all_of(sample) for name, sample in {"tool": tool, "done": done, "odd": odd}.items()}
    )


def recording_bodies(canary: Canary, locations: Mapping[str, str]) -> dict[str, bytes]:
    """Calls whose recordings are at these addresses, by a name for each; a token in the address is content too."""
    made: dict[str, Any] = {}
    for name, location in locations.items():
        assistant = {"id": "agent_3", "speaksFirst": True, "description": canary.said("description"), "voice": ""}
        made[name] = {
            "assistant": canary.in_all_of(assistant, kept={"id", "description"}),
            "location": f"{location}?token={canary.token}",
            "callId": f"call_{len(made)}",
            "notes": canary.said("notes"),
        }
    return _encoded(made)


def broken_bodies(body: bytes, canary: Canary) -> dict[str, bytes]:
    """A good body spoilt in the ways that decoders complain about, often by quoting it."""
    said = canary.said("a broken body")
    return {
        "cut off": body[:-1],
        "not UTF-8": body + b"\xff",
        "not JSON": said.encode(),
        "a string": json.dumps(said).encode(),
        "an array": json.dumps([said]).encode(),
        "facts of other types": json.dumps(
            {"type": [said], "event": {said: said}, "data": said, "call": said}
        ).encode(),
        "facts too long": json.dumps(dict.fromkeys(("type", "event", "conversationId"), said * 20)).encode(),
        "nested too deep": b'{"a":' * 100_000 + json.dumps(said).encode() + b"}" * 100_000,
        "lone surrogate": body[:-1] + b',"odd":"\\ud800 ' + said.encode() + b'","n":NaN}',
        "empty": b"",
    }


def _encoded(made: Mapping[str, Any]) -> dict[str, bytes]:
    """Half of them in plain UTF-8, half with escapes: senders do either."""
    return {
        name: json.dumps(value, ensure_ascii=bool(place % 2)).encode()
        for place, (name, value) in enumerate(made.items())
    }


def _conversation(number: int) -> dict[str, Any]:
    """`data` of a post-call transcription, with every member that may carry content."""
    turn = {
        "role": "user", "message": "", "original_message": "", "time_in_call_secs": 2, "feedback": {"text": ""},
        "tool_calls": [{"tool_name": "pay", "params_as_json": "", "tool_details": {"body": "", "card": number}}],
        "tool_results": [{"tool_name": "pay", "result_value": "", "error": "", "is_error": False}],
        "rag_retrieval_info": {"chunks": [{"document_id": "", "text": ""}]}, "multivoice_message": {"parts": [""]},
    }  # fmt: skip
    return {
        "agent_id": "agent_1", "agent_name": "", "conversation_id": "conv_full", "status": "done", "user_id": "",
        "branch_id": "", "environment": "", "tag_ids": [""], "transcript": [turn, {"role": "agent", "message": ""}],
        "metadata": {
            "start_time_unix_secs": 1_794_999_900, "call_duration_secs": 22, "cost": 296, "cost_fiat": 0.31,
            "main_language": "", "termination_reason": "", "warnings": [""], "error": {"code": 1, "reason": ""},
            "phone_call": {"type": "twilio", "external_number": "", "agent_number": "", "call_sid": "", "n": number},
            "whatsapp": {"whatsapp_user_id": ""}, "sms": {"from": ""}, "feedback": {"comment": ""},
            "batch_call": {"recipient": ""}, "timezone": "", "features_usage": {"language_detection": {"why": ""}},
        },
        "analysis": {
            "call_successful": "success", "transcript_summary": "", "call_summary_title": "",
            "evaluation_criteria_results": {"goal": {"criteria_id": "", "result": "success", "rationale": ""}},
            "data_collection_results": {
                "card": {"data_collection_id": "", "value": number, "rationale": "", "json_schema": {"description": ""}}
            },
        },
        "conversation_initiation_client_data": {
            "conversation_config_override": {"agent": {"prompt": {"prompt": ""}, "first_message": "", "language": ""}},
            "custom_llm_extra_body": {"messages": [""]}, "dynamic_variables": {"name": "", "card": number},
            "source_info": {"source": ""}, "user_id": "",
        },
        "otlp_traces": {"resourceSpans": [{"scopeSpans": [{"spans": [{"attributes": [{"key": "", "value": ""}]}]}]}]},
    }  # fmt: skip


def _call(call_id: str, number: int) -> dict[str, Any]:
    """Retell's call object, with every member that may carry content."""
    urls = (
        "recording_url", "recording_multi_channel_url", "scrubbed_recording_url", "public_log_url",
        "scrubbed_recording_multi_channel_url", "knowledge_base_retrieved_contents_url",
    )  # fmt: skip
    return {
        "call_type": "phone_call", "call_id": call_id, "agent_id": "agent_2", "agent_name": "", "agent_version": 1,
        "from_number": "", "to_number": "", "direction": "inbound", "access_token": "", "call_status": "ended",
        "telephony_identifier": {"twilio_call_sid": ""}, "metadata": {"customer": "", "card": number},
        "retell_llm_dynamic_variables": {"customer_name": ""}, "collected_dynamic_variables": {"last_node_name": ""},
        "custom_sip_headers": {"X-Custom-Header": ""}, "start_timestamp": 1_794_999_900_000,
        "end_timestamp": 1_794_999_991_000, "duration_ms": 91_000, "disconnection_reason": "",
        **dict.fromkeys(urls, ""),
        "transcript": "",
        "transcript_object": [{"role": "user", "content": "", "words": [{"word": "", "start": 0.7}]}],
        "transcript_with_tool_calls": [{"role": "tool_call_invocation", "arguments": "", "tool_call_id": ""}],
        "scrubbed_transcript_with_tool_calls": [{"content": ""}], "transfer_destination": "",
        "call_analysis": {
            "call_summary": "", "user_sentiment": "", "call_successful": True,
            "custom_analysis_data": {"card": number, "note": ""},
        },
        "call_cost": {"product_costs": [{"product": "", "cost": 60}], "combined_cost": 70},
    }  # fmt: skip
