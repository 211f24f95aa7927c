"""Forged proofs over HTTP: whatever is changed in a signature, or in what it signs, is 401 and stores nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import pytest
from elevenlabs.client import ElevenLabs
from retell import Retell
from retell.lib.webhook_auth import symmetric

from relay.delivery.signing import new_webhook_secret
from tests.customers import Customer, Inlet
from tests.payloads import elevenlabs_headers, elevenlabs_transcription, retell_event
from tests.stack import Stack
from tests.waiting import eventually

HEADER: Final = {"elevenlabs": "ElevenLabs-Signature", "retell": "X-Retell-Signature"}
# A test takes its time between signing and sending, so that no timestamp is put exactly on a bound; that each bound is
# exact is shown in tests/unit/providers.
MARGIN_SECONDS: Final = 20


def signed(provider: str, body: bytes, secret: str, *, ahead_seconds: int = 0) -> str:
    """A good header: by Retell's own package, and by ElevenLabs' documentation, as its package only verifies."""
    now = time.time() + ahead_seconds
    if provider == "retell":
        made: str = symmetric["sign"](body.decode(), secret, int(now * 1000))
        return made
    return elevenlabs_headers(body, secret, at_seconds=int(now))["ElevenLabs-Signature"]


def official_package_takes(provider: str, body: bytes, header: str, secret: str) -> bool:
    """The verdict of the provider's own package, which raises whatever comes to it."""
    with suppress(Exception):
        if provider == "retell":
            client: Any = Retell(api_key="unused")
            return bool(client.verify(body.decode(), secret, header))
        ElevenLabs(api_key="unused").webhooks.construct_event(body.decode(), header, secret)
        return True
    return False


@dataclass(frozen=True, slots=True)
class Target:
    """A source, a body for it, and the header that proves it."""

    stack: Stack
    provider: str
    customer: Customer
    source: Inlet
    body: bytes
    good: str

    def send(self, header: str | bytes | None, *, body: bytes | None = None) -> int:
        """Post the body with this header; the status."""
        given = {} if header is None else {HEADER[self.provider]: header}
        return self.stack.post(self.source.url, self.body if body is None else body, given).status_code

    def send_signed(self, secret: str, *, conversation: str, ahead_seconds: int = 0) -> int:
        """Post a conversation of its own, signed; the status."""
        body = self.body.replace(b"_1", f"_{conversation}".encode())
        return self.send(signed(self.provider, body, secret, ahead_seconds=ahead_seconds), body=body)


@pytest.fixture(params=["elevenlabs", "retell"])
def target(request: pytest.FixtureRequest, stack: Stack, customer: Customer) -> Iterator[Target]:
    """A source of each provider. After the forgeries its good proof is taken as new: none of them was stored."""
    provider = request.param
    source = customer.source(provider, secret=new_webhook_secret())
    body = elevenlabs_transcription("conv_1") if provider == "elevenlabs" else retell_event("call_ended", "call_1")
    target = Target(stack, provider, customer, source, body, signed(provider, body, source.secret))
    assert official_package_takes(provider, body, target.good, source.secret)
    yield target
    answer = stack.post(source.url, body, {HEADER[provider]: target.good})
    assert (answer.status_code, answer.json()["repeat"]) == (200, False)


def test_every_flipped_byte_is_refused(target: Target) -> None:
    """A9: of the header and of the body."""
    good, body = target.good, target.body
    statuses = {target.send(good[:at] + chr(ord(good[at]) ^ 1) + good[at + 1 :]) for at in range(len(good))}
    statuses |= {target.send(good, body=body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]) for at in range(len(body))}
    assert statuses == {401}


def forgeries(target: Target) -> dict[str, str | bytes | None]:
    """Headers that prove nothing, by what is wrong with them."""
    good, body, secret = target.good, target.body, target.source.secret
    stamp, proof = good.split(",")
    name, _, number = stamp.partition("=")
    arabic = "".join(chr(0x0660 + int(digit)) for digit in number)
    again = json.dumps(json.loads(body)).encode()
    other = {"retell": "elevenlabs", "elevenlabs": "retell"}[target.provider]
    return {
        "missing": None,
        "empty": "",
        "only a timestamp": stamp,
        "only a digest": proof,
        "no timestamp": f"{name}=,{proof}",
        "words for a timestamp": f"{name}=now,{proof}",
        "a negative timestamp": f"{name}=-{number},{proof}",
        "a signed timestamp": f"{name}=+{number},{proof}",
        "an underscore": f"{name}={number[:-1]}_{number[-1]},{proof}",
        "a leading zero": f"{name}=0{number},{proof}",
        "the next moment": f"{name}={int(number) + 1},{proof}",
        "unicode digits": f"{name}={arabic},{proof}".encode(),
        "Latin-1 digits": f"{name}=\xb2{number},{proof}".encode("latin-1"),
        "not UTF-8": good.encode() + b"\xff\xfe",
        "spaces": good.replace(",", ", "),
        "capitals": f"{stamp},{proof[:3]}{proof[3:].upper()}",
        "cut": good[:-1],
        "longer": good + "0",
        "32 KB": good + "0" * 32_768,
        "32 KB of digits": f"{name}={'1' * 32_768},{proof}",
        "another secret": signed(target.provider, body, "another secret"),
        "an empty secret": signed(target.provider, body, ""),
        "a body written again": signed(target.provider, again, secret),
        "another provider's": signed(other, body, secret),
        "old": signed(target.provider, body, secret, ahead_seconds=-1801),
        "of the future": signed(target.provider, body, secret, ahead_seconds=300 + MARGIN_SECONDS),
    }


def test_every_forgery_is_refused(target: Target) -> None:
    """A9: 401 whatever is wrong, never 500; most of these make the provider's own package raise."""
    statuses = {name: target.send(header) for name, header in forgeries(target).items()}
    assert statuses == dict.fromkeys(statuses, 401)


def test_a_megabyte_of_header_is_refused_by_the_server(target: Target) -> None:
    """A9: before the application sees it, so that it costs no memory that the sender chooses."""
    assert target.send(target.good + "0" * 1_000_000) == 431


def test_the_bounds_of_time_hold_over_http(target: Target) -> None:
    """A9: old and early proofs within the provider's tolerance are taken, beyond it they are not."""
    past = {"elevenlabs": -1800, "retell": -300}[target.provider]

    def status(ahead_seconds: int) -> int:
        return target.send_signed(target.source.secret, conversation=f"at{ahead_seconds}", ahead_seconds=ahead_seconds)

    assert (status(past + MARGIN_SECONDS), status(past - 1)) == (200, 401)
    assert (status(300 - MARGIN_SECONDS), status(300 + MARGIN_SECONDS)) == (200, 401)


def test_a_wrong_header_given_twice_is_refused(target: Target) -> None:
    """A9: as one line with a comma, which is what two lines become (RFC 9110)."""
    wrong = target.good[:-1] + ("1" if target.good.endswith("0") else "0")
    assert target.send(f"{wrong},{wrong}") == 401


@pytest.mark.parametrize("target", ["retell"], indirect=True)
def test_a_good_header_given_twice_is_no_header_of_retells(target: Target) -> None:
    """A9: ElevenLabs' form allows several signatures, Retell's does not."""
    assert target.send(f"{target.good},{target.good}") == 401


def test_another_accounts_secret_proves_nothing(target: Target) -> None:
    """A9: a proof that opens the sender's own source does not open another's."""
    own = target.stack.customers.create().source(target.provider, secret=new_webhook_secret())
    header = signed(target.provider, target.body, own.secret)
    assert target.send(header) == 401
    assert target.stack.post(own.url, target.body, {HEADER[target.provider]: header}).status_code == 200


def test_both_secrets_are_good_during_a_rotation(target: Target) -> None:
    """A9: the new one and the old one prove, a third does not; the old one stops when it is taken away.

    A process sees a change when its gauge looks, every two seconds. Until then it may refuse a new secret.
    """
    old = target.source.secret

    def takes(secret: str, conversation: str) -> None:
        taken = lambda: target.send_signed(secret, conversation=conversation) == 200  # noqa: E731
        eventually(taken, within_seconds=20, what="the secret that was given")

    assert target.send_signed(old, conversation="before") == 200
    target.customer.set_secrets(target.source, "the new secret", old)
    takes("the new secret", "new")
    takes(old, "old")
    assert target.send_signed("a third secret", conversation="third") == 401
    target.customer.set_secrets(target.source, "the new secret")
    assert target.send_signed(old, conversation="older") == 401
    target.customer.set_secrets(target.source, old)
    takes(old, "again")
