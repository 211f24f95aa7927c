"""What becomes of a recording: the facts and the body of its event, and when it is tried again."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from relay.calls import Ending, Facts
from relay.outbox.outcomes import decode_facts, encode_facts
from relay.recordings import event, request
from relay.recordings.measure import Measured
from relay.recordings.request import Assistant, HandedIn
from relay.recordings.schedule import SCHEDULE, wait_ms

HANDED_IN = HandedIn(
    assistant=Assistant(id="agent_1", speaks_first=False), location="https://a.example/x?token=hush", call_id="call_1"
)


def the_request() -> Facts:
    return request.facts_of(HANDED_IN, account_id="acc_1", now_ms=1_000)


@pytest.mark.parametrize(
    ("outcome", "ending"),
    [
        (Measured(Decimal("61.500"), "wav"), Ending(status="completed", duration_seconds="61.500")),
        ("unreachable", Ending(status="failed", code="unreachable")),
    ],
)
def test_the_event_ends_the_call(outcome: Measured | str, ending: Ending) -> None:
    """Its own id and time; the session, the agent and the account are those of the call that was handed in."""
    asked = the_request()
    facts = event.facts_of(asked, outcome, now_ms=9_000)
    assert facts.call.ending == ending
    assert (facts.call.type, facts.call.event_class, facts.call.livemode) == ("canonical.recording", "complete", True)
    assert (facts.session_id, facts.account_id, facts.call.agent_id) == (asked.session_id, "acc_1", "agent_1")
    assert (facts.accepted_at_ms, facts.call.occurred_at_ms) == (9_000, 1_000)
    assert facts.event_id != asked.event_id


def test_every_try_makes_the_same_event() -> None:
    """Whatever comes of it, and whoever makes it from what the outbox keeps."""
    asked = the_request()
    kept = decode_facts(encode_facts(asked), event_id=asked.event_id, account_id="acc_1")
    ids = {
        event.facts_of(facts, outcome, now_ms=now_ms).event_id
        for facts in (asked, kept)
        for outcome in ("unreachable", Measured(Decimal(1), "mp3"))
        for now_ms in (1, 2)
    }
    assert len(ids) == 1


def test_the_body_is_metadata_of_our_own() -> None:
    """The duration as it was measured; of the address nothing."""
    body = event.body_of(the_request(), HANDED_IN.assistant, Measured(Decimal("61.500"), "wav")).reveal()
    assert body == (
        b'{"event":"recording","callId":"call_1","assistant":{"id":"agent_1","speaksFirst":false},'
        b'"status":"completed","durationSeconds":61.500,"format":"wav","code":null}'
    )


def test_a_failure_tells_its_code() -> None:
    """And no duration, which is not 0."""
    body = msgspec.json.decode(event.body_of(the_request(), None, "too_large").reveal())
    assert body == {
        "event": "recording",
        "callId": "call_1",
        "assistant": {"id": "agent_1"},
        "status": "failed",
        "durationSeconds": None,
        "format": None,
        "code": "too_large",
    }


def test_what_was_handed_in_does_not_show_itself() -> None:
    """Neither its address nor its description in a trace or a log."""
    shown = repr(HANDED_IN) + repr(HANDED_IN.assistant) + str(HANDED_IN)
    assert "hush" not in shown
    assert "agent_1" not in shown


@pytest.mark.parametrize(
    ("attempts", "jitter", "expected"),
    [
        (1, 0.0, 5_000),
        (1, 1.0, 6_000),
        (1, -1.0, 4_000),
        (2, 0.0, 30_000),
        (3, 0.0, 120_000),
        (4, 0.0, 600_000),
        (5, 0.0, 1_800_000),
        (6, 0.0, None),
        (7, 0.0, None),
    ],
)
def test_the_schedule(attempts: int, jitter: float, expected: int | None) -> None:
    """Five waits, 20 % more or less, then it is enough."""
    assert len(SCHEDULE) == 5
    assert wait_ms(attempts, jitter=jitter) == expected
