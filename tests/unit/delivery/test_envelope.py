"""CanaryLLM's envelope: its exact bytes, and the provider's inside."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.calls import CallEvent, EventClass, Facts
from relay.content import Content
from relay.delivery.envelope import envelope, enveloped, iso_utc

ACCEPTED_AT_MS = 1_770_811_500_000


def facts(*, event_class: EventClass = "complete", template_name: str | None = "Customer Interview") -> Facts:
    call = CallEvent(
        provider="elevenlabs",
        kind="post_call_transcription",
        event_class=event_class,
        conversation_id="abc",
        dedupe=("abc",),
    )
    return Facts(
        event_id="evt_1",
        account_id="acc_1",
        call=call,
        session_id=1,
        accepted_at_ms=ACCEPTED_AT_MS,
        template_id=1,
        template_name=template_name,
    )


def test_envelope_has_the_documented_bytes() -> None:
    """Members in the documented order, no spaces, the time of acceptance in UTC with milliseconds."""
    assert enveloped(facts(), Content(b'{"a":1}')).reveal() == (
        b'{"event":"complete","sessionId":1,"templateId":1,"templateName":"Customer Interview",'
        b'"timestamp":"2026-02-11T12:05:00.000Z","data":{"a":1}}'
    )


@pytest.mark.parametrize(
    "payload",
    [
        b'{ "a" : 1.50 }\n',
        b'{"a":NaN}',
        b'{"a":"\\ud800","a":2}',
        '{"a":"\u00e9"}'.encode(),
        b'{"a":' + b"9" * 4301 + b"}",
    ],
)
def test_payload_is_spliced_byte_for_byte(payload: bytes) -> None:
    """Spaces, repeated keys, odd numbers and escapes stay as the provider wrote them."""
    sealed_in = enveloped(facts(), Content(payload)).reveal()
    assert sealed_in.endswith(b'"data":' + payload + b"}")


@pytest.mark.parametrize("event", ["event", "context", "complete"])
def test_event_is_the_class(event: Literal["event", "context", "complete"]) -> None:
    """The envelope names the class of the event, as CanaryLLM does; `context` has no facts of its own."""
    made = envelope(
        Content(b"{}"), event=event, session_id=2**53 - 1, template_id=3, template_name="T", accepted_at_ms=0
    )
    assert json.loads(made.reveal()) == {
        "event": event,
        "sessionId": 2**53 - 1,
        "templateId": 3,
        "templateName": "T",
        "timestamp": "1970-01-01T00:00:00.000Z",
        "data": {},
    }


def test_event_class_comes_from_the_facts() -> None:
    """An event that ends nothing is an `event`."""
    assert enveloped(facts(event_class="event"), Content(b"{}")).reveal().startswith(b'{"event":"event",')


@given(name=st.none() | st.text(st.characters(exclude_categories=["Cs"])))
def test_template_name_is_escaped(name: str | None) -> None:
    """Whatever the template is called, the envelope stays JSON that says so."""
    read_back = json.loads(enveloped(facts(template_name=name), Content(b"{}")).reveal())
    assert read_back["templateName"] == name


@given(moment_ms=st.integers(0, 253_402_300_799_999))
def test_times_are_iso_8601(moment_ms: int) -> None:
    """The text is what datetime makes of the same moment."""
    seconds, milliseconds = divmod(moment_ms, 1000)
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=milliseconds * 1000, tzinfo=None)
    assert iso_utc(moment_ms) == moment.isoformat(timespec="milliseconds") + "Z"
