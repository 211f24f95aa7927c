"""Names whose addresses change between one look and the next: the address of each connection is what is judged."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import pytest
import redis

from relay.delivery import resolver
from relay.delivery.retry import AttemptResult, Failure
from relay.delivery.transport import Transport
from tests.couriers import Relay
from tests.raw_server import OK, Serve, Server, close, post, saying
from tests.receiver import Receiver

ALTERNATIONS: Final = 1_000
# The one address that stands for the public internet here.
PUBLIC: Final = "127.0.0.1"
ALLOW: Final = (ipaddress.ip_network("127.0.0.1/32"),)
# Each of these is this machine, or would be somebody's inside; where the kernel can connect, a server listens.
INSIDE: Final = (
    "127.0.0.2",
    "::1",
    "::ffff:127.0.0.2",
    "0.0.0.0",
    "::",
    "169.254.169.254",
    "10.0.0.1",
    "fd00:ec2::254",
    "64:ff9b::7f00:1",
)


class Rebinding:
    """A name server that says what it is told to say next."""

    def __init__(self) -> None:
        self.answer: tuple[str, ...] = ()
        self.asked = 0

    def __call__(self, _host: str) -> tuple[str, ...]:
        self.asked += 1
        return self.answer


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Rebinding:
    """A name server without any memory in front of it: each connection asks."""
    monkeypatch.setattr(resolver, "_FRESH_SECONDS", 0.0)
    monkeypatch.setattr(resolver, "_STALE_SECONDS", 0.0)
    return Rebinding()


@pytest.fixture
def everywhere(serve: Serve) -> Server:
    """A server on all IPv4 addresses of this machine."""
    return serve(saying(OK), host="0.0.0.0")


def test_a_thousand_alternations_reach_nothing_inside(serve: Serve, everywhere: Server, names: Rebinding) -> None:
    """A2: public, inside, public, inside: nothing that is not public is connected to, and nothing public is refused.

    Without IPv6 nobody can listen there, and everything else holds.
    """
    inside: Server | None = None
    with suppress(OSError):
        inside = serve(saying(OK), host="::", port=everywhere.port)
    transport = Transport(allow=ALLOW, user_agent="Switchhook/test", lookup=names)
    url = f"http://rebinding.example:{everywhere.port}/"
    others = itertools.cycle(INSIDE)
    for _ in range(ALTERNATIONS // 2):
        names.answer = (PUBLIC,)
        assert post(transport, url).result == AttemptResult(status=200)
        names.answer = (next(others),)
        assert post(transport, url).result == AttemptResult(failure=Failure.TARGET_REFUSED)
    close(transport)
    assert names.asked == ALTERNATIONS
    assert everywhere.connections == ALTERNATIONS // 2
    assert inside is None or inside.connections == 0


@pytest.mark.parametrize("other", INSIDE)
def test_an_answer_with_both_kinds_reaches_the_public_one(everywhere: Server, names: Rebinding, other: str) -> None:
    """A2: in either order, so that a public address beside another does not open the other."""
    transport = Transport(allow=ALLOW, user_agent="Switchhook/test", lookup=names)
    url = f"http://both.example:{everywhere.port}/"
    for answer in ((PUBLIC, other), (other, PUBLIC)):
        names.answer = answer
        assert post(transport, url).result == AttemptResult(status=200)
    close(transport)
    assert everywhere.connections == 2


@pytest.fixture
def relay(redis_client: redis.Redis, names: Rebinding) -> Iterator[Relay]:
    """A courier that asks this name server."""
    relay = Relay(redis_client, allow=ALLOW, lookup=names)
    yield relay
    relay.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A customer's server."""
    receiver = Receiver()
    yield receiver
    receiver.close()


def test_each_attempt_is_judged_again(relay: Relay, receiver: Receiver, names: Rebinding) -> None:
    """A3: a name that goes inside between attempts is refused then, and delivered to when it comes back."""
    receiver.usual_reply("reset")  # the next attempt needs a connection of its own
    endpoint_id = relay.endpoint_at(receiver.url.replace(PUBLIC, "moving.example"))
    names.answer = (PUBLIC,)
    relay.start()
    event_id = relay.accept(endpoint_id)
    seen = [relay.await_outcome(event_id, number=1)]
    names.answer = ("127.0.0.2",)
    relay.make_due(endpoint_id, event_id)
    seen.append(relay.await_outcome(event_id, number=2))
    names.answer = (PUBLIC,)
    receiver.usual_reply(200)
    relay.make_due(endpoint_id, event_id)
    seen.append(relay.await_outcome(event_id, number=3))
    assert [(outcome.status, outcome.code, outcome.detail) for outcome in seen] == [
        ("pending", "truncated", "truncated"),
        ("pending", "unreachable", "target_refused"),
        ("delivered", None, None),
    ]
    assert [post.headers["switchhook-attempt"] for post in receiver.of(event_id)] == ["1", "3"]
