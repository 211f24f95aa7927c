"""What a provider signs is answered as the contract says, delivered byte for byte, and charged once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from elevenlabs.client import ElevenLabs
from standardwebhooks import Webhook

from relay.calls import derived_session_id
from relay.store.endpoints import Endpoint
from tests.customers import Customer
from tests.payloads import elevenlabs_headers, elevenlabs_transcription, retell_event, retell_headers
from tests.receiver import Post, Receiver
from tests.stack import Stack


@dataclass(frozen=True, slots=True)
class Case:
    """A provider's terminal event: how it is proved, and what its delivery and its charge must say."""

    provider: str
    body: bytes
    prove: Callable[[bytes, str], Mapping[str, str]]
    conversation_id: str
    type: str
    occurred_at: str | None
    amount: Decimal


CASES = [
    Case(
        "elevenlabs",
        elevenlabs_transcription("conv_1", seconds=22, timestamp_seconds=1_795_000_000, said="¡Hola! 👋"),
        elevenlabs_headers,
        "conv_1",
        "elevenlabs.post_call_transcription",
        "2026-11-18T11:06:40.000Z",
        Decimal("0.036667"),  # 22 s x 0.10 / 60
    ),
    Case(
        "retell",
        retell_event("call_ended", "call_1", seconds=91, start_ms=1_795_000_000_000, said="¡Hola! 👋"),
        retell_headers,
        "call_1",
        "retell.call_ended",
        "2026-11-18T11:08:11.000Z",
        Decimal("0.151667"),  # 91 s x 0.10 / 60
    ),
]
each_provider = pytest.mark.parametrize("case", CASES, ids=lambda case: case.provider)


@each_provider
def test_delivers_a_signed_webhook_byte_for_byte(
    stack: Stack, customer: Customer, receiver: Receiver, case: Case
) -> None:
    """The customer gets the provider's bytes and Content-Type, with every header of the contract."""
    source = customer.source(case.provider, relay_url=receiver.url)
    headers = {**case.prove(case.body, source.secret), "Content-Type": "application/json; charset=utf-8"}

    answer = stack.post(source.url, case.body, headers)

    [post] = receiver.await_posts(1)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.text == f'{{"received":true,"id":"{post.event_id}","repeat":false}}'
    assert post.body == case.body
    assert source.endpoint is not None
    assert_standard_headers(post, source.endpoint)
    session = derived_session_id(customer.id, case.provider, case.conversation_id)
    assert post.headers["content-type"] == "application/json; charset=utf-8"
    assert post.headers["switchhook-event"] == case.type
    assert post.headers["switchhook-session"] == str(session)
    assert post.headers["switchhook-attempt"] == "1"
    assert post.headers["switchhook-occurred-at"] == case.occurred_at
    assert "switchhook-refetched" not in post.headers


@each_provider
def test_charges_a_call_once_however_often_its_webhook_comes(
    stack: Stack, customer: Customer, receiver: Receiver, case: Case
) -> None:
    """A repeat, signed anew, is told so; there is one delivery and one charge."""
    source = customer.source(case.provider, relay_url=receiver.url)

    answers = [stack.post(source.url, case.body, case.prove(case.body, source.secret)).json() for _ in range(3)]
    stack.await_settled(customer)

    assert [answer["repeat"] for answer in answers] == [False, True, True]
    assert len({answer["id"] for answer in answers}) == 1
    assert receiver.per_event() == {answers[0]["id"]: 1}
    assert [(c.conversation_id, c.kind, c.amount, c.currency) for c in stack.charges(customer)] == [
        (case.conversation_id, "charge", case.amount, "USD")
    ]
    assert [(d.event_id, d.status, d.attempts) for d in stack.deliveries(customer)] == [
        (answers[0]["id"], "delivered", 1)
    ]


def test_takes_what_the_official_elevenlabs_package_takes(stack: Stack, customer: Customer) -> None:
    """A signature that the official package's verifier accepts is accepted, even 29 minutes old."""
    source = customer.source("elevenlabs")
    body = elevenlabs_transcription("conv_2")
    headers = elevenlabs_headers(body, source.secret, at_seconds=int(time.time()) - 29 * 60)

    event = ElevenLabs(api_key="unused").webhooks.construct_event(
        body.decode(), headers["ElevenLabs-Signature"], source.secret
    )

    assert event["data"]["conversation_id"] == "conv_2"
    assert stack.post(source.url, body, headers).status_code == 200


def test_knows_a_source_that_was_made_a_moment_ago(stack: Stack, customer: Customer) -> None:
    """A second source of an account that is in use takes webhooks at once: ElevenLabs does not repeat after a 404."""
    first = customer.source("retell")
    body = retell_event("call_started", "call_2")
    stack.post(first.url, body, retell_headers(body, "not its key"))

    second = customer.source("retell")

    assert stack.post(second.url, body, retell_headers(body, second.secret)).status_code == 200


def test_relays_an_unknown_event_without_charging_it(stack: Stack, customer: Customer, receiver: Receiver) -> None:
    """A type that did not exist when this was written reaches the customer as it came."""
    source = customer.source("retell", relay_url=receiver.url)
    body = b'{"event":"call_teleported","call":{"call_id":"call_3"}}'

    answer = stack.post(source.url, body, retell_headers(body, source.secret))
    stack.await_settled(customer)

    assert answer.status_code == 200
    assert [(post.body, post.headers["switchhook-event"]) for post in receiver.posts] == [
        (body, "retell.call_teleported")
    ]
    assert stack.charges(customer) == []


def test_leaves_a_call_without_duration_unrated(stack: Stack, customer: Customer) -> None:
    """Absent is not zero: the session says why it was not charged."""
    source = customer.source("retell")
    body = retell_event("call_ended", "call_4", start_timestamp=None, end_timestamp=None)

    stack.post(source.url, body, retell_headers(body, source.secret))
    stack.await_settled(customer)

    assert stack.charges(customer) == []
    assert [(s.conversation_id, s.cost, s.unrated_reason) for s in stack.sessions(customer)] == [
        ("call_4", None, "duration_missing")
    ]


def assert_standard_headers(post: Post, endpoint: Endpoint) -> None:
    """The proof is Standard Webhooks', verified by its official package; the secret is the endpoint's own."""
    Webhook(endpoint.signing_secrets[0]).verify(post.body.decode(), dict[str, Any](post.headers))
    assert abs(int(post.headers["webhook-timestamp"]) - time.time()) < 60
    assert post.headers["x-webhook-secret"] == endpoint.webhook_secret
    assert post.headers["webhook-id"].startswith("evt_")
