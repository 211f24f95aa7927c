"""One event sent a thousand times under changing headers: one effect."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest
from retell.lib.webhook_auth import symmetric

from tests.customers import Customer
from tests.payloads import elevenlabs_headers, elevenlabs_transcription, retell_event
from tests.receiver import Receiver
from tests.stack import Stack

REPLAYS: Final = 1_000
SENDERS: Final = 16
HEADER: Final = {"elevenlabs": "ElevenLabs-Signature", "retell": "X-Retell-Signature"}
# None of these is part of what makes an event known.
OTHERS: Final[tuple[dict[str, str], ...]] = (
    {},
    {"Content-Type": "text/plain"},
    {"Content-Type": "application/json; charset=utf-16"},
    {"Content-Encoding": "identity"},
    {"Idempotency-Key": "{number}"},
    {"X-Idempotency-Key": "{number}"},
    {"webhook-id": "msg_{number}"},
    {"X-Request-Id": "{number}", "X-Forwarded-For": "203.0.113.{number}", "Forwarded": "for=198.51.100.1"},
    {"X-Forwarded-Host": "elsewhere.example", "X-Forwarded-Prefix": "/other", "X-Original-URL": "/other"},
    {"X-HTTP-Method-Override": "PUT"},
    {"User-Agent": "agent/{number}", "Accept": "text/html"},
    {"X-Webhook-Secret": "{number}"},
    {"Authorization": "Bearer {number}", "Cookie": "session={number}"},
    {"Retell-Retry": "{number}", "Date": "Thu, 01 Jan 1970 00:00:00 GMT"},
)


def replays(provider: str, body: bytes, secret: str) -> Iterator[dict[str, str]]:
    """Headers that prove one body: signed at many moments, the header's name in several spellings, others beside it."""
    now = int(time.time())
    for number in range(REPLAYS):
        back_seconds = number % 250
        if provider == "retell":
            proof = symmetric["sign"](body.decode(), secret, (now - back_seconds) * 1000 + number)
        else:
            proof = elevenlabs_headers(body, secret, at_seconds=now - back_seconds)["ElevenLabs-Signature"]
        name = (str.upper, str.lower, str)[number % 3](HEADER[provider])
        others = {key: value.format(number=number) for key, value in OTHERS[number % len(OTHERS)].items()}
        yield {name: proof, **others}


@pytest.mark.parametrize("provider", ["elevenlabs", "retell"])
def test_a_thousand_replays_have_one_effect(
    stack: Stack, customer: Customer, receiver: Receiver, provider: str
) -> None:
    """A10: one is new, all are answered 200 with the same id; one delivery, one session, one charge."""
    source = customer.source(provider, relay_url=receiver.url)
    body = retell_event("call_ended", "call_1") if provider == "retell" else elevenlabs_transcription("conv_1")

    def send(numbered: tuple[int, dict[str, str]]) -> tuple[int, str, bool]:
        number, headers = numbered
        whole = iter([body[:50], body[50:]]) if number % 7 == 0 else body  # some in chunks, without a length
        answer = stack.post(source.url, whole, headers)
        return answer.status_code, answer.json()["id"], answer.json()["repeat"]

    with ThreadPoolExecutor(SENDERS) as pool:
        answers = list(pool.map(send, enumerate(replays(provider, body, source.secret))))
    stack.await_settled(customer)
    answers.append(send((1, next(replays(provider, body, source.secret)))))  # and once more, after it was delivered

    assert {status for status, _, _ in answers} == {200}
    assert len({event_id for _, event_id, _ in answers}) == 1
    assert [is_repeat for _, _, is_repeat in answers].count(False) == 1
    stack.await_settled(customer)
    assert [post.body for post in receiver.posts] == [body]
    assert len(stack.deliveries(customer)) == len(stack.sessions(customer)) == len(stack.charges(customer)) == 1
