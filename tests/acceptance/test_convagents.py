"""CanaryLLM's inbound webhooks: proved by a template's secret, delivered in its envelope, charged once."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from relay.calls import derived_session_id
from relay.store.templates import NewTemplate
from tests.customers import Customer
from tests.payloads import ODD_MEMBERS, elevenlabs_headers, elevenlabs_transcription
from tests.receiver import Receiver
from tests.stack import Stack
from tests.waiting import eventually

PATH = "/api/convagents/webhook"


def secret_of(made: NewTemplate) -> dict[str, str]:
    """The header that proves a request under a template."""
    return {"X-Webhook-Secret": made.template.webhook_secret}


@pytest.mark.parametrize("route", ["event", "complete"])
def test_puts_the_body_byte_for_byte_into_the_envelope(
    stack: Stack, customer: Customer, receiver: Receiver, route: str
) -> None:
    """The envelope has exactly the documented members, and the body's bytes as `data`."""
    made = customer.template(receiver.url, name='Büro "Nord"')
    body = b' {"conversationId": "conv_1",\n "durationSeconds":61 , ' + ODD_MEMBERS.encode() + b"} "

    answer = stack.post(f"{PATH}/{route}", body, secret_of(made))

    [post] = receiver.await_posts(1)
    session = derived_session_id(customer.id, "elevenlabs", "conv_1")
    timestamp = re.search(rb'"timestamp":"([^"]+)"', post.body)
    assert timestamp is not None
    head = (
        f'{{"event":"{route}","sessionId":{session},"templateId":{made.template.id},'
        f'"templateName":"Büro \\"Nord\\"","timestamp":"{timestamp[1].decode()}","data":'
    )
    assert answer.text == f'{{"success":true,"data":{{"received":true,"id":"{post.event_id}"}}}}'
    assert post.body == head.encode() + body + b"}"
    assert abs(accepted_at(timestamp[1]) - time.time()) < 60
    assert post.headers["x-webhook-secret"] == made.template.webhook_secret
    assert post.headers["content-type"] == "application/json"
    assert post.headers["switchhook-event"] == f"elevenlabs.{route}"


def test_an_endpoint_that_is_our_own_ingress_is_stopped(stack: Stack, customer: Customer) -> None:
    """A7: its secret would prove each round, and each round would be an event of its own."""
    made = customer.template(f"{stack.url}{PATH}/event")

    answer = stack.post(f"{PATH}/event", b'{"conversationId":"conv_1"}', secret_of(made))
    assert answer.status_code == 200

    def attempts() -> list[int]:
        return [delivery.attempts for delivery in stack.deliveries(customer)]

    eventually(lambda: any(attempts()), within_seconds=10, what="a failed attempt")
    [delivery] = stack.deliveries(customer)
    assert (delivery.status, delivery.code, delivery.history[0].http_status) == ("pending", "http_508", 508)


@pytest.mark.parametrize(
    "body",
    [
        b'{"sessionId":%d}',
        b'{"sessionId":"%d"}',
        b'{"canary_session_id":%d}',
        b'{"data":{"conversation_initiation_client_data":{"dynamic_variables":{"canary_session_id":"%d"}}}}',
    ],
)
def test_finds_the_session_that_the_body_names(
    stack: Stack, customer: Customer, receiver: Receiver, body: bytes
) -> None:
    """A session that was opened before the call keeps its id in every delivery."""
    made = customer.template(receiver.url)
    session = customer.session(made.template.id)

    stack.post(f"{PATH}/event", body % session, secret_of(made))

    [post] = receiver.await_posts(1)
    assert post.body.startswith(b'{"event":"event","sessionId":%d,"templateId":%d,' % (session, made.template.id))
    assert post.headers["switchhook-session"] == str(session)


def test_knows_a_template_that_was_made_a_moment_ago(stack: Stack, customer: Customer) -> None:
    """A template of an account that is in use proves requests at once, even if its secret was tried before."""
    first = customer.template(None)
    stack.post(f"{PATH}/event", b'{"conversationId":"conv_2"}', secret_of(first))
    early = stack.post(f"{PATH}/event", b'{"conversationId":"conv_2"}', {"X-Webhook-Secret": f"chosen-{customer.id}"})

    second = customer.template(None, webhook_secret=f"chosen-{customer.id}")

    assert early.status_code == 401
    assert stack.post(f"{PATH}/event", b'{"conversationId":"conv_2"}', secret_of(second)).status_code == 200


def test_charges_a_completed_session_by_its_duration(stack: Stack, customer: Customer) -> None:
    """61 s at 0.10 USD a minute, under the session that was opened before the call."""
    made = customer.template(None)
    session = customer.session(made.template.id)

    stack.post(f"{PATH}/complete", b'{"sessionId":%d,"durationSeconds":61}' % session, secret_of(made))
    stack.await_settled(customer)

    assert [(c.session_id, c.provider, c.amount) for c in stack.charges(customer)] == [
        (session, "elevenlabs", Decimal("0.101667"))
    ]
    assert [(s.id, s.status, s.template_id) for s in stack.sessions(customer)] == [
        (session, "completed", made.template.id)
    ]


def test_leaves_a_completed_session_without_duration_unrated(stack: Stack, customer: Customer) -> None:
    """It is not charged nothing: it says why it has no price."""
    made = customer.template(None)

    stack.post(f"{PATH}/complete", b'{"conversationId":"conv_3"}', secret_of(made))
    stack.await_settled(customer)

    assert stack.charges(customer) == []
    assert [(s.status, s.cost, s.unrated_reason) for s in stack.sessions(customer)] == [
        ("completed", None, "duration_missing")
    ]


@pytest.mark.parametrize("signed_first", [True, False])
def test_charges_complete_and_the_signed_webhook_of_one_conversation_once(
    stack: Stack, customer: Customer, receiver: Receiver, signed_first: bool
) -> None:
    """The customer gets both, and pays for one call."""
    agent_id = f"agent-of-{customer.id}"
    customer.grant("elevenlabs", agent_id)
    source, made = customer.source("elevenlabs"), customer.template(receiver.url, agent_id=agent_id)
    signed = elevenlabs_transcription("conv_4", seconds=61, agent_id=agent_id)
    sending: list[tuple[str, bytes, dict[str, str]]] = [
        (f"{PATH}/complete", b'{"conversationId":"conv_4","durationSeconds":61}', secret_of(made)),
        (source.url, signed, elevenlabs_headers(signed, source.secret)),
    ]

    for path, body, headers in reversed(sending) if signed_first else sending:
        assert stack.post(path, body, headers).ok
        stack.await_settled(customer)

    assert len(receiver.posts) == 2
    assert [(c.kind, c.conversation_id, c.amount) for c in stack.charges(customer)] == [
        ("charge", "conv_4", Decimal("0.101667"))
    ]
    assert [s.cost for s in stack.sessions(customer)] == [Decimal("0.101667")]


def test_takes_complete_with_a_signature_of_elevenlabs(stack: Stack, customer: Customer, receiver: Receiver) -> None:
    """ElevenLabs may post to /complete itself: its signature proves it, its agent finds the template."""
    customer.grant("elevenlabs", f"agent-of-{customer.id}")
    source, made = customer.source("elevenlabs"), customer.template(receiver.url, agent_id=f"agent-of-{customer.id}")
    body = elevenlabs_transcription("conv_5", agent_id=f"agent-of-{customer.id}")

    answers = [stack.post(f"{PATH}/complete", body, elevenlabs_headers(body, source.secret)) for _ in range(2)]
    forged = stack.post(f"{PATH}/complete", body, elevenlabs_headers(body, "not the secret"))
    stack.await_settled(customer)

    [post] = receiver.posts
    assert [answer.status_code for answer in answers] == [200, 200]
    assert forged.status_code == 401
    assert f'"templateId":{made.template.id},'.encode() in post.body
    assert post.headers["switchhook-event"] == "elevenlabs.post_call_transcription"
    assert [c.conversation_id for c in stack.charges(customer)] == ["conv_5"]


def test_knows_a_repeat_by_its_idempotency_key(stack: Stack, customer: Customer, receiver: Receiver) -> None:
    """The same key is the same event whatever the body; the same body under another key is another event."""
    made = customer.template(receiver.url)

    def post(body: bytes, key: str) -> Any:
        headers = {**secret_of(made), "Idempotency-Key": key}
        return stack.post(f"{PATH}/event", body, headers).json()["data"]["id"]

    first, again = post(b'{"conversationId":"conv_6"}', "one"), post(b'{"conversationId":"conv_6", "n":2}', "one")
    other = post(b'{"conversationId":"conv_6"}', "two")
    stack.await_settled(customer)

    assert first == again != other
    assert receiver.per_event() == {first: 1, other: 1}


def test_asks_which_template_when_several_have_the_secret(stack: Stack, customer: Customer) -> None:
    """The agent or templateId decides; without either the request is refused with a code and a field."""
    shared = f"shared-by-{customer.id}"
    customer.grant("elevenlabs", f"1-{customer.id}", f"2-{customer.id}")
    first, second = (customer.template(None, webhook_secret=shared, agent_id=f"{n}-{customer.id}") for n in (1, 2))
    headers = {"X-Webhook-Secret": shared}

    refused = stack.post(f"{PATH}/event", b'{"conversationId":"conv_7"}', headers)
    by_id = stack.post(f"{PATH}/event", b'{"conversationId":"conv_7","templateId":%d}' % second.template.id, headers)
    by_agent = stack.post(
        f"{PATH}/event", b'{"conversationId":"conv_7","agentId":"1-%b"}' % customer.id.encode(), headers
    )

    assert refused.status_code == 400
    assert (refused.json()["code"], refused.json()["details"]) == ("template_ambiguous", {"field": "templateId"})
    assert (by_id.status_code, by_agent.status_code) == (200, 200)
    assert first.template.id != second.template.id


def test_refuses_a_session_of_another_template(stack: Stack, customer: Customer) -> None:
    """A template's secret opens its own sessions only."""
    made, other = customer.template(None), customer.template(None)
    session = customer.session(other.template.id)

    answer = stack.post(f"{PATH}/event", b'{"sessionId":%d}' % session, secret_of(made))

    assert (answer.status_code, answer.json()["code"]) == (404, "session_not_found")


def accepted_at(timestamp: bytes) -> float:
    """An envelope's timestamp as Unix seconds; it must have the documented form, with milliseconds and Z."""
    return datetime.strptime(timestamp.decode(), "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC).timestamp()
