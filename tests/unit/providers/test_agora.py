"""Agora's signatures and notifications, by its documents: it publishes no package that verifies them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.calls import CallEvent, Ending
from relay.errors import EventIgnored, PayloadError
from relay.providers import PROVIDERS, agora

SECRET = "secret"
OTHER = "another"
NOTIFIED_MS = 1_611_566_412_672
AGENT = "1NT29X10YHxxxxxWJOXLYHNYB"
ACCOUNT = "acc_" + "a2" * 13
# Agora docs, "Verify the signature": of another product, which does not matter here.
DOCUMENTED = (
    b'{"eventMs":1560408533119,"eventType":10,"noticeId":"4eb720f0-8da7-11e9-a43e-53f411c2761f",'
    b'"notifyMs":1560408533119,"payload":{"a":"1","b":2},"productId":1}'
)
V1 = "033c62f40f687675f17f0f41f91a40c71c0f134c"
V2 = "6d3320c60b11101395b7fc8f9068748808a0aa1bfa064438e39d1bc2c7d74d99"

LEFT: dict[str, Any] = {
    "agent_id": AGENT,
    "name": "my-agent",
    "start_ts": 1_737_111_452,
    "stop_ts": 1_737_111_455,
    "channel": "xxxxx",
    "status": "STOPPED",
    "message": "OK",
    "labels": {"campaign_id": "test_campaign"},
}


def notification(event_type: int, payload: dict[str, Any], **changes: Any) -> bytes:
    """A notification; None among the changes removes a member."""
    envelope = {
        "sid": "C866467GVJJ54687",
        "noticeId": "2000001428:4330:107",
        "productId": 17,
        "eventType": event_type,
        "notifyMs": NOTIFIED_MS,
        "payload": payload,
    }
    return json.dumps({name: value for name, value in (envelope | changes).items() if value is not None}).encode()


def ending_of(**changes: Any) -> Ending:
    ending = agora.read(notification(102, LEFT | changes)).ending
    assert ending is not None
    return ending


def verifies(signature: str | None, *, body: bytes = DOCUMENTED, secrets: tuple[str, ...] = (SECRET,)) -> bool:
    return agora.verify(body, signature, secrets=secrets, now_ms=0)


def test_is_registered_under_its_name() -> None:
    """The registry finds the module, whose better signature comes first."""
    assert PROVIDERS["agora"].SIGNATURE_HEADERS == ("Agora-Signature-V2", "Agora-Signature")


def test_takes_and_makes_the_documented_signatures() -> None:
    """Both hashes of the documents' own example."""
    assert verifies(V1)
    assert verifies(V2)
    assert agora.sign(DOCUMENTED, secret=SECRET, now_ms=0) == (("Agora-Signature-V2", V2), ("Agora-Signature", V1))


def test_accepts_any_of_several_secrets() -> None:
    """During a rotation both are good; no secret or an empty one proves nothing."""
    for secret in (SECRET, OTHER):
        for _, signature in agora.sign(DOCUMENTED, secret=secret, now_ms=0):
            assert verifies(signature, secrets=(SECRET, OTHER))
            assert not verifies(signature, secrets=())
    for _, signature in agora.sign(DOCUMENTED, secret="", now_ms=0):
        assert not verifies(signature, secrets=("",))


MUTATIONS: dict[str, str | None] = {
    "missing": None,
    "empty": "",
    "upper case": V2.upper(),
    "upper case, old": V1.upper(),
    "cut": V2[:-1],
    "longer": V2 + "0",
    "as long as the older one": V2[:40],
    "the older one, filled up": V1.ljust(64, "0"),
    "leading space": " " + V2,
    "line end": V2 + "\n",
    "doubled": f"{V2},{V2}",
    "prefixed": f"sha256={V2}",
    "one megabyte": V2 + "0" * 1_000_000,
    "non-ASCII": V2[:-1] + "\u00e9",
    "lone surrogate": V2[:-1] + "\ud800",
    "another secret": agora.sign(DOCUMENTED, secret=OTHER, now_ms=0)[0][1],
    "another secret, old": agora.sign(DOCUMENTED, secret=OTHER, now_ms=0)[1][1],
    "re-serialised body": agora.sign(json.dumps(json.loads(DOCUMENTED)).encode(), secret=SECRET, now_ms=0)[0][1],
}


@pytest.mark.parametrize("case", MUTATIONS)
def test_refuses_mutated_header(case: str) -> None:
    """A9: no mutation of a good header verifies, and none raises."""
    assert verifies(MUTATIONS[case]) is False


@pytest.mark.parametrize("good", [V1, V2])
def test_refuses_every_single_flipped_character(good: str) -> None:
    """Each character of the header matters, and each byte of the body."""
    for place, character in enumerate(good):
        assert not verifies(good[:place] + chr(ord(character) ^ 1) + good[place + 1 :])
    for place in range(len(DOCUMENTED)):
        assert not verifies(good, body=DOCUMENTED[:place] + bytes([DOCUMENTED[place] ^ 1]) + DOCUMENTED[place + 1 :])


@given(signature=st.none() | st.text() | st.from_regex(r"[0-9a-f]{39,65}", fullmatch=True), body=st.binary())
def test_verify_answers_every_header(signature: str | None, body: bytes) -> None:
    """Whatever the header, the answer is no, never an exception."""
    assert agora.verify(body, signature, secrets=(SECRET, OTHER), now_ms=0) is False


def test_an_agent_that_left_completes_its_session() -> None:
    """By its start and its stop, which are seconds."""
    assert agora.read(notification(102, LEFT)) == CallEvent(
        provider="agora",
        kind="agent_left",
        event_class="complete",
        conversation_id=AGENT,
        dedupe=("2000001428:4330:107",),
        agent_id=AGENT,
        occurred_at_ms=1_737_111_455_000,
        ending=Ending(
            status="completed",
            duration_seconds="3",
            started_at_ms=1_737_111_452_000,
            ended_at_ms=1_737_111_455_000,
        ),
        sent_at_ms=NOTIFIED_MS,
    )


EVENTS: dict[int, tuple[str, dict[str, Any], int | None]] = {
    101: ("agent_joined", {"start_ts": 1_737_111_452}, 1_737_111_452_000),
    102: ("agent_left", {"start_ts": 1, "stop_ts": 1_737_111_455}, 1_737_111_455_000),
    103: ("agent_history", {"start_ts": 1, "stop_ts": 1_737_111_455, "contents": [{}]}, 1_737_111_455_000),
    104: ("agent_expired", {"start_ts": 1_737_111_452, "message": "Task exceeded maximum lifetime"}, None),
    110: ("agent_error", {"start_ts": 1_737_111_452, "turn_id": "", "errors": [{"code": 503}]}, None),
    111: ("agent_metrics", {"start_ts": 1, "stop_ts": 1_737_111_455, "metrics": [{}]}, 1_737_111_455_000),
    112: ("turns_finished", {"start_ts": 1_715_000_000_000, "stop_ts": 1_715_000_015_000}, 1_715_000_015_000),
    201: ("inbound_call_state", {"state": "ANSWERED", "report_ms": 1_737_111_452_000}, 1_737_111_452_000),
    202: ("outbound_call_state", {"state": "HANGUP", "report_ms": 1_737_111_452_000}, 1_737_111_452_000),
    1001: ("event_1001", {}, None),
    -1: ("event_-1", {}, None),
}


@pytest.mark.parametrize("number", EVENTS)
def test_reads_every_event(number: int) -> None:
    """Its name, its moment in its own unit; one begins the call, one ends it."""
    kind, payload, occurred_at_ms = EVENTS[number]
    event = agora.read(notification(number, {"agent_id": AGENT, "channel": "c", **payload}))
    assert (event.type, event.conversation_id, event.agent_id) == (f"agora.{kind}", AGENT, AGENT)
    assert event.occurred_at_ms == occurred_at_ms
    assert event.begins == (number == 101)
    assert (event.event_class == "complete") == (event.ending is not None) == (number == 102)
    assert event.livemode


@pytest.mark.parametrize(
    ("changes", "status", "seconds"),
    [
        ({}, "completed", "3"),
        ({"status": "FAILED", "message": "RTC connection error"}, "failed", "3"),
        ({"status": "FAILED", "stop_ts": 1_737_111_452}, "failed", "0"),
        ({"status": ["FAILED"]}, "completed", "3"),
        ({"stop_ts": 1_737_111_450}, "completed", "-2"),  # billing refuses it, and says so
        ({"stop_ts": "1737111459"}, "completed", "7"),
        ({"stop_ts": None}, "completed", None),
        ({"stop_ts": 1_737_111_455.5}, "completed", "unreadable"),
        ({"start_ts": "yesterday"}, "completed", "unreadable"),
        ({"start_ts": 1_737_111_452_000, "stop_ts": 1_737_111_455_000}, "completed", "3000"),  # milliseconds: no date
    ],
)
def test_endings(changes: dict[str, Any], status: str, seconds: str | None) -> None:
    """Whole seconds from start to stop; absent is not zero, and what is no number is not absent."""
    ending = ending_of(**changes)
    assert (ending.status, ending.duration_seconds) == (status, seconds)


def test_milliseconds_are_no_dates_of_an_ending() -> None:
    """Seconds that lie after the year 9999 are kept as no moment."""
    assert ending_of(start_ts=1_737_111_452_000).started_at_ms is None


def test_repeats_are_known_by_their_notice() -> None:
    """`notifyMs` changes with each repeat, and says nothing else than when this one was sent."""
    first, again = (agora.read(notification(102, LEFT, notifyMs=moment)) for moment in (1, 2))
    assert first.dedupe == again.dedupe
    assert (first.sent_at_ms, again.sent_at_ms) == (1, 2)
    assert agora.read(notification(102, LEFT, noticeId="other")).dedupe != first.dedupe


@pytest.mark.parametrize(
    ("labels", "account", "session", "template"),
    [
        ({"switchhook_account": ACCOUNT, "switchhook_session": "7", "switchhook_template": "3"}, ACCOUNT, 7, 3),
        ({"switchhook_account": "acc_1", "switchhook_session": "x", "switchhook_template": ""}, None, None, None),
        ({"switchhook_account": ACCOUNT + "a"}, None, None, None),
        ({"switchhook_account": 7, "switchhook_session": 7}, None, 7, None),
        ({"switchhook_session": "0"}, None, None, None),
        (["switchhook_account"], None, None, None),
        ({}, None, None, None),
        (None, None, None, None),
    ],
)
def test_labels_name_account_session_and_template(
    labels: Any, account: str | None, session: int | None, template: int | None
) -> None:
    """Those that we gave; what cannot be an id is none, and never a reason to refuse."""
    event = agora.read(notification(101, LEFT | {"labels": labels}))
    assert (event.account_hint, event.session_hint, event.template_hint) == (account, session, template)


@pytest.mark.parametrize(
    "payload",
    [
        {"channelName": "test_webhook", "uid": 12121212},
        {"channel": "test_webhook"},
        {"channel": "c", "uid": "12121212"},
        {**LEFT, "channel": "test_webhook"},
    ],
)
@pytest.mark.parametrize("number", [101, 102, 103])
def test_what_the_console_sends_is_a_test(payload: dict[str, Any], number: int) -> None:
    """Also without an agent; it is taken, and charges nobody."""
    event = agora.read(notification(number, payload))
    assert not event.livemode
    assert event.conversation_id


def test_a_channel_with_the_tests_name_is_charged_all_the_same() -> None:
    """Who carries our label is no test: a customer names the channel, and would call for free."""
    labelled = LEFT | {"channel": "test_webhook", "labels": {"switchhook_account": ACCOUNT}}
    assert agora.read(notification(102, labelled)).livemode


@pytest.mark.parametrize("product", [1, 3, 4, 5, 170])
def test_another_products_event_is_ignored(product: int) -> None:
    """Its numbers mean other things: 102 of RTC is a channel that was closed."""
    with pytest.raises(EventIgnored):
        agora.read(notification(102, LEFT, productId=product))
    with pytest.raises(EventIgnored):
        agora.read(DOCUMENTED)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{}", "productId"),
        (notification(102, LEFT, productId="Conversational AI"), "productId"),
        (b'{"productId":17}', "eventType"),
        (notification(102, LEFT, noticeId=None), "noticeId"),
        (notification(102, LEFT, noticeId=7), "noticeId"),
        (notification(102, LEFT, notifyMs=None), "notifyMs"),
        (notification(1001, {}, notifyMs="soon"), "notifyMs"),
        (notification(102, {}), "payload.agent_id"),
        (notification(102, LEFT | {"agent_id": 5}), "payload.agent_id"),
        (notification(104, LEFT | {"agent_id": "a" * 257}), "payload.agent_id"),
        (notification(1001, {"agent_id": "\x00"}), "payload.agent_id"),
        (b'{"productId":17,"eventType":102,"payload":[{"agent_id":"a"}]}', "payload.agent_id"),
        (b"[]", None),
        (b"\xef\xbb\xbf{}", None),
        (b"[" * 100_000, None),
    ],
)
def test_refuses_what_it_needs_and_names_the_field(body: bytes, field: str | None) -> None:
    """A needed field that is absent, mistyped or unkeepable is named in a 400."""
    with pytest.raises(PayloadError) as caught:
        agora.read(body)
    assert caught.value.field == field


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
PAYLOADS = st.fixed_dictionaries(
    {"agent_id": JSON | st.just(AGENT)},
    optional={
        name: JSON | st.integers(0, 2_000_000_000_000)
        for name in ("channel", "status", "start_ts", "stop_ts", "report_ms", "uid", "labels")
    },
)
ENVELOPES = st.fixed_dictionaries(
    {"productId": JSON | st.just(17), "eventType": JSON | st.sampled_from([101, 102, 112, 1001])},
    optional={"noticeId": JSON | st.just("n"), "notifyMs": JSON | st.integers(), "payload": JSON | PAYLOADS},
)


@given(body=st.binary() | ENVELOPES.map(json.dumps).map(str.encode))
def test_read_gives_an_event_or_a_refusal(body: bytes) -> None:
    """Whatever the bytes, reading ends in facts that can be kept, in a 400, or in another product's business."""
    try:
        event = agora.read(body)
    except (PayloadError, EventIgnored):
        return
    assert isinstance(event, CallEvent)
    assert all(0 < len(part) <= 256 and "\x00" not in part for part in (*event.dedupe, event.conversation_id))
