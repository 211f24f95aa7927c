"""What the headers can tell is answered before the body comes: a sender that shows nothing holds up nobody."""

from __future__ import annotations

import http.client
import json

import pytest

from tests.customers import Customer
from tests.stack import Stack

SIGNED = "/api/v1/webhooks/retell/{source}"
CANARY = "/api/convagents/webhook/"


def answer_without_body(stack: Stack, path: str, headers: dict[str, str]) -> tuple[int, str]:
    """The status and code of what is answered to a request whose body never comes."""
    connection = http.client.HTTPConnection("127.0.0.1", stack.settings.port, timeout=3)
    connection.putrequest("POST", path)
    for name, value in {"Content-Length": "1000", **headers}.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    status, code = answer.status, json.loads(answer.read())["code"]
    connection.close()
    return status, code


@pytest.mark.parametrize(
    ("path", "headers", "status", "code"),
    [
        ("/api/v1/webhooks/retell/src_unknown", {"X-Retell-Signature": "v=1,d=0"}, 404, "not_found"),
        ("/api/v1/webhooks/nobody/{source}", {"X-Retell-Signature": "v=1,d=0"}, 404, "not_found"),
        ("/api/v1/webhooks/elevenlabs/{source}", {"ElevenLabs-Signature": "t=1,v0=0"}, 404, "not_found"),
        (SIGNED, {}, 401, "signature_invalid"),
        (SIGNED, {"ElevenLabs-Signature": "t=1,v0=0"}, 401, "signature_invalid"),
        (SIGNED, {"X-Retell-Signature": "v=1,d=0", "Content-Encoding": "gzip"}, 415, "content_encoding_refused"),
        ("/api/v1/webhooks/retell", {}, 401, "api_key_missing"),
        ("/api/v1/webhooks/retell", {"X-Canonical-Api-Key": "nobody's"}, 401, "api_key_invalid"),
        (CANARY + "event", {}, 401, "secret_missing"),
        (CANARY + "event", {"X-Webhook-Secret": "nobody's"}, 401, "secret_invalid"),
        (CANARY + "event", {"ElevenLabs-Signature": "t=1,v0=0"}, 401, "secret_missing"),
        (CANARY + "complete", {}, 401, "secret_missing"),
        (CANARY + "complete", {"X-Webhook-Secret": "nobody's"}, 401, "secret_invalid"),
        (CANARY + "context", {}, 401, "secret_missing"),
        (CANARY + "context", {"X-Webhook-Secret": "nobody's"}, 401, "secret_invalid"),
        (CANARY + "context", {"ElevenLabs-Signature": "t=1,v0=0"}, 401, "secret_missing"),
    ],
)
def test_refuses_without_waiting_for_the_body(
    stack: Stack, customer: Customer, *, path: str, headers: dict[str, str], status: int, code: str
) -> None:
    """Unknown sources, missing signatures, and secrets and keys that open nothing."""
    source = customer.source("retell")

    assert answer_without_body(stack, path.format(source=source.id), headers) == (status, code)


def test_says_that_the_connection_ends_when_a_body_was_not_read(stack: Stack, customer: Customer) -> None:
    """Else the sender's next request would go over a connection that is being closed, and be lost."""
    source = customer.source("retell")
    connection = http.client.HTTPConnection("127.0.0.1", stack.settings.port, timeout=3)
    for path in (f"/api/v1/webhooks/retell/{source.id}", f"{CANARY}event"):
        connection.request("POST", path, b"{" * 100_000)
        answer = connection.getresponse()
        answer.read()
        assert (answer.status, answer.getheader("Connection")) == (401, "close")
    connection.close()


@pytest.mark.parametrize(
    ("path", "status"), [("/api/v1/nothing", 404), ("/api/convagents/nothing", 404), ("/metrics", 405)]
)
def test_says_so_outside_the_ingress_too(stack: Stack, path: str, status: int) -> None:
    """Whoever has a wrong address loses no request to the right one; without a body the connection stays."""
    connection = http.client.HTTPConnection("127.0.0.1", stack.settings.port, timeout=3)
    for body, said in ((None, None), (b"{" * 100_000, "close")):
        connection.request("POST", path, body)
        answer = connection.getresponse()
        answer.read()
        assert (answer.status, answer.getheader("Connection")) == (status, said)
    connection.close()


def test_keeps_the_connection_when_the_body_was_read(stack: Stack, customer: Customer) -> None:
    """Also after a refusal."""
    source = customer.source("retell")
    connection = http.client.HTTPConnection("127.0.0.1", stack.settings.port, timeout=3)
    for _ in range(2):
        path = f"/api/v1/webhooks/retell/{source.id}"
        connection.request("POST", path, b"{}", {"X-Retell-Signature": "v=1,d=0"})
        answer = connection.getresponse()
        answer.read()
        assert (answer.status, answer.getheader("Connection")) == (401, None)
        assert not answer.will_close
    connection.close()
