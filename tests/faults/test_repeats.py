"""Events that come again, at once, late, out of order, or in somebody else's name: one delivery and one bill."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from threading import Barrier
from typing import Any

import pytest

from relay.demo.embedded import EmbeddedPostgres, Scratch
from relay.store.charges import Charge
from tests.customers import Customer, Inlet
from tests.payloads import elevenlabs_headers, elevenlabs_transcription, retell_event, retell_headers
from tests.receiver import Receiver, receiving
from tests.stack import Stack, fresh_stack

AT_ONCE = 50


@pytest.fixture(scope="module")
def stack(
    scratch: Scratch, embedded_postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """One running system: nothing here breaks it."""
    with fresh_stack(scratch, embedded_postgres, logs=tmp_path_factory.mktemp("logs")) as stack:
        stack.start("web", "worker")
        yield stack
        assert stack.scrape()["switchhook_unaccounted_events"] == 0


def send(stack: Stack, source: Inlet, body: bytes) -> Any:
    """Post a Retell event; the answer's JSON."""
    answer = stack.post(source.url, body, retell_headers(body, source.secret))
    assert answer.status_code == 200
    return answer.json()


def bill(charges: Sequence[Charge]) -> dict[str, tuple[Decimal, int]]:
    """What each conversation costs in the end, and how many seconds of it: reversals taken off."""
    totals: dict[str, tuple[Decimal, int]] = {}
    for row in charges:
        amount, seconds = totals.get(row.conversation_id, (Decimal(0), 0))
        totals[row.conversation_id] = (amount + row.amount, seconds + row.billed_seconds)
    return totals


def test_a_reset_after_processing_is_retried_with_the_same_id_and_bytes(
    stack: Stack, customer: Customer, receiver: Receiver
) -> None:
    """F11: the receiver has the event but its answer is lost; it can know the retry by its webhook-id."""
    source = customer.source("retell", relay_url=receiver.url)
    receiver.next_replies("reset")

    event_id = send(stack, source, retell_event("call_ended", "call_1"))["id"]
    stack.await_settled(customer)

    first, second = receiver.posts
    assert first.event_id == second.event_id == event_id
    assert first.sha256 == second.sha256
    assert (first.headers["switchhook-attempt"], second.headers["switchhook-attempt"]) == ("1", "2")
    assert [(d.status, d.history[0].code) for d in stack.deliveries(customer)] == [("delivered", "truncated")]
    assert [c.kind for c in stack.charges(customer)] == ["charge"]


def test_the_same_event_many_times_at_once_is_one(stack: Stack, customer: Customer, receiver: Receiver) -> None:
    """F18: all are answered 2xx with one id, one of them as new; one delivery, one bill."""
    source = customer.source("retell", relay_url=receiver.url)
    body, gate = retell_event("call_ended", "call_2"), Barrier(AT_ONCE)

    def one_of_many(_: int) -> Any:
        gate.wait()
        return send(stack, source, body)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(one_of_many, range(AT_ONCE)))
    stack.await_settled(customer)

    assert sorted(answer["repeat"] for answer in answers) == [False] + [True] * (AT_ONCE - 1)
    assert receiver.per_event() == {answers[0]["id"]: 1}
    assert len({answer["id"] for answer in answers}) == 1
    assert [c.kind for c in stack.charges(customer)] == ["charge"]


@pytest.mark.parametrize("analyzed_seconds", [91, 95], ids=["same duration", "corrected duration"])
def test_the_order_of_a_calls_events_does_not_change_its_bill(
    stack: Stack, customer: Customer, receiver: Receiver, analyzed_seconds: int
) -> None:
    """F19: every order, with and without `call_started`, with the last one late: the analysis decides the bill."""
    source = customer.source("retell", relay_url=receiver.url)
    seconds = {"call_started": 0, "call_ended": 91, "call_analyzed": analyzed_seconds}
    orders = [*itertools.permutations(seconds), *itertools.permutations(("call_ended", "call_analyzed"))]

    for place in range(3):
        for number, order in enumerate(orders):
            if place < len(order):
                send(stack, source, retell_event(order[place], f"call_{number}", seconds=seconds[order[place]]))
        stack.await_settled(customer)  # so that what comes next finds everything before it charged

    amount = (Decimal(analyzed_seconds) / 600).quantize(Decimal("0.000001"))  # 0.10 a minute
    assert bill(stack.charges(customer)) == {
        f"call_{number}": (amount, analyzed_seconds) for number in range(len(orders))
    }
    assert {s.cost for s in stack.sessions(customer)} == {amount}
    assert {s.status for s in stack.sessions(customer)} == {"completed"}
    assert set(receiver.per_event().values()) == {1}


@pytest.mark.parametrize("route", ["signed", "complete"])
def test_an_account_cannot_touch_another_accounts_session(
    stack: Stack, customer: Customer, receiver: Receiver, route: str
) -> None:
    """A22: proved by its own secret, an event that names another's conversation and session is its own session."""
    intruder = stack.customers.create()
    with receiving() as other_receiver:
        made = customer.template(receiver.url)
        session = customer.session(made.template.id)
        others = intruder.template(other_receiver.url)
        victim, attacker = customer.source("elevenlabs"), intruder.source("elevenlabs")
        mine = elevenlabs_transcription("conv_1", seconds=60, session_id=session, agent_id="agent_of_mine")
        forged = elevenlabs_transcription("conv_1", seconds=6000, session_id=session, said="forged")
        intruder.endpoint(other_receiver.url)

        if route == "signed":
            answers = [stack.post(attacker.url, forged, elevenlabs_headers(forged, attacker.secret))]
        else:
            secret = {"X-Webhook-Secret": others.template.webhook_secret}
            answers = [stack.post("/api/convagents/webhook/complete", forged, secret)]
        answers.append(stack.post(victim.url, mine, elevenlabs_headers(mine, victim.secret)))
        for owner in (customer, intruder):
            stack.await_settled(owner)

        assert [answer.status_code for answer in answers] == [200, 200]
        assert [(s.id, s.conversation_id, s.cost) for s in stack.sessions(customer)] == [
            (session, "conv_1", Decimal("0.100000"))
        ]
        [foreign] = stack.sessions(intruder)
        assert (foreign.id != session, foreign.cost) == (True, Decimal("10.000000"))
        assert len(stack.charges(customer)) == len(stack.charges(intruder)) == 1
        assert all(b"forged" not in post.body for post in receiver.posts)
        assert all(b"agent_of_mine" not in post.body for post in other_receiver.posts)
        assert receiver.posts
        assert other_receiver.posts
