"""JSON that parsers disagree about, or that breaks them: refused with 4xx or relayed byte for byte, never 500."""

from __future__ import annotations

import codecs
import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import pytest
from requests import Response

from tests.customers import Customer
from tests.payloads import elevenlabs_headers, retell_digest
from tests.receiver import Post, Receiver, receiving
from tests.stack import Stack

_numbers = itertools.count(1)
# What the customer's server says to whoever asks it for context.
ANSWER: Final = b'{"caller":"Ada"}'
CONVERSATION: Final = b'{"conversationId":%b,"durationSeconds":%b,"transcript":%b}'
# Bodies with three places: an id, a duration, and a field that nobody needs.
BODIES: Final = {
    "elevenlabs": b'{"type":"post_call_transcription","event_timestamp":1795000000,"data":{"conversation_id":%b,'
    b'"agent_id":"a","metadata":{"call_duration_secs":%b},"transcript":%b}}',
    "retell": b'{"event":"call_ended","call":{"call_id":%b,"duration_ms":%b,"transcript":%b}}',
    "canonical": b'{"event":"call_analyzed","call":{"call_id":%b,"duration_ms":%b,"transcript":%b}}',
    "convagents": CONVERSATION,
    "event": CONVERSATION,
    "context": CONVERSATION,
}
# Which way in each body is for, unless it is its source's own; and what the envelope calls it, where there is one.
PATHS: Final = {
    "canonical": "/api/v1/webhooks/retell",
    "convagents": "/api/convagents/webhook/complete",
    "event": "/api/convagents/webhook/event",
    "context": "/api/convagents/webhook/context",
}
ENVELOPED: Final = {"convagents": b"complete", "event": b"event", "context": b"context"}
# Where one of these stands for a value: as the field that nobody needs, or as the duration.
VALUES: Final = {
    "100,000 arrays deep": b"[" * 100_000 + b"]" * 100_000,
    "100,000 objects deep": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "NaN": b"NaN",
    "Infinity": b"Infinity",
    "-Infinity": b"-Infinity",
    "1e400": b"1e400",
    "-1e400": b"-1e400",
    "1e-400": b"1e-400",
    "an exponent of nine digits": b"1e999999999",
    "4,301 digits": b"9" * 4_301,
    "100,000 digits": b"9" * 100_000,
    "4,301 digits after the point": b"0." + b"1" * 4_301,
    "2 to the 64th": b"18446744073709551616",
    "minus zero": b"-0",
    "a leading zero": b"012",
    "hexadecimal": b"0x10",
    "a plus sign": b"+1",
    "NUL, escaped": b'"\\u0000"',
    "NUL, raw": b'"\x00"',
    "a line feed, raw": b'"\n"',
    "DEL": b'"\x7f"',
    "a lone surrogate": b'"\\ud800"',
    "a lone low surrogate": b'"\\udc00"',
    "surrogates the wrong way round": b'"\\udc00\\ud800"',
    "a surrogate in UTF-8": b'"\xed\xa0\x80"',
    "an overlong slash": b'"\xc0\xaf"',
    "Latin-1": b'"caf\xe9"',
    "an unknown escape": b'"\\x41"',
    "a megabyte": b'"' + b"x" * 1_000_000 + b'"',
    "another type": b'{"a":[true]}',
    "true": b"true",
    "null": b"null",
    "nothing": b"",
    "a comment": b"1/* one */",
    "a trailing comma": b"[1,]",
    "single quotes": b"'1'",
}
PLACES: Final = ("needed by nobody", "duration")
# Canonical's route reads as Retell's does, and `event` and `context` no duration: one place is enough there.
ONE_PLACE: Final = {"canonical": "duration", "event": "needed by nobody", "context": "needed by nobody"}
KEYS_AGAIN: Final = b'"event":"x","type":"y","conversationId":"z"'
# What becomes of a whole body that is good.
WHOLE: Final[dict[str, Callable[[bytes], bytes]]] = {
    "a byte order mark": lambda body: codecs.BOM_UTF8 + body,
    "UTF-16": lambda body: body.decode().encode("utf-16"),
    "UTF-16, big-endian": lambda body: body.decode().encode("utf-16-be"),
    "UTF-16, little-endian": lambda body: body.decode().encode("utf-16-le"),
    "UTF-32": lambda body: body.decode().encode("utf-32"),
    "UTF-7": lambda body: body.replace(b'"', b"+ACI-"),
    "nothing": lambda _: b"",
    "blanks": lambda _: b" \n",
    "an array": lambda body: b"[" + body + b"]",
    "a string": lambda _: b'"hello"',
    "a number": lambda _: b"7",
    "cut": lambda body: body[:-1],
    "something behind it": lambda body: body + b"x",
    "two documents": lambda body: body * 2,
    "a form": lambda body: b"payload=" + body,
    "blanks around it": lambda body: b" \r\n\t" + body + b" \r\n\t",
    "its keys twice, the others first": lambda body: b"{" + KEYS_AGAIN + b"," + body[1:],
    "its keys twice, the others last": lambda body: body[:-1] + b"," + KEYS_AGAIN + b"}",
    "one key 10,000 times": lambda body: body[:-1] + b',"dup":1' * 10_000 + b"}",
}


@dataclass(frozen=True, slots=True)
class Door:
    """A way in, its proof included, and the receiver behind it."""

    stack: Stack
    name: str
    url: str
    secret: str
    receiver: Receiver

    def assert_refused_or_relayed(self, body: bytes) -> int:
        """The status: 4xx, or 200 and the receiver gets exactly these bytes, alone or as the envelope's data."""
        before = len(self.receiver.posts)
        answer = self.stack.post(self.url, body, self._proof(body))
        status = answer.status_code
        if status != 200:
            assert 400 <= status < 500, status
            return status
        if self.name == "canonical" and KEYS_AGAIN in body and "error" in answer.json():
            return status  # another event than `call_analyzed`: taken for nothing, and not stored
        [post] = self.receiver.await_posts(before + 1)[before:]
        self._assert_answered(answer, post)
        if self.name in ENVELOPED:
            assert post.body.startswith(b'{"event":"%b",' % ENVELOPED[self.name])
            assert post.body.endswith(b'"data":' + body + b"}")
        else:
            assert post.body == body
        return status

    def _proof(self, body: bytes) -> dict[str, str]:
        if self.name == "elevenlabs":
            return elevenlabs_headers(body, self.secret)
        if self.name == "retell":
            return retell_digest(body, self.secret)
        return {"X-Canonical-Api-Key" if self.name == "canonical" else "X-Webhook-Secret": self.secret}

    def _assert_answered(self, answer: Response, post: Post) -> None:
        """By the receiver's own answer to `context`, by the call's id to Canonical's route, by the event's id else."""
        if self.name == "context":
            assert answer.content == ANSWER
        elif self.name == "canonical":
            assert set(answer.json()) == {"callId"}
        else:
            told = answer.json()
            assert told.get("data", told)["id"] == post.event_id


@pytest.fixture(scope="module")
def doors(stack: Stack) -> Iterator[dict[str, Door]]:
    """Every way in. What was taken is delivered and assessed to the end, whatever it held."""
    customers = {name: stack.customers.create() for name in BODIES}
    with ExitStack() as receivers:
        yield {name: _opened(name, stack, customers[name], receivers.enter_context(receiving())) for name in BODIES}
        for customer in customers.values():
            stack.await_settled(customer)


def _opened(name: str, stack: Stack, customer: Customer, receiver: Receiver) -> Door:
    receiver.usual_reply(ANSWER)
    if name == "canonical":
        customer.endpoint(receiver.url, events=["retell.call_analyzed"])
        return Door(stack, name, PATHS[name], customer.api_key().key, receiver)
    if name in ENVELOPED:
        secret = customer.template(receiver.url).template.webhook_secret
        return Door(stack, name, PATHS[name], secret, receiver)
    source = customer.source(name, relay_url=receiver.url)
    return Door(stack, name, source.url, source.secret, receiver)


@pytest.fixture(params=BODIES)
def door(request: pytest.FixtureRequest, doors: dict[str, Door]) -> Door:
    """Each of them."""
    return doors[request.param]


def body_of(door: Door, *, call_id: bytes | None = None, duration: bytes = b"61", other: bytes = b'"hello"') -> bytes:
    """A body for this door, with a conversation of its own unless an id is given."""
    own_id = b'"call_%d"' % next(_numbers)
    return BODIES[door.name] % (own_id if call_id is None else call_id, duration, other)


@pytest.mark.parametrize(
    ("door", "value", "place"),
    [
        (door, value, place)
        for door, value, place in itertools.product(BODIES, VALUES, PLACES)
        if place == ONE_PLACE.get(door, place)
    ],
    indirect=["door"],
)
def test_an_odd_value_is_refused_or_relayed(door: Door, value: str, place: str) -> None:
    """A13: in a field that nobody needs, and where the bill looks for its duration."""
    odd = VALUES[value]
    door.assert_refused_or_relayed(body_of(door, duration=odd) if place == "duration" else body_of(door, other=odd))


@pytest.mark.parametrize("value", VALUES)
def test_an_odd_id_is_refused_or_relayed(door: Door, value: str) -> None:
    """A13: as the id that everything is found by; nothing that is no usable text is taken for one."""
    status = door.assert_refused_or_relayed(body_of(door, call_id=VALUES[value]))
    assert status == (200 if value == "DEL" else 400)


@pytest.mark.parametrize("name", WHOLE)
def test_an_odd_body_is_refused_or_relayed(door: Door, name: str) -> None:
    """A13: byte order marks, other encodings, more or less than one document, keys twice."""
    door.assert_refused_or_relayed(WHOLE[name](body_of(door)))
