"""JSON that parsers disagree about, or that breaks them: refused with 4xx or relayed byte for byte, never 500."""

from __future__ import annotations

import codecs
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import pytest

from tests.customers import Customer
from tests.payloads import elevenlabs_headers, retell_digest
from tests.receiver import Receiver, receiving
from tests.stack import Stack
from tests.waiting import eventually

_numbers = itertools.count(1)
SOURCES: Final = ("elevenlabs", "retell", "convagents")
# Bodies with three places: an id, a duration, and a field that nobody needs.
BODIES: Final = {
    "elevenlabs": b'{"type":"post_call_transcription","event_timestamp":1795000000,"data":{"conversation_id":%b,'
    b'"agent_id":"a","metadata":{"call_duration_secs":%b},"transcript":%b}}',
    "retell": b'{"event":"call_ended","call":{"call_id":%b,"duration_ms":%b,"transcript":%b}}',
    "convagents": b'{"conversationId":%b,"durationSeconds":%b,"transcript":%b}',
}
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


@pytest.fixture(scope="module")
def customer(stack: Stack) -> Customer:
    """One account for all of these."""
    return stack.customers.create()


@dataclass(frozen=True, slots=True)
class Door:
    """A way in, its proof included, and the receiver behind it."""

    stack: Stack
    name: str
    url: str
    secret: str
    receiver: Receiver

    def send(self, body: bytes) -> tuple[int, str | None]:
        """Post a body; the status, and the event's id if it was taken."""
        headers = {
            "elevenlabs": lambda: elevenlabs_headers(body, self.secret),
            "retell": lambda: retell_digest(body, self.secret),
            "convagents": lambda: {"X-Webhook-Secret": self.secret},
        }[self.name]()
        answer = self.stack.post(self.url, body, headers)
        told = answer.json()
        return answer.status_code, told.get("data", told).get("id")

    def assert_refused_or_relayed(self, body: bytes) -> int:
        """The status: 4xx, or 200 and the receiver gets exactly these bytes, alone or as the envelope's data."""
        status, event_id = self.send(body)
        if event_id is None:
            assert 400 <= status < 500, status
            return status
        assert status == 200
        eventually(lambda: self.receiver.of(event_id), within_seconds=10, what="its delivery")
        [post] = self.receiver.of(event_id)
        if self.name == "convagents":
            assert post.body.startswith(b'{"event":"complete",')
            assert post.body.endswith(b'"data":' + body + b"}")
        else:
            assert post.body == body
        return status


@pytest.fixture(params=SOURCES, scope="module")
def door(request: pytest.FixtureRequest, stack: Stack, customer: Customer) -> Iterator[Door]:
    """Each way in. What was taken is delivered and assessed to the end, whatever it held."""
    name = request.param
    with receiving() as receiver:
        if name == "convagents":
            secret = customer.template(receiver.url).template.webhook_secret
            yield Door(stack, name, "/api/convagents/webhook/complete", secret, receiver)
        else:
            source = customer.source(name, relay_url=receiver.url)
            yield Door(stack, name, source.url, source.secret, receiver)
        stack.await_settled(customer)


def body_of(door: Door, *, call_id: bytes | None = None, duration: bytes = b"61", other: bytes = b'"hello"') -> bytes:
    """A body for this door, with a conversation of its own unless an id is given."""
    own_id = b'"call_%d"' % next(_numbers)
    return BODIES[door.name] % (own_id if call_id is None else call_id, duration, other)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("value", VALUES)
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
