"""Retell's signatures and payloads, beside the official package."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from retell import Retell
from retell.lib import webhook_auth

from relay.calls import CallEvent, Ending
from relay.errors import PayloadError
from relay.providers import PROVIDERS, retell

KEY = "key_0123456789abcdef0123456789ab"
OTHER = "key_ba9876543210fedcba9876543210"
NOW_MS = 1_714_608_492_000


def ended() -> dict[str, Any]:
    """The sample of Retell docs, "Webhook Overview": its status is stale and it has no duration."""
    return {
        "event": "call_ended",
        "call": {
            "call_type": "phone_call",
            "from_number": "+12137771234",
            "to_number": "+12137771235",
            "direction": "inbound",
            "call_id": "Jabr9TXYYJHfvl6Syypi88rdAHYHmcq6",
            "agent_id": "oBeDLoLOeuAbiuaMFXRtDOLriTJ5tSxD",
            "call_status": "registered",
            "metadata": {},
            "retell_llm_dynamic_variables": {"customer_name": "John Doe"},
            "start_timestamp": 1714608475945,
            "end_timestamp": 1714608491736,
            "disconnection_reason": "user_hangup",
            "transcript": "...",
            "transcript_object": [],
            "transcript_with_tool_calls": [],
            "opt_out_sensitive_data_storage": False,
        },
    }


CALL_ID = "Jabr9TXYYJHfvl6Syypi88rdAHYHmcq6"
BODY = json.dumps(ended()).encode()


def event_of(kind: str, **changes: Any) -> CallEvent:
    """Read the sample as another event, with fields of its call changed; None removes one."""
    payload = ended()
    payload["event"] = kind
    payload["call"].update(changes)
    payload["call"] = {name: value for name, value in payload["call"].items() if value is not None}
    return retell.read(json.dumps(payload).encode())


def officially_signed(body: bytes, *, key: str = KEY, timestamp_ms: int = NOW_MS) -> str:
    signature: str = webhook_auth.symmetric["sign"](body.decode(), key, timestamp_ms)
    return signature


def verifies(signature: str | None, *, body: bytes = BODY, secrets: tuple[str, ...] = (KEY,)) -> bool:
    return retell.verify(body, signature, secrets=secrets, now_ms=NOW_MS)


def test_is_registered_under_its_name() -> None:
    """The registry finds the module by the provider's name."""
    assert PROVIDERS["retell"].SIGNATURE_HEADERS == ("X-Retell-Signature",)


def test_accepts_and_makes_official_signatures() -> None:
    """The official package signs what we accept, and writes what we write."""
    assert verifies(officially_signed(BODY))
    assert retell.sign(BODY, secret=KEY, now_ms=NOW_MS) == (("X-Retell-Signature", officially_signed(BODY)),)


def test_official_package_accepts_what_we_sign() -> None:
    """`Retell.verify` of the official package takes our header."""
    [(_, value)] = retell.sign(BODY, secret=KEY, now_ms=int(time.time() * 1000))
    assert Retell(api_key=KEY).verify(BODY.decode(), api_key=KEY, signature=value)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("offset_ms", "accepted"),
    [(-300_001, False), (-300_000, True), (-299_999, True), (0, True), (300_000, True), (300_001, False)],
)
def test_tolerates_five_minutes_either_way(offset_ms: int, accepted: bool) -> None:
    """300,000 ms pass and one more does not, before and after."""
    assert verifies(officially_signed(BODY, timestamp_ms=NOW_MS + offset_ms)) is accepted


def test_accepts_any_of_several_secrets() -> None:
    """During a rotation both keys are good; no key or an empty one proves nothing."""
    for key in (KEY, OTHER):
        assert verifies(officially_signed(BODY, key=key), secrets=(KEY, OTHER))
    assert not verifies(officially_signed(BODY, key=OTHER))
    assert not verifies(officially_signed(BODY), secrets=())
    assert not verifies(officially_signed(BODY, key=""), secrets=("",))


def _mutations() -> dict[str, str | None]:
    good = officially_signed(BODY)
    version, digest = good.split(",")
    return {
        "missing": None,
        "empty": "",
        "no timestamp": digest,
        "no digest": version,
        "space": good.replace(",", ", "),
        "leading space": " " + good,
        "line end": good + "\n",
        "upper-case digest": f"{version},d={digest[2:].upper()}",
        "cut": good[:-1],
        "longer": good + "0",
        "doubled": f"{good},{good}",
        "one megabyte": good + "0" * 1_000_000,
        "one megabyte of digits": f"v={'1' * 1_000_000},{digest}",
        "non-ASCII": good + "\u00e9",
        "lone surrogate": good[:-1] + "\ud800",
        "unicode digits": "v=" + "".join(chr(0x0660 + int(one)) for one in str(NOW_MS)) + f",{digest}",
        "plus sign": f"v=+{NOW_MS},{digest}",
        "underscore": f"v={NOW_MS // 10}_{NOW_MS % 10},{digest}",
        "negative": f"v=-{NOW_MS},{digest}",
        "leading zero": f"v=0{NOW_MS},{digest}",
        "another timestamp": f"v={NOW_MS + 1},{digest}",
        "another key": officially_signed(BODY, key=OTHER),
        "re-serialised body": officially_signed(json.dumps(ended(), indent=1).encode()),
    }


@pytest.mark.parametrize("case", _mutations())
def test_refuses_mutated_header(case: str) -> None:
    """No mutation of a good header verifies, and none raises."""
    assert verifies(_mutations()[case]) is False


def test_refuses_every_single_flipped_character() -> None:
    """Each character of the header matters, and each byte of the body."""
    good = officially_signed(BODY)
    for place, character in enumerate(good):
        assert not verifies(good[:place] + chr(ord(character) ^ 1) + good[place + 1 :])
    for place in range(len(BODY)):
        assert not verifies(good, body=BODY[:place] + bytes([BODY[place] ^ 1]) + BODY[place + 1 :])


@given(signature=st.none() | st.text() | st.from_regex(r"v=\d{0,20},d=[0-9a-f]{60,70}"), body=st.binary())
def test_verify_answers_every_header(signature: str | None, body: bytes) -> None:
    """Whatever the header, the answer is no, never an exception."""
    assert retell.verify(body, signature, secrets=(KEY, OTHER), now_ms=NOW_MS) is False


def test_reads_the_official_sample() -> None:
    """Without a duration of its own the call lasted from its start to its end, exact to the millisecond."""
    assert retell.read(BODY) == CallEvent(
        provider="retell",
        kind="call_ended",
        event_class="event",
        conversation_id=CALL_ID,
        dedupe=("call_ended", CALL_ID),
        agent_id="oBeDLoLOeuAbiuaMFXRtDOLriTJ5tSxD",
        occurred_at_ms=1714608491736,
        ending=Ending(
            status="completed",
            duration_seconds="15.791",
            started_at_ms=1714608475945,
            ended_at_ms=1714608491736,
        ),
    )


@pytest.mark.parametrize(
    ("kind", "status", "event_class", "has_ending"),
    [
        ("call_started", "ongoing", "event", False),
        ("call_ended", "ended", "event", True),  # call_analyzed will complete it
        ("call_ended", "not_connected", "event", True),  # these are analyzed too
        ("call_ended", "error", "complete", True),  # no analysis can follow
        ("call_analyzed", "ended", "complete", True),
        ("call_analyzed", "error", "complete", True),
        ("transcript_updated", "ongoing", "event", False),
        ("transfer_started", "ongoing", "event", False),
        ("transfer_ended", "ended", "event", False),
        ("call_reviewed", "ended", "event", False),  # of tomorrow
    ],
)
def test_classes_of_events(kind: str, status: str, event_class: str, has_ending: bool) -> None:
    """One event completes a call; both terminal events carry its ending."""
    event = event_of(kind, call_status=status)
    assert (event.event_class, event.ending is not None) == (event_class, has_ending)


@pytest.mark.parametrize("kind", ["call_started", "call_ended", "call_analyzed", "transcript_updated", "chat_started"])
def test_call_started_alone_tells_of_a_beginning(kind: str) -> None:
    """It comes once the call is connected; the others say nothing about when."""
    event = event_of("call_started") if kind == "call_started" else retell.read(_body_of(kind))
    assert event.begins is (kind == "call_started")
    assert event.occurred_at_ms == 1714608475945 or not event.begins


def _body_of(kind: str) -> bytes:
    return json.dumps(ended() | {"event": kind, "chat": {"chat_id": "chat_1"}}).encode()


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, "completed"),
        ({"call_status": "ended"}, "completed"),
        ({"call_status": "error"}, "failed"),
        ({"call_status": "not_connected"}, "failed"),
        ({"start_timestamp": None, "disconnection_reason": "dial_busy"}, "failed"),
        ({"start_timestamp": None, "disconnection_reason": "error_user_not_joined"}, "failed"),
        ({"start_timestamp": None, "disconnection_reason": "user_declined"}, "failed"),
        ({"start_timestamp": None, "disconnection_reason": "user_hangup"}, "completed"),  # then unrated, not free
        ({"disconnection_reason": "error_asr"}, "completed"),  # it was connected: it is rated
        ({"disconnection_reason": None}, "completed"),
    ],
)
def test_status_of_an_ended_call(changes: dict[str, Any], status: str) -> None:
    """A call that never connected has failed, also where the sample's call_status is stale."""
    ending = event_of("call_ended", **changes).ending
    assert ending is not None
    assert ending.status == status


@pytest.mark.parametrize(
    ("milliseconds", "seconds"),
    [
        ("15791", "15.791"),
        ("10000", "10"),
        ("1", "0.001"),
        ("0", "0"),
        ("-5000", "-5"),  # billing refuses it, and says so
        ("15791.25", "15.79125"),
        ('"15791"', "15.791"),
        ("1.5e4", "15"),
        ("123456789012345678", "unreadable"),  # some four million years
        ("1e400", "unreadable"),
        ("NaN", "NaN"),
        ("null", "15.791"),  # absent: from start to end
        ("true", "unreadable"),
        ("9" * 4301, "unreadable"),
    ],
)
def test_durations_are_exact_seconds(milliseconds: str, seconds: str) -> None:
    """Milliseconds become seconds by moving the decimal point, never through a float."""
    ending = retell.read(BODY.replace(b'"metadata": {}', b'"duration_ms": ' + milliseconds.encode())).ending
    assert ending is not None
    assert ending.duration_seconds == seconds


def test_absent_duration_is_not_zero() -> None:
    """Without a start there is no duration."""
    ending = event_of("call_ended", start_timestamp=None).ending
    assert ending is not None
    assert ending.duration_seconds is None


@pytest.mark.parametrize(
    ("cents", "dollars"),
    [("70", "0.7"), ("7.25", "0.0725"), ("0", "0"), ("1e2", "1"), ("null", None), ('"x"', None), ("1e99", None)],
)
def test_cost_is_cents(cents: str, dollars: str | None) -> None:
    """`combined_cost` counts US cents; it is kept as dollars, or not at all."""
    ending = retell.read(
        BODY.replace(b'"metadata": {}', b'"call_cost":{"combined_cost":' + cents.encode() + b"}")
    ).ending
    assert ending is not None
    assert ending.provider_cost_usd == dollars


def test_repeats_are_known_by_event_and_call() -> None:
    """Each call event comes once per call, so its content does not matter to its key."""
    assert event_of("call_analyzed", transcript="a").dedupe == event_of("call_analyzed", transcript="b").dedupe
    assert event_of("call_analyzed").dedupe == ("call_analyzed", CALL_ID)


def test_transfers_and_transcripts_come_several_times() -> None:
    """A transfer's key adds the start; a transcript's, and an unknown event's, the body."""
    assert event_of("transfer_started").dedupe == ("transfer_started", CALL_ID, "1714608475945")
    changes: list[tuple[str, dict[str, Any]]] = [
        ("transcript_updated", {"transcript": "b"}),
        ("call_reviewed", {"transcript": "b"}),
        ("transfer_started", {"start_timestamp": 5}),
    ]
    for kind, change in changes:
        assert event_of(kind).dedupe == event_of(kind).dedupe
        assert event_of(kind).dedupe != event_of(kind, **change).dedupe
    without_start = [event_of("transfer_started", start_timestamp=None, transcript=text).dedupe for text in "ab"]
    assert without_start[0] != without_start[1]


@pytest.mark.parametrize("kind", ["chat_started", "chat_ended", "chat_analyzed"])
def test_chats_are_relayed_and_not_charged(kind: str) -> None:
    """A chat is known by its own id and ends no call."""
    body = json.dumps({"event": kind, "chat": {"chat_id": "chat_1", "agent_id": "agent_1"}}).encode()
    event = retell.read(body)
    assert event == CallEvent(
        provider="retell",
        kind=kind,
        event_class="event",
        conversation_id="chat_1",
        dedupe=(kind, "chat_1"),
        agent_id="agent_1",
    )


def test_unknown_event_without_a_call_is_relayed() -> None:
    """The hash of the body stands in for the call's id."""
    body = json.dumps({"event": "call_inbound", "call_inbound": {"from_number": "+12137771234"}}).encode()
    event = retell.read(body)
    assert (event.event_class, event.ending, len(event.conversation_id)) == ("event", None, 32)


@pytest.mark.parametrize(
    ("changes", "session"),
    [
        ({"metadata": {"canary_session_id": 7}}, 7),
        ({"metadata": {"canary_session_id": "7"}}, 7),
        ({"retell_llm_dynamic_variables": {"canary_session_id": "8"}}, 8),
        ({"metadata": {"canary_session_id": "x"}, "retell_llm_dynamic_variables": {"canary_session_id": "8"}}, 8),
        ({"metadata": ["canary_session_id"]}, None),
        ({"metadata": None, "retell_llm_dynamic_variables": None}, None),
    ],
)
def test_session_hint_is_in_metadata_or_variables(changes: dict[str, Any], session: int | None) -> None:
    """A session is named in the call's metadata, else in its variables."""
    assert event_of("call_ended", **changes).session_hint == session


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{}", "event"),
        (b'{"event":5}', "event"),
        (b'{"event":"call_ended"}', "call.call_id"),
        (b'{"event":"call_ended","call":[]}', "call.call_id"),
        (b'{"event":"call_ended","call":{"call_id":5}}', "call.call_id"),
        (b'{"event":"transfer_started","call":{}}', "call.call_id"),
        (b'{"event":"chat_ended","call":{"call_id":"x"}}', "chat.chat_id"),
        (b'{"event":"call_ended","call":{"call_id":"\\u0000"}}', "call.call_id"),
        (b'{"event":"call_ended","call":{"call_id":"x","agent_id":"\\ud800"}}', "call.agent_id"),
        (b"[]", None),
        (b"\xef\xbb\xbf{}", None),
        (b"[" * 100_000, None),
    ],
)
def test_refuses_what_it_needs_and_names_the_field(body: bytes, field: str | None) -> None:
    """A needed field that is absent, mistyped or unkeepable is named in a 400."""
    with pytest.raises(PayloadError) as caught:
        retell.read(body)
    assert caught.value.field == field


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
CALLS = st.fixed_dictionaries(
    {"call_id": JSON | st.just("abc")},
    optional={
        name: JSON | st.integers(0, 2_000_000_000_000)
        for name in ("agent_id", "call_status", "start_timestamp", "end_timestamp", "duration_ms", "metadata")
    }
    | {"call_cost": JSON | st.fixed_dictionaries({"combined_cost": JSON})},
)
PAYLOADS = st.fixed_dictionaries(
    {"event": JSON | st.sampled_from(["call_ended", "call_analyzed", "transfer_started", "chat_ended", "new"])},
    optional={"call": JSON | CALLS, "chat": JSON | st.just({"chat_id": "c"})},
)


@given(body=st.binary() | PAYLOADS.map(json.dumps).map(str.encode))
def test_read_gives_an_event_or_a_payload_error(body: bytes) -> None:
    """Whatever the bytes, reading ends in facts that can be kept or in a 400."""
    try:
        event = retell.read(body)
    except PayloadError:
        return
    assert isinstance(event, CallEvent)
    assert all(0 < len(part) <= 256 and "\x00" not in part for part in event.dedupe)
