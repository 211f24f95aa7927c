"""Which endpoints an event goes to, and that each has its own fate."""

from __future__ import annotations

from requests import Response

from tests.customers import Customer, Inlet
from tests.payloads import elevenlabs_headers, elevenlabs_transcription, retell_event, retell_headers
from tests.receiver import Receiver, receiving
from tests.stack import Stack


def send(stack: Stack, source: Inlet, event: str, call_id: str) -> str:
    """Post a Retell event; its id."""
    body = retell_event(event, call_id)
    return event_id_of(stack.post(source.url, body, retell_headers(body, source.secret)))


def event_id_of(answer: Response) -> str:
    """The id in an answer to an accepted webhook."""
    assert answer.status_code == 200
    event_id: str = answer.json()["id"]
    return event_id


def test_prefers_the_template_to_the_source(
    stack: Stack, customer: Customer, receiver: Receiver, other_receiver: Receiver
) -> None:
    """An agent's template takes its events from the source's own endpoint; other agents' events stay with it."""
    source = customer.source("elevenlabs", relay_url=other_receiver.url)
    customer.grant("elevenlabs", "agent_of_template")
    customer.template(receiver.url, agent_id="agent_of_template")
    bound_body = elevenlabs_transcription("conv_1", agent_id="agent_of_template")
    other_body = elevenlabs_transcription("conv_2", agent_id="another_agent")

    bound, unbound = (
        event_id_of(stack.post(source.url, body, elevenlabs_headers(body, source.secret)))
        for body in (bound_body, other_body)
    )
    stack.await_settled(customer)

    assert receiver.per_event() == {bound: 1}
    assert receiver.posts[0].body.startswith(b'{"event":"complete",')
    assert receiver.posts[0].body.endswith(b'"data":' + bound_body + b"}")
    assert [(post.event_id, post.body) for post in other_receiver.posts] == [(unbound, other_body)]


def test_sends_to_account_wide_endpoints_what_their_filters_take(
    stack: Stack, customer: Customer, receiver: Receiver, other_receiver: Receiver
) -> None:
    """Each filter is a type or a pattern; an endpoint without one gets everything, from every source."""
    source, other_source = customer.source("retell"), customer.source("retell")
    with receiving() as everything:
        customer.endpoint(receiver.url, events=["retell.call_analyzed", "elevenlabs.*"])
        customer.endpoint(other_receiver.url, events=["retell.*"])
        customer.endpoint(everything.url)

        started = send(stack, source, "call_started", "call_3")
        analyzed = send(stack, other_source, "call_analyzed", "call_3")
        stack.await_settled(customer)

        assert receiver.per_event() == {analyzed: 1}
        assert other_receiver.per_event() == {started: 1, analyzed: 1}
        assert everything.per_event() == {started: 1, analyzed: 1}


def test_sends_to_the_source_and_the_whole_account(
    stack: Stack, customer: Customer, receiver: Receiver, other_receiver: Receiver
) -> None:
    """A source's own endpoint gets what comes from it; another source's events go to the account's endpoint only."""
    source, other_source = customer.source("retell", relay_url=receiver.url), customer.source("retell")
    customer.endpoint(other_receiver.url, headers={"X-Tenant": "blue"})

    mine, others = send(stack, source, "call_ended", "call_4"), send(stack, other_source, "call_ended", "call_5")
    stack.await_settled(customer)

    assert receiver.per_event() == {mine: 1}
    assert other_receiver.per_event() == {mine: 1, others: 1}
    assert {post.headers["x-tenant"] for post in other_receiver.posts} == {"blue"}
    assert len(stack.charges(customer)) == 2


def test_retries_only_the_endpoint_that_failed(
    stack: Stack, customer: Customer, receiver: Receiver, other_receiver: Receiver
) -> None:
    """One endpoint answers 500 and gets the same bytes again; the other gets the event once; the bill is one."""
    source = customer.source("retell", relay_url=receiver.url)
    customer.endpoint(other_receiver.url)
    receiver.next_replies(500)

    event_id = send(stack, source, "call_ended", "call_6")
    stack.await_settled(customer)

    first, second = receiver.posts
    assert [post.headers["switchhook-attempt"] for post in (first, second)] == ["1", "2"]
    assert (first.event_id, first.body) == (second.event_id, second.body)
    assert 4 <= second.at - first.at <= 7.5  # 5 s, jitter of 20 %, a tick of 1 s
    assert other_receiver.per_event() == {event_id: 1}
    fates = {delivery.endpoint_id: delivery for delivery in stack.deliveries(customer)}
    assert source.endpoint is not None
    assert [(a.number, a.http_status, a.code) for a in fates[source.endpoint.id].history] == [
        (1, 500, "http_500"),
        (2, 200, None),
    ]
    assert sorted(delivery.attempts for delivery in fates.values()) == [1, 2]
    assert len(stack.charges(customer)) == 1


def test_disables_an_endpoint_that_answers_410(stack: Stack, customer: Customer, receiver: Receiver) -> None:
    """Its delivery is dead, and later events are not posted to it but recorded as dead too."""
    source = customer.source("retell", relay_url=receiver.url)
    receiver.next_replies(410)

    send(stack, source, "call_started", "call_7")
    stack.await_settled(customer)
    send(stack, source, "call_ended", "call_7")
    stack.await_settled(customer)

    assert len(receiver.posts) == 1
    assert [(d.status, d.code) for d in stack.deliveries(customer)] == [("dead", "endpoint_gone")] * 2
    assert len(stack.charges(customer)) == 1
