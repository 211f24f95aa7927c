"""What CanaryLLM's inbound webhooks are read as."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.calls import CallEvent, Ending
from relay.errors import PayloadError
from relay.providers import canaryllm, elevenlabs
from relay.providers.canaryllm import CanaryEvent, Route
from relay.providers.decoding import fingerprint


def read(payload: object, *, route: Route = "event", key: str | None = None) -> CanaryEvent:
    return canaryllm.read(json.dumps(payload).encode(), route=route, idempotency_key=key)


POST_CALL = {
    "type": "post_call_transcription",
    "event_timestamp": 1739537297,
    "data": {
        "agent_id": "xyz",
        "conversation_id": "abc",
        "status": "done",
        "transcript": [{"role": "agent", "message": "Hey there."}],
        "metadata": {"start_time_unix_secs": 1739537297, "call_duration_secs": 22, "cost": 296},
        "conversation_initiation_client_data": {"dynamic_variables": {"canary_session_id": "7"}},
    },
}


def test_event_names_its_session_template_and_agent() -> None:
    """A mid-conversation event carries no ending, and what it says about its template is told apart."""
    event = read(
        {"sessionId": 1, "conversationId": "abc", "templateId": "2", "agentId": "xyz", "answer": "yes"}, key="k"
    )
    assert event == CanaryEvent(
        call=CallEvent(
            provider="elevenlabs",
            kind="event",
            event_class="event",
            conversation_id="abc",
            dedupe=("idempotency", fingerprint(b"k")),
            agent_id="xyz",
            session_hint=1,
            begins=True,
        ),
        template_id=2,
    )
    assert event.call.type == "elevenlabs.event"


@pytest.mark.parametrize(
    ("payload", "session", "conversation"),
    [
        ({"sessionId": 5}, 5, "session-5"),
        ({"sessionId": "5"}, 5, "session-5"),
        ({"canary_session_id": "6"}, 6, "session-6"),
        ({"sessionId": 5, "canary_session_id": 6}, 5, "session-5"),
        ({"sessionId": "x", "canary_session_id": 6}, 6, "session-6"),
        (
            {"data": {"conversation_initiation_client_data": {"dynamic_variables": {"canary_session_id": "7"}}}},
            7,
            "session-7",
        ),
        ({"conversationId": "abc"}, None, "abc"),
        ({"data": {"conversation_id": "abc"}}, None, "abc"),
        ({"conversationId": "", "data": {"conversation_id": "abc"}}, None, "abc"),
        ({"sessionId": 5, "conversationId": "abc"}, 5, "abc"),
        ({"sessionId": 0, "conversationId": "abc"}, None, "abc"),
    ],
)
def test_session_or_conversation_names_the_call(payload: object, session: int | None, conversation: str) -> None:
    """The first place that names a session counts; a session alone stands for its conversation."""
    call = read(payload).call
    assert (call.session_hint, call.conversation_id) == (session, conversation)


@pytest.mark.parametrize(
    "payload",
    [{}, {"sessionId": "x"}, {"sessionId": 2**53}, {"sessionId": None}, {"conversationId": 5}, {"data": [1]}],
)
def test_refuses_a_body_that_names_neither(payload: object) -> None:
    """Without a session and a conversation nobody knows what the event belongs to."""
    with pytest.raises(PayloadError) as caught:
        read(payload)
    assert (caught.value.code, caught.value.field) == ("session_required", "sessionId")


@pytest.mark.parametrize(
    ("payload", "agent"),
    [
        ({"agentId": "a"}, "a"),
        ({"agent_id": "b"}, "b"),
        ({"data": {"agent_id": "c"}}, "c"),
        ({"agentId": "a", "agent_id": "b"}, "a"),
        ({"agentId": 5, "agent_id": "b"}, "b"),
        ({}, None),
    ],
)
def test_agent_is_named_in_one_of_three_places(payload: dict[str, object], agent: str | None) -> None:
    """The agent's id helps to find the template, wherever it stands."""
    assert read({"sessionId": 1} | payload).call.agent_id == agent


def test_repeats_are_known_by_key_or_body() -> None:
    """The Idempotency-Key decides when given; else the exact bytes do."""
    assert read({"sessionId": 1}, key="k").call.dedupe == read({"sessionId": 1, "x": 2}, key="k").call.dedupe
    assert read({"sessionId": 1}).call.dedupe == read({"sessionId": 1}, key="").call.dedupe
    assert read({"sessionId": 1}).call.dedupe != read({"sessionId": 1, "x": 2}).call.dedupe


def test_refuses_an_idempotency_key_that_cannot_be_kept() -> None:
    """The key is a fact like any other: 256 characters at most."""
    with pytest.raises(PayloadError) as caught:
        read({"sessionId": 1}, key="k" * 257)
    assert caught.value.field == "Idempotency-Key"


@pytest.mark.parametrize(
    ("payload", "ending"),
    [
        ({}, Ending(status="completed")),  # unrated: absent is not zero
        ({"durationSeconds": 61.5}, Ending(status="completed", duration_seconds="61.5")),
        ({"duration_seconds": "61"}, Ending(status="completed", duration_seconds="61")),
        ({"metadata": {"call_duration_secs": 22}}, Ending(status="completed", duration_seconds="22")),
        ({"data": {"metadata": {"call_duration_secs": 22}}}, Ending(status="completed", duration_seconds="22")),
        ({"durationSeconds": 1, "duration_seconds": 2}, Ending(status="completed", duration_seconds="1")),
        ({"durationSeconds": None, "duration_seconds": 2}, Ending(status="completed", duration_seconds="2")),
        ({"durationSeconds": "soon", "duration_seconds": 2}, Ending(status="completed", duration_seconds="unreadable")),
        ({"status": "failed"}, Ending(status="failed")),
        ({"status": "error", "durationSeconds": 3}, Ending(status="failed", duration_seconds="3")),
        ({"status": "done"}, Ending(status="completed")),
    ],
)
def test_complete_ends_the_call(payload: dict[str, object], ending: Ending) -> None:
    """A plain `/complete` says what it knows of how the call ended."""
    call = read({"sessionId": 1} | payload, route="complete").call
    assert (call.kind, call.event_class, call.ending) == ("complete", "complete", ending)


def test_complete_in_elevenlabs_form_is_elevenlabs_event() -> None:
    """The same facts and the same key as the signed webhook: one conversation is one charge."""
    body = json.dumps(POST_CALL).encode()
    event = canaryllm.read(body, route="complete", idempotency_key="ignored")
    assert event.call == elevenlabs.read(body)
    assert event.call.dedupe == ("abc", "post_call_transcription", "1739537297")


def test_session_named_at_the_top_counts_in_elevenlabs_form() -> None:
    """A body in ElevenLabs' form may name its session as any other body of these routes."""
    event = read(POST_CALL | {"sessionId": 9}, route="complete")
    assert event.call == msgspec.structs.replace(read(POST_CALL, route="complete").call, session_hint=9)


def test_elevenlabs_form_counts_only_when_whole_and_on_complete() -> None:
    """Without the timestamp that makes its key, or on another route, it is a body like any other."""
    unkeyed = {name: value for name, value in POST_CALL.items() if name != "event_timestamp"}
    call = read(unkeyed, route="complete").call
    assert (call.kind, call.conversation_id, call.dedupe[0]) == ("complete", "abc", "body")
    assert call.ending == Ending(status="completed", duration_seconds="22")
    assert read(POST_CALL, route="event").call.kind == "event"


@pytest.mark.parametrize("body", [b"[]", b"", b"null", b'"x"', b"\xff", b"[" * 100_000])
def test_refuses_what_is_not_a_json_object(body: bytes) -> None:
    """The whole body is the event's data, and data is an object."""
    with pytest.raises(PayloadError):
        canaryllm.read(body, route="event", idempotency_key=None)


@pytest.mark.parametrize(("route", "begins"), [("event", True), ("context", True), ("complete", False)])
def test_an_agent_that_asks_or_tells_is_in_its_call(route: Route, begins: bool) -> None:
    """What comes in the middle of a call says that the call has begun; its end says no such thing."""
    assert read({"sessionId": 1}, route=route).call.begins is begins


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
NAMES = ("sessionId", "canary_session_id", "conversationId", "templateId", "agentId", "status", "durationSeconds")
PAYLOADS = st.fixed_dictionaries({}, optional=dict.fromkeys((*NAMES, "data", "metadata", "type"), JSON))


@given(
    body=st.binary() | PAYLOADS.map(json.dumps).map(str.encode),
    route=st.sampled_from(["event", "context", "complete"]),
    key=st.none() | st.text(),
)
def test_read_gives_an_event_or_a_payload_error(body: bytes, route: Route, key: str | None) -> None:
    """Whatever the bytes and the key, reading ends in facts that can be kept or in a 400."""
    try:
        event = canaryllm.read(body, route=route, idempotency_key=key)
    except PayloadError:
        return
    assert isinstance(event.call, CallEvent)
