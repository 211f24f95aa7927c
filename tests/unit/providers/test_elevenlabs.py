"""ElevenLabs' signatures and payloads, beside the official package."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from elevenlabs.client import ElevenLabs
from hypothesis import example, given
from hypothesis import strategies as st

from relay.calls import CallEvent, Ending
from relay.errors import PayloadError
from relay.providers import PROVIDERS, elevenlabs

SECRET = "wsec_0123456789abcdef"
OTHER = "wsec_fedcba9876543210"
NOW_MS = 1_739_537_300_000
NOW = NOW_MS // 1000


def transcription() -> dict[str, Any]:
    """The sample of ElevenLabs docs, "Post-call webhooks", with our dynamic variable."""
    return {
        "type": "post_call_transcription",
        "event_timestamp": 1739537297,
        "data": {
            "agent_id": "xyz",
            "conversation_id": "abc",
            "status": "done",
            "user_id": "user123",
            "transcript": [
                {"role": "agent", "message": "Hey there angelo. \u00a1Hola! How are you?", "tool_calls": None}
            ],
            "metadata": {
                "start_time_unix_secs": 1739537297,
                "call_duration_secs": 22,
                "cost": 296,
                "cost_fiat": 0.0741,
                "phone_call": None,
            },
            "analysis": {"call_successful": "success", "transcript_summary": "..."},
            "conversation_initiation_client_data": {
                "conversation_config_override": {"agent": {"prompt": None, "language": "en"}},
                "dynamic_variables": {"user_name": "angelo", "canary_session_id": "7"},
            },
        },
    }


def encoded(payload: object) -> bytes:
    return json.dumps(payload, ensure_ascii=False).encode()


BODY = encoded(transcription())


def signed(body: bytes, *, secret: str = SECRET, timestamp: object = NOW) -> str:
    """A header made by hand, as ElevenLabs docs describe it."""
    digest = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={timestamp},v0={digest}"


def verifies(signature: str | None, *, body: bytes = BODY, secrets: tuple[str, ...] = (SECRET,)) -> bool:
    return elevenlabs.verify(body, signature, secrets=secrets, now_ms=NOW_MS)


def test_is_registered_under_its_name() -> None:
    """The registry finds the module by the provider's name."""
    assert PROVIDERS["elevenlabs"].SIGNATURE_HEADERS == ("ElevenLabs-Signature",)


def test_official_package_accepts_what_we_sign() -> None:
    """`construct_event` of the official package takes our header."""
    [(name, value)] = elevenlabs.sign(BODY, secret=SECRET, now_ms=int(time.time() * 1000))
    assert name == "ElevenLabs-Signature"
    event = ElevenLabs(api_key="unused").webhooks.construct_event(BODY.decode(), value, SECRET)
    assert event["data"]["conversation_id"] == "abc"


def test_our_signature_is_the_documented_one() -> None:
    """`sign` writes the same header as the documented recipe."""
    assert elevenlabs.sign(BODY, secret=SECRET, now_ms=NOW_MS) == (("ElevenLabs-Signature", signed(BODY)),)


@pytest.mark.parametrize(
    ("offset_seconds", "accepted"),
    [
        (-1801, False),  # one past the official package's half hour
        (-1800, True),
        (-1799, True),
        (0, True),
        (299, True),
        (300, True),
        (301, False),  # the official package has no bound here
    ],
)
def test_tolerates_age_and_skew_up_to_the_bounds(offset_seconds: int, accepted: bool) -> None:
    """1,800 s of age and 300 s ahead pass, one more does not."""
    assert verifies(signed(BODY, timestamp=NOW + offset_seconds)) is accepted


def test_accepts_any_of_several_secrets() -> None:
    """During a rotation the old and the new secret are both good; a third is not."""
    for secret in (SECRET, OTHER):
        assert verifies(signed(BODY, secret=secret), secrets=(SECRET, OTHER))
    assert not verifies(signed(BODY, secret="wsec_third"), secrets=(SECRET, OTHER))


def test_without_secrets_nothing_is_proven() -> None:
    """No secret, or an empty one, verifies nothing."""
    assert not verifies(signed(BODY), secrets=())
    assert not verifies(signed(BODY, secret=""), secrets=("",))


def test_accepts_any_of_several_signatures_in_any_order() -> None:
    """A good `v0` counts wherever it stands: the official packages disagree on first or last."""
    good = signed(BODY)
    timestamp, proof = good.split(",")
    wrong = "v0=" + "0" * 64
    for header in (f"{timestamp},{wrong},{proof}", f"{timestamp},{proof},{wrong}", f"{proof},{timestamp}"):
        assert verifies(header)
    assert not verifies(f"{timestamp},{wrong},{wrong}")


def _mutations() -> dict[str, str | None]:
    good = signed(BODY)
    timestamp, proof = good.split(",")
    return {
        "missing": None,
        "empty": "",
        "no timestamp": proof,
        "no signature": timestamp,
        "space after comma": good.replace(",", ", "),
        "upper-case digest": f"{timestamp},v0={proof[3:].upper()}",
        "other scheme": good.replace("v0=", "v1="),
        "digest cut": good[:-1],
        "digest longer": good + "0",
        "one megabyte": good + "," + "x" * 1_000_000,
        "one megabyte of digits": f"t={'1' * 1_000_000},{proof}",
        "non-ASCII": good + "\u00e9",
        "non-ASCII digest": f"{timestamp},v0=" + "\u00e9" * 64,
        "lone surrogate digest": f"{timestamp},v0={chr(0xD800) * 64}",
        "unicode digits": "t=" + "".join(chr(0x0660 + int(digit)) for digit in str(NOW)) + f",{proof}",
        "plus sign": f"t=+{NOW},{proof}",
        "underscore": f"t={NOW // 10}_{NOW % 10},{proof}",
        "superscript": f"t=\u00b2,{proof}",
        "words": f"t=abc,{proof}",
        "negative": f"t=-{NOW},{proof}",
        "fraction": f"t={NOW}.0,{proof}",
        "another timestamp": f"t={NOW + 1},{proof}",
        "second timestamp": f"{good},t={NOW + 1}",
        "another secret": signed(BODY, secret=OTHER),
        "re-serialised body": signed(json.dumps(transcription(), indent=1).encode()),
    }


@pytest.mark.parametrize("case", _mutations())
def test_refuses_mutated_header(case: str) -> None:
    """No mutation of a good header verifies, and none raises."""
    assert verifies(_mutations()[case]) is False


@pytest.mark.parametrize("sign_as_sent", ["+{}", "0x{}", " {}", "{}_0"])
def test_refuses_timestamps_that_are_not_digits_even_when_signed(sign_as_sent: str) -> None:
    """A timestamp must be plain digits, whatever `int` would make of it."""
    assert not verifies(signed(BODY, timestamp=sign_as_sent.format(NOW)))


def test_refuses_every_single_flipped_character() -> None:
    """Each character of the header matters, and each byte of the body."""
    good = signed(BODY)
    for place, character in enumerate(good):
        assert not verifies(good[:place] + chr(ord(character) ^ 1) + good[place + 1 :])
    for place in range(len(BODY)):
        assert not verifies(good, body=BODY[:place] + bytes([BODY[place] ^ 1]) + BODY[place + 1 :])


@given(signature=st.none() | st.text() | st.from_regex(r"t=\d{0,20},v0=[0-9a-f]{0,70}"), body=st.binary())
def test_verify_answers_every_header(signature: str | None, body: bytes) -> None:
    """Whatever the header, the answer is no, never an exception."""
    assert elevenlabs.verify(body, signature, secrets=(SECRET, OTHER), now_ms=NOW_MS) is False


def test_reads_a_transcription() -> None:
    """The official sample gives the call's ending, its key, its agent and its session."""
    assert elevenlabs.read(BODY) == CallEvent(
        provider="elevenlabs",
        kind="post_call_transcription",
        event_class="complete",
        conversation_id="abc",
        dedupe=("abc", "post_call_transcription", "1739537297"),
        agent_id="xyz",
        session_hint=7,
        occurred_at_ms=1_739_537_297_000,
        ending=Ending(
            status="completed",
            duration_seconds="22",
            started_at_ms=1_739_537_297_000,
            ended_at_ms=1_739_537_319_000,
            provider_cost_usd="0.0741",
            provider_credits="296",
        ),
    )


@pytest.mark.parametrize(
    ("counts", "turns"),
    [
        ({"user_message_count": 3, "agent_message_count": 4}, 7),
        ({"user_message_count": 0, "agent_message_count": 0}, 0),
        ({"user_message_count": 3}, None),  # half of it is not it
        ({"user_message_count": None, "agent_message_count": 4}, None),
        ({"user_message_count": "three", "agent_message_count": 4}, None),
        ({"user_message_count": -1, "agent_message_count": 4}, None),
        ({"user_message_count": 10**12, "agent_message_count": 4}, None),
        ({}, None),
    ],
)
def test_counts_turns_where_both_sides_are_told(counts: dict[str, object], turns: int | None) -> None:
    """The counts that come with the conversation are taken; its transcript is not looked at."""
    payload = transcription()
    payload["data"] |= counts
    ending = elevenlabs.read(encoded(payload)).ending
    assert ending is not None
    assert ending.turns == turns


def test_reads_a_failed_conversation() -> None:
    """A conversation that ElevenLabs marks failed ends failed and keeps its duration."""
    payload = transcription()
    payload["data"]["status"] = "failed"
    ending = elevenlabs.read(encoded(payload)).ending
    assert ending is not None
    assert (ending.status, ending.duration_seconds) == ("failed", "22")


def test_reads_an_initiation_failure() -> None:
    """A call that never began completes as failed, without a duration."""
    event = elevenlabs.read(
        encoded(
            {
                "type": "call_initiation_failure",
                "event_timestamp": 1759931652,
                "data": {
                    "agent_id": "xyz",
                    "conversation_id": "abc",
                    "failure_reason": "busy",
                    "metadata": {"type": "sip", "body": {"sip_status_code": 486, "from_number": "+441111111111"}},
                },
            }
        )
    )
    assert (event.event_class, event.ending) == ("complete", Ending(status="failed"))


def test_reads_audio_as_an_event_without_ending() -> None:
    """The recording is relayed; it ends nothing, for the transcription does."""
    event = elevenlabs.read(
        encoded(
            {
                "type": "post_call_audio",
                "event_timestamp": 1739537319,
                "data": {"agent_id": "xyz", "conversation_id": "abc", "full_audio": "SUQz" * 1000},
            }
        )
    )
    assert (event.event_class, event.ending, event.conversation_id) == ("event", None, "abc")


def test_reads_an_unknown_type_whatever_it_lacks() -> None:
    """A type of tomorrow is relayed; the hash of its body stands in for what would name it."""
    body = encoded({"type": "answering_machine_detection", "payload": {"x": 1}})
    event = elevenlabs.read(body)
    again = elevenlabs.read(body)
    other = elevenlabs.read(body + b" ")
    assert (event.event_class, event.ending) == ("event", None)
    assert event.dedupe == again.dedupe != other.dedupe
    assert len(event.conversation_id) == 32


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("22", "22"),
        ("0", "0"),
        ("22.50", "22.50"),  # as written: not 22.5
        ("1e2", "1e2"),
        ("-3", "-3"),
        ('"22"', "22"),  # a numeric string
        ("NaN", "NaN"),  # not JSON, but a signed body is not refused for it
        ("1e400", "1e400"),
        ("null", None),
        ("9" * 4301, "unreadable"),  # more digits than int() takes
        ('"about a minute"', "unreadable"),  # its text might be content
        ("true", "unreadable"),
        ("[22]", "unreadable"),
        ('{"secs":22}', "unreadable"),
        ('"\\ud800"', "unreadable"),
    ],
)
def test_keeps_durations_as_text_and_never_refuses_one(number: str, text: str | None) -> None:
    """A duration is kept as written, or marked unreadable for billing; the event is accepted either way."""
    body = BODY.replace(b'"call_duration_secs": 22', b'"call_duration_secs": ' + number.encode())
    ending = elevenlabs.read(body).ending
    assert ending is not None
    assert ending.duration_seconds == text


def test_absent_duration_is_not_zero() -> None:
    """Without metadata there is no duration."""
    payload = transcription()
    del payload["data"]["metadata"]
    assert elevenlabs.read(encoded(payload)).ending == Ending(status="completed")


@pytest.mark.parametrize(
    ("variable", "session"),
    [(1, 1), ("1", 1), (2**53 - 1, 2**53 - 1), (2**53, None), (0, None), (-1, None), ("x", None), (1.5, None),
     (True, None), (None, None), ([1], None), ("\u0661", None), ("1" * 5000, None)],
)  # fmt: skip
def test_session_hint_is_an_integer_or_digits(variable: object, session: int | None) -> None:
    """`canary_session_id` names a session when it can be one; else it is just a variable of the customer's."""
    payload = transcription()
    payload["data"]["conversation_initiation_client_data"]["dynamic_variables"]["canary_session_id"] = variable
    assert elevenlabs.read(encoded(payload)).session_hint == session


@pytest.mark.parametrize(
    ("path", "value", "field", "code"),
    [
        ("type", None, "type", "field_required"),
        ("type", 5, "type", "field_required"),
        ("type", "x" * 257, "type", "fact_too_long"),
        ("event_timestamp", None, "event_timestamp", "field_required"),
        ("event_timestamp", "soon", "event_timestamp", "field_required"),
        ("event_timestamp", 1.5, "event_timestamp", "field_required"),
        ("event_timestamp", True, "event_timestamp", "field_required"),
        ("data", None, "data.conversation_id", "field_required"),
        ("data", [], "data.conversation_id", "field_required"),
        ("data.conversation_id", None, "data.conversation_id", "field_required"),
        ("data.conversation_id", 7, "data.conversation_id", "field_required"),
        ("data.conversation_id", "", "data.conversation_id", "fact_empty"),
        ("data.conversation_id", "a\x00b", "data.conversation_id", "fact_unkeepable"),
        ("data.conversation_id", "\ud800", "data.conversation_id", "fact_unkeepable"),
        ("data.agent_id", "x" * 257, "data.agent_id", "fact_too_long"),
    ],
)
def test_refuses_what_it_needs_and_names_the_field(path: str, value: object, field: str, code: str) -> None:
    """A needed field that is absent, mistyped or unkeepable is named in a 400."""
    payload = transcription()
    *parents, last = path.split(".")
    target = payload
    for parent in parents:
        target = target[parent]
    if value is None:
        del target[last]
    else:
        target[last] = value
    with pytest.raises(PayloadError) as caught:
        elevenlabs.read(json.dumps(payload).encode())
    assert (caught.value.field, caught.value.code) == (field, code)


def _set(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(payload: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        for parent in parents:
            payload = payload[parent]
        payload[last] = value

    return change


@pytest.mark.parametrize(
    "path",
    ["data.status", "data.metadata", "data.metadata.cost", "data.metadata.cost_fiat",
     "data.metadata.start_time_unix_secs", "data.conversation_initiation_client_data",
     "data.conversation_initiation_client_data.dynamic_variables", "data.transcript"],
)  # fmt: skip
@pytest.mark.parametrize("junk", [5, 1e300, "x", "", [], {}, True, None, "\ud800", 10**30, [{"a": "\ud800"}]])
def test_accepts_junk_in_fields_it_can_do_without(path: str, junk: object) -> None:
    """A signed event is not refused for what is in a field that is not needed."""
    payload = transcription()
    _set(path, junk)(payload)
    event = elevenlabs.read(json.dumps(payload).encode())
    assert event.conversation_id == "abc"
    assert event.event_class == "complete"


@pytest.mark.parametrize("junk", [5, [], {}, True, None, ""])
def test_agent_that_is_no_name_counts_as_absent(junk: object) -> None:
    """The agent's id helps to find a template; an event without one is still an event."""
    payload = transcription()
    payload["data"]["agent_id"] = junk
    assert elevenlabs.read(encoded(payload)).agent_id is None


HOSTILE_BODIES = {
    "empty": b"",
    "not JSON": b"hello",
    "cut": BODY[:-1],
    "trailing": BODY + b"x",
    "array": b"[]",
    "string": b'"x"',
    "null": b"null",
    "number": b"1",
    "BOM": b"\xef\xbb\xbf" + BODY,
    "UTF-16": BODY.decode().encode("utf-16"),
    "UTF-16 without BOM": BODY.decode().encode("utf-16-le"),
    "UTF-32": BODY.decode().encode("utf-32"),
    "invalid UTF-8 in a field that is skipped": BODY.replace(b"angelo", b"ang\xff"),
    "encoded surrogate in a field that is skipped": BODY.replace(b"angelo", b"\xed\xa0\x80"),
    "raw NUL": BODY.replace(b"angelo", b"\x00"),
    "depth 100,000": b'{"type":"x","data":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "depth 100,000 of objects": b'{"x":' * 100_000 + b"1" + b"}" * 100_000,
    "depth 100,000 never closed": b"[" * 100_000,
    "depth 100,000 behind NaN": b'{"a":NaN,"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}


@pytest.mark.parametrize("case", HOSTILE_BODIES)
def test_refuses_what_is_not_a_json_object_in_utf8(case: str) -> None:
    """A body that nobody can read is a 400 whose text quotes none of it."""
    with pytest.raises(PayloadError) as caught:
        elevenlabs.read(HOSTILE_BODIES[case])
    expected = "body_too_deep" if case.startswith("depth") else "body_not_"
    assert caught.value.code.startswith(expected)
    assert "angelo" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "extra",
    [
        b'"x": NaN',
        b'"x": [Infinity, -Infinity]',
        b'"x": 1e400',
        b'"x": ' + b"7" * 4301,
        b'"x": -' + b"7" * 10_000,
        b'"x": "\\ud800"',
        b'"\\udfff": 1',
        b'"x": "\\u0000"',
        b'"x": 1, "x": 2',
        b'"type": "post_call_audio"',  # repeated below: the last one counts, as in most parsers
        b'"data": {"conversation_id": 5}',
        b'"x": ' + b"[" * 300 + b"]" * 300,
    ],
)
def test_accepts_odd_json_in_fields_it_does_not_need(extra: bytes) -> None:
    """NaN, lone surrogates, endless numbers and repeated keys elsewhere do not lose an event."""
    assert elevenlabs.read(b"{" + extra + b"," + BODY[1:]) == elevenlabs.read(BODY)


@pytest.mark.parametrize("seconds", [10**13, -5])
def test_times_that_no_date_can_hold_are_left_out(seconds: int) -> None:
    """A timestamp far outside the calendar is kept in the key and not as a time."""
    payload = transcription()
    payload["event_timestamp"] = payload["data"]["metadata"]["start_time_unix_secs"] = seconds
    event = elevenlabs.read(encoded(payload))
    assert event.dedupe[2] == str(seconds)
    assert event.occurred_at_ms is None
    assert event.ending is not None
    assert (event.ending.started_at_ms, event.ending.ended_at_ms) == (None, None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "conversation_id": JSON | st.just("abc"),
        "agent_id": JSON,
        "status": JSON,
        "metadata": JSON | st.fixed_dictionaries({}, optional={"call_duration_secs": JSON, "cost": JSON}),
        "conversation_initiation_client_data": st.fixed_dictionaries(
            {"dynamic_variables": JSON | st.fixed_dictionaries({"canary_session_id": JSON})}
        ),
    },
)
PAYLOADS = st.fixed_dictionaries(
    {"type": JSON | st.sampled_from(["post_call_transcription", "post_call_audio", "new"])},
    optional={"event_timestamp": JSON | st.just(1739537297), "data": JSON | FIELDS},
)


@given(body=st.binary() | PAYLOADS.map(json.dumps).map(str.encode))
@example(body=b'{"type":"x","data":{"metadata":{"call_duration_secs":1e99999999999999999999}}}')
def test_read_gives_an_event_or_a_payload_error(body: bytes) -> None:
    """Whatever the bytes, reading ends in facts that can be kept or in a 400."""
    try:
        event = elevenlabs.read(body)
    except PayloadError:
        return
    assert isinstance(event, CallEvent)
    assert all(0 < len(part) <= 256 and "\x00" not in part for part in event.dedupe)
