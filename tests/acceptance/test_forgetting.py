"""Over real processes: content that is gone and comes back for a replay, and content that is made to go."""

from __future__ import annotations

import json
import secrets
from typing import Any

import requests
from standardwebhooks import Webhook

from relay.outbox import keys
from tests.customers import Customer
from tests.fakes.elevenlabs import FakeElevenLabs
from tests.payloads import elevenlabs_headers, elevenlabs_transcription
from tests.receiver import Receiver
from tests.scanner import Scanner
from tests.stack import Stack
from tests.waiting import eventually
from tests.written import redis_contents

_SECONDS = 10.0


class Client:
    """A customer's program, with its API key."""

    def __init__(self, stack: Stack, customer: Customer) -> None:
        self._url = stack.url
        self._headers = {"Authorization": f"Bearer {customer.api_key().key}"}

    def call(self, method: str, path: str, body: Any = None, *, status: int = 200) -> Any:
        """The JSON of an answer that has this status."""
        answer = requests.request(method, self._url + path, json=body, headers=self._headers, timeout=_SECONDS)
        assert answer.status_code == status, answer.text
        return answer.json()


def test_a_delivered_event_is_fetched_and_delivered_again(
    stack: Stack, customer: Customer, receiver: Receiver, elevenlabs: FakeElevenLabs
) -> None:
    """With the account's own key: the same id, the next attempt, a header that says so, and no second charge."""
    client, own_key = Client(stack, customer), f"xi-{customer.id}"
    workspace = elevenlabs.add_workspace(own_key)
    client.call("PUT", "/api/v1/provider-keys/elevenlabs", {"key": own_key})
    endpoint, source = customer.endpoint(receiver.url), customer.source("elevenlabs")
    body = elevenlabs_transcription("conv_kept", seconds=91)
    sent = stack.post(source.url, body, elevenlabs_headers(body, source.secret)).json()
    stack.await_settled(customer)
    workspace.conversations["conv_kept"] = json.loads(body)["data"] | {"call_duration_secs": 5_000}

    path = f"/api/v1/deliveries/{sent['id']}/{endpoint.id}"
    assert client.call("POST", f"{path}/replay", status=202)["answer"] == "refetched"

    first, second = receiver.await_posts(2)
    assert (first.event_id, second.event_id) == (sent["id"], sent["id"])
    assert (first.headers["switchhook-attempt"], second.headers["switchhook-attempt"]) == ("1", "2")
    assert second.headers["switchhook-refetched"] == "1"
    assert "switchhook-refetched" not in first.headers
    [secret] = endpoint.signing_secrets
    again = Webhook(secret).verify(second.body, dict(second.headers))
    assert again["type"] == "post_call_transcription"
    assert again["data"]["transcript"] == json.loads(body)["data"]["transcript"]
    stack.await_settled(customer)
    shown = client.call("GET", path)
    assert (shown["status"], [attempt["httpStatus"] for attempt in shown["history"]]) == ("delivered", [200, 200])
    assert [charge.billed_seconds for charge in stack.charges(customer)] == [91]
    assert stack.scrape()["switchhook_unaccounted_events"] == 0


def test_what_waits_in_retries_is_forgotten_on_request(stack: Stack, customer: Customer, receiver: Receiver) -> None:
    """It ends as erased, nothing of it is left in Redis, and the call is charged all the same."""
    client, said = Client(stack, customer), f"canary {secrets.token_hex(12)}"
    endpoint, source = customer.endpoint(receiver.url), customer.source("elevenlabs")
    receiver.usual_reply(500)
    body = elevenlabs_transcription("conv_to_forget", seconds=91, said=said)
    event_id = stack.post(source.url, body, elevenlabs_headers(body, source.secret)).json()["id"]
    [post] = receiver.await_posts(1)
    assert said.encode() in post.body
    stack.await_retry(endpoint.id, event_id)
    stack.put_off(endpoint.id, event_id, seconds=600)  # while it is looked at
    path = f"/api/v1/deliveries/{event_id}/{endpoint.id}"

    def waits() -> bool:
        return bool(client.call("GET", "/api/v1/deliveries")["data"]) and client.call("GET", path)["attempts"] == 1

    eventually(waits, within_seconds=_SECONDS, what="a failed attempt")
    assert stack.redis.exists(keys.sealed(event_id))

    def charged() -> bool:
        return [charge.billed_seconds for charge in stack.charges(customer)] == [91]

    eventually(charged, within_seconds=_SECONDS, what="a charge")
    session_id = post.headers["switchhook-session"]
    done = client.call("DELETE", f"/api/v1/sessions/{session_id}/content")

    assert done == {"sessionId": int(session_id), "shredded": 1, "ended": 1, "inFlight": 0}
    places = [(place, data) for place, data in redis_contents(stack.redis) if "outcomes" not in place]
    assert {place for place, data in places if event_id.encode() in data} == {keys.event(event_id)}
    assert Scanner([said]).found_in_all(places) == set()
    stack.await_settled(customer)
    shown = client.call("GET", path)
    assert (shown["status"], shown["code"], shown["attempts"]) == ("dead", "erased", 1)
    assert client.call("POST", f"{path}/replay", status=410)["code"] == "content_erased"
    assert len(receiver.posts) == 1
    assert charged()
    assert stack.scrape()["switchhook_unaccounted_events"] == 0
