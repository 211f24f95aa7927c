"""Canonical.chat on both sides: its intake for Retell served here, and itself as the place deliveries go to."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from relay.directory import Mirror
from relay.sealing import KeyRing
from relay.store import accounts
from relay.store.accounts import NewApiKey
from tests.customers import Customer
from tests.payloads import retell_event, retell_headers
from tests.processes import switchhook
from tests.receiver import Receiver, receiving
from tests.stack import Stack

KEYED = "/api/v1/webhooks/retell"
KEY_HEADER = "X-Canonical-Api-Key"


@dataclass(frozen=True, slots=True)
class Keys:
    """API keys of a customer; the account has no other way in than what a test gives it."""

    stack: Stack
    customer: Customer

    def make(self) -> NewApiKey:
        """A new key."""
        return self.customer.api_key()

    def revoke(self, key: NewApiKey) -> None:
        """Make it worthless."""
        with self.stack.database.begin() as connection:
            accounts.revoke_key(connection, account_id=self.customer.id, key_id=key.id)
        ring = KeyRing(self.stack.settings.keys)
        Mirror(self.stack.redis, ring).publish(self.stack.database, self.customer.id)


@pytest.fixture
def keys(stack: Stack, customer: Customer) -> Keys:
    """The customer's keys."""
    return Keys(stack, customer)


@pytest.fixture
def proof(keys: Keys) -> dict[str, str]:
    """The header with a key of the customer."""
    return {KEY_HEADER: keys.make().key}


# -- the intake


def test_takes_an_analyzed_call_by_an_api_key(
    stack: Stack, customer: Customer, proof: dict[str, str], receiver: Receiver
) -> None:
    """Canonical's answer; then the same bytes to the account's endpoint and to the agent's template, and one charge."""
    customer.endpoint(receiver.url, events=["retell.call_analyzed"])
    body = retell_event("call_analyzed", "call_1", seconds=60)

    answers = [stack.post(KEYED, body, proof) for _ in range(2)]
    stack.await_settled(customer)

    assert [(a.status_code, a.json()) for a in answers] == [(200, {"callId": "call_1"})] * 2
    assert [post.body for post in receiver.posts] == [body]
    assert [str(charge.amount) for charge in stack.charges(customer)] == ["0.100000"]


def test_charges_a_conversation_once_that_also_comes_signed(
    stack: Stack, customer: Customer, proof: dict[str, str], receiver: Receiver
) -> None:
    """Each way in is an event of its own and is delivered; the session and the charge are one."""
    customer.endpoint(receiver.url)
    source = customer.source("retell")
    body = retell_event("call_analyzed", "call_2", seconds=60)
    ended = retell_event("call_ended", "call_2", seconds=60)

    for answer in (
        stack.post(source.url, ended, retell_headers(ended, source.secret)),
        stack.post(KEYED, body, proof),
        stack.post(source.url, body, retell_headers(body, source.secret)),
    ):
        assert answer.status_code == 200
    stack.await_settled(customer)

    assert sorted(receiver.per_event().values()) == [1, 1, 1]
    assert len({post.headers["switchhook-session"] for post in receiver.posts}) == 1
    assert len(stack.charges(customer)) == 1


def test_answers_other_events_as_canonical_does_and_stores_nothing(
    stack: Stack, customer: Customer, proof: dict[str, str], receiver: Receiver
) -> None:
    """200 with an `error`, no delivery, no session; the call's analysis is new afterwards."""
    customer.endpoint(receiver.url)

    answer = stack.post(KEYED, retell_event("call_ended", "call_3"), proof)
    taken = stack.post(KEYED, retell_event("call_analyzed", "call_4"), proof)
    stack.await_settled(customer)

    assert (answer.status_code, answer.content) == (200, b'{"error":"event is not call_analyzed"}')
    assert taken.json() == {"callId": "call_4"}
    assert [post.headers["switchhook-event"] for post in receiver.posts] == ["retell.call_analyzed"]
    assert [session.conversation_id for session in stack.sessions(customer)] == ["call_4"]


def test_a_key_is_refused_from_the_moment_of_its_revocation(stack: Stack, keys: Keys) -> None:
    """A process that has just used it commits nothing more by it; the account's other key goes on."""
    revoked, kept = keys.make(), keys.make()
    assert stack.post(KEYED, retell_event("call_analyzed", "call_5"), {KEY_HEADER: revoked.key}).status_code == 200
    keys.revoke(revoked)

    body = retell_event("call_analyzed", "call_6")
    refused, taken = (stack.post(KEYED, body, {KEY_HEADER: key.key}) for key in (revoked, kept))

    assert (refused.status_code, refused.json()["code"], taken.status_code) == (401, "api_key_invalid", 200)
    assert refused.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("headers", "code"),
    [({}, "api_key_missing"), ({KEY_HEADER: "sk_live_nobody"}, "api_key_invalid")],
    ids=["missing", "unknown"],
)
def test_refuses_who_has_no_key(stack: Stack, headers: dict[str, str], code: str) -> None:
    """401 whatever the body."""
    for body in (retell_event("call_analyzed", "call_7"), retell_event("call_ended", "call_7"), b"{"):
        answer = stack.post(KEYED, body, headers)
        assert (answer.status_code, answer.json()["code"]) == (401, code)


# -- the destination


def made_endpoint(stack: Stack, customer: Customer, url: str, *options: str) -> None:
    done = switchhook("endpoint", "create", "--account", customer.id, "--url", url, *options, env=stack.env)
    assert done.returncode == 0, done.stderr


def test_repeats_until_canonical_says_that_it_has_the_call(stack: Stack, customer: Customer) -> None:
    """A 200 that holds an `error` is a failed attempt; the next has the same bytes; `call_started` is not for it."""
    source = customer.source("retell")
    started = retell_event("call_started", "call_8")
    analyzed = retell_event("call_analyzed", "call_8")
    with receiving() as canonical:
        canonical.next_replies(b'{"error":"words of the other side"}', b'{"callId":"call_8"}')
        made_endpoint(
            stack, customer, canonical.url,
            "--event", "retell.call_analyzed",
            "--header", f"{KEY_HEADER}: canonical-key-1",
            "--failure-when", "$.error",
        )  # fmt: skip

        answers = [stack.post(source.url, body, retell_headers(body, source.secret)) for body in (started, analyzed)]
        stack.await_settled(customer)

        first, second = canonical.posts
    assert [answer.status_code for answer in answers] == [200, 200]
    assert first.body == second.body == analyzed
    assert {post.headers[KEY_HEADER.lower()] for post in (first, second)} == {"canonical-key-1"}
    assert {post.headers["switchhook-event"] for post in (first, second)} == {"retell.call_analyzed"}
    assert 4 <= second.at - first.at <= 7.5  # 5 s, jitter of 20 %, a tick of 1 s
    [delivery] = stack.deliveries(customer)
    assert (delivery.status, delivery.attempts, delivery.code) == ("delivered", 2, None)
    assert [(a.number, a.http_status, a.code, a.detail) for a in delivery.history] == [
        (1, 200, "http_200", "failure_when"),
        (2, 200, None, None),
    ]
    logs = b"".join(path.read_bytes() for path in stack.logs.iterdir())
    assert b"words of the other side" not in logs


def test_believes_a_2xx_where_nobody_asked_to_read_it(stack: Stack, customer: Customer, receiver: Receiver) -> None:
    """Without `--failure-when` the same answer is a delivery."""
    source = customer.source("retell", relay_url=receiver.url)
    receiver.next_replies(b'{"error":"event is not call_analyzed"}')
    body = retell_event("call_started", "call_9")

    stack.post(source.url, body, retell_headers(body, source.secret))
    stack.await_settled(customer)

    assert len(receiver.posts) == 1
    assert [delivery.status for delivery in stack.deliveries(customer)] == ["delivered"]
