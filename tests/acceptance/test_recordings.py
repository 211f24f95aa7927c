"""Canonical's `POST /api/v1/call` from end to end: a recording is handed in, measured, charged once and told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from relay.demo.embedded import EmbeddedPostgres, Scratch
from relay.outbox import keys
from relay.recordings import event
from tests import audio
from tests.customers import Customer
from tests.receiver import Receiver
from tests.recording_server import recording
from tests.stack import Stack, fresh_stack
from tests.waiting import eventually

PATH = "/api/v1/call"


@pytest.fixture
def proof(customer: Customer) -> dict[str, str]:
    """The header with a key of the customer."""
    return {"X-Canonical-Api-Key": customer.api_key().key}


def call(location: str, call_id: str = "25d739ee-413d-4159-b6a6-35b9da9bcee1") -> bytes:
    """Canonical's documented body."""
    assistant = {"id": "UNIQUE_ID_FOR_THE_ASSISTANT", "speaksFirst": True, "description": "Outbound Sales Agent"}
    return json.dumps({"assistant": assistant, "location": location, "callId": call_id}).encode()


def test_a_recording_is_measured_charged_once_and_told(
    stack: Stack, customer: Customer, proof: dict[str, str], receiver: Receiver
) -> None:
    """The same call twice: two fast answers, one delivery with its duration, one charge; the file is fetched once."""
    customer.endpoint(receiver.url, events=["canonical.recording"])
    with recording(audio.wav(90_000)) as server:
        answers = [stack.post(PATH, call(server.url), proof) for _ in range(2)]
        receiver.await_posts(1)
        stack.await_settled(customer)
        assert len(server.requests) == 1
    expected: Any = {"callId": "25d739ee-413d-4159-b6a6-35b9da9bcee1"}
    assert [(answer.status_code, answer.json()) for answer in answers] == [(200, expected)] * 2
    (post,) = receiver.posts
    assert post.headers["switchhook-event"] == "canonical.recording"
    assert json.loads(post.body) == expected | {
        "event": "recording",
        "assistant": {"id": "UNIQUE_ID_FOR_THE_ASSISTANT", "speaksFirst": True, "description": "Outbound Sales Agent"},
        "status": "completed",
        "durationSeconds": 90.0,
        "format": "wav",
        "code": None,
    }
    assert [str(charge.amount) for charge in stack.charges(customer)] == ["0.150000"]
    (session,) = stack.sessions(customer)
    assert (session.status, session.duration_seconds, session.provider) == ("completed", 90.0, "canonical")
    assert str(session.id) == post.headers["switchhook-session"]


def test_a_call_that_is_handed_in_again_days_later_is_the_call_that_was_charged(
    stack: Stack, customer: Customer, proof: dict[str, str], receiver: Receiver
) -> None:
    """Redis has forgotten it, and the file is another one: the same answer, and nothing is fetched, told or charged."""
    customer.endpoint(receiver.url)
    with recording(audio.wav(90_000)) as server:
        stack.post(PATH, call(server.url, "call_again"), proof)
        receiver.await_posts(1)
        stack.await_settled(customer)
        before = stack.charges(customer), stack.sessions(customer)
        known = [keys.event(one) for one in event.ids(customer.id, "call_again")]
        assert stack.redis.delete(*known) == 2
        with recording(audio.wav(30_000)) as other:
            answer = stack.post(PATH, call(other.url, "call_again"), proof)
            stack.await_settled(customer)
            assert other.requests == []
        assert len(server.requests) == 1
    assert (answer.status_code, answer.json()) == (200, {"callId": "call_again"})
    assert len(receiver.posts) == 1
    assert (stack.charges(customer), stack.sessions(customer)) == before
    assert stack.scrape()["switchhook_unaccounted_events"] == 0


def test_what_is_no_audio_fails_its_call_and_costs_nothing(
    stack: Stack, customer: Customer, proof: dict[str, str], receiver: Receiver
) -> None:
    """The session and the event say why; the ledger has no row."""
    customer.endpoint(receiver.url)
    with recording(b"<html>Please log in</html>") as server:
        stack.post(PATH, call(server.url, "call_page"), proof)
        (post,) = receiver.await_posts(1)
        stack.await_settled(customer)
    told = json.loads(post.body)
    assert (told["status"], told["code"], told["durationSeconds"]) == ("failed", "not_audio", None)
    (session,) = stack.sessions(customer)
    assert (session.status, session.failure_code, session.unrated_reason) == ("failed", "not_audio", None)
    assert stack.charges(customer) == []


def test_a_worker_that_is_killed_while_it_fetches_changes_nothing(
    scratch: Scratch, embedded_postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory, receiver: Receiver
) -> None:
    """kill -9 in the middle of a recording: another worker fetches it anew; one delivery, one charge."""
    with fresh_stack(scratch, embedded_postgres, logs=tmp_path_factory.mktemp("logs")) as stack:
        customer = stack.customers.create()
        customer.endpoint(receiver.url)
        headers = {"X-Canonical-Api-Key": customer.api_key().key}
        _, worker = stack.start("web", "worker")
        with recording(audio.wav(60_000), "hang") as server:
            assert stack.post(PATH, call(server.url), headers).status_code == 200
            eventually(lambda: server.requests, within_seconds=10, what="the first request")
            worker.kill()
            server.manner = "ranges"
            stack.end_leases()
            stack.start("worker")
            receiver.await_posts(1)
            stack.await_settled(customer)
        assert [json.loads(post.body)["durationSeconds"] for post in receiver.posts] == [60.0]
        assert [str(charge.amount) for charge in stack.charges(customer)] == ["0.100000"]
        assert stack.scrape()["switchhook_unaccounted_events"] == 0
