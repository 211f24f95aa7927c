"""Every refusal of the ingress: its status, its code, the field it names, and the form it is told in."""

from __future__ import annotations

import gzip
import http.client
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from requests import Response

from tests.customers import Customer, Inlet
from tests.payloads import elevenlabs_headers, elevenlabs_transcription, retell_digest, retell_event, retell_headers
from tests.receiver import Receiver
from tests.stack import Stack

LIMIT_BYTES = 10 * 1024 * 1024
CANARY = "/api/convagents/webhook/"
BODY = retell_event("call_ended", "call_1")


@pytest.fixture
def source(customer: Customer) -> Inlet:
    """A Retell source without an endpoint."""
    return customer.source("retell")


def assert_problem(answer: Response, status: int, code: str, field: str | None = None) -> None:
    """The answer is application/problem+json (RFC 9457) with a stable code, and the field where one is wrong."""
    told = answer.json()
    assert (answer.status_code, told["status"], told["code"], told.get("field")) == (status, status, code, field)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert told.keys() - {"field"} == {"type", "title", "status", "detail", "code"}


def assert_envelope(answer: Response, status: int, code: str, field: str | None = None) -> None:
    """The answer is CanaryLLM's envelope: `{success: false, error, code, details}`."""
    told = answer.json()
    details = None if field is None else {"field": field}
    assert (answer.status_code, told["success"], told["code"], told.get("details")) == (status, False, code, details)
    assert answer.headers["Content-Type"] == "application/json"
    assert told["error"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Retell-Signature": ""},
        {"X-Retell-Signature": "v=,d="},
        {"X-Retell-Signature": "v=1,d=" + "0" * 64},
        {"X-Retell-Signature": "d" * 8000},
        retell_headers(BODY, "another key"),
        retell_headers(BODY + b" ", "the key"),
        elevenlabs_headers(BODY, "the key"),
    ],
    ids=["missing", "empty", "hollow", "stale", "long", "other key", "other body", "other provider"],
)
def test_refuses_a_bad_proof(stack: Stack, customer: Customer, headers: Mapping[str, str]) -> None:
    """Whatever is wrong with it, a proof that does not hold is 401 and stores nothing."""
    source = customer.source("retell", secret="the key")

    assert_problem(stack.post(source.url, BODY, headers), 401, "signature_invalid")
    assert stack.post(source.url, BODY, retell_headers(BODY, "the key")).json()["repeat"] is False


@pytest.mark.parametrize(
    "path",
    ["/api/v1/webhooks/retell/src_unknown", "/api/v1/webhooks/nobody/{id}", "/api/v1/webhooks/elevenlabs/{id}"],
    ids=["source", "provider", "provider of another source"],
)
def test_does_not_know_what_is_not_there(stack: Stack, source: Inlet, path: str) -> None:
    """An unknown source is 404, and so is a source under another provider's name."""
    assert_problem(stack.post(path.format(id=source.id), BODY, retell_headers(BODY, source.secret)), 404, "not_found")


def test_refuses_a_body_over_the_limit_before_it_comes(stack: Stack, source: Inlet) -> None:
    """A Content-Length over the limit is answered 413 without waiting for the body."""
    connection = http.client.HTTPConnection("127.0.0.1", stack.settings.port, timeout=5)
    connection.putrequest("POST", source.url.removeprefix(stack.url))
    connection.putheader("X-Retell-Signature", "v=1,d=0")
    connection.putheader("Content-Length", str(LIMIT_BYTES + 1))
    connection.endheaders()

    answer = connection.getresponse()

    assert (answer.status, b'"body_too_large"' in answer.read()) == (413, True)
    connection.close()


def test_refuses_a_chunked_body_over_the_limit(stack: Stack, source: Inlet) -> None:
    """Without a length the body is read up to the limit and not truncated into something that could be taken."""

    def pieces() -> Iterator[bytes]:
        for _ in range(LIMIT_BYTES // 2**20):
            yield b" " * 2**20
        yield b" "

    assert_problem(stack.post(source.url, pieces(), retell_headers(BODY, source.secret)), 413, "body_too_large")


def test_takes_a_chunked_body_at_the_limit(stack: Stack, customer: Customer, receiver: Receiver) -> None:
    """The limit itself is taken whole, byte for byte."""
    source = customer.source("retell", relay_url=receiver.url)
    body = BODY + b" " * (LIMIT_BYTES - len(BODY))

    answer = stack.post(source.url, iter([body[:1000], body[1000:]]), retell_headers(body, source.secret))

    [post] = receiver.await_posts(1)
    assert answer.status_code == 200
    assert post.body == body


def test_takes_audio_beyond_the_limit(stack: Stack, customer: Customer) -> None:
    """ElevenLabs' recordings have a limit of their own, 64 MB."""
    source = customer.source("elevenlabs")
    head = b'{"type":"post_call_audio","event_timestamp":1795000000,"data":{"conversation_id":"conv_1","full_audio":"'
    body = head + b"A" * LIMIT_BYTES + b'"}}'

    assert stack.post(source.url, body, elevenlabs_headers(body, source.secret)).status_code == 200


def test_refuses_compressed_bodies(stack: Stack, source: Inlet) -> None:
    """Signatures are over plain bytes: a Content-Encoding is 415 even when the proof would hold."""
    body = gzip.compress(BODY)
    headers = {"X-Retell-Signature": "v=1,d=" + "0" * 64, "Content-Encoding": "gzip"}

    assert_problem(stack.post(source.url, body, headers), 415, "content_encoding_refused")


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        (b"", "body_not_json", None),
        (b"not JSON", "body_not_json", None),
        (b'{"event":"call_ended"', "body_not_json", None),
        (b"[]", "body_not_object", None),
        (b'"call_ended"', "body_not_object", None),
        (b'{"event":"call_ended","call":{"call_id":"caf\xe9"}}', "body_not_utf8", None),
        ('{"event":"call_ended"}'.encode("utf-16"), "body_not_utf8", None),
        (b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "body_too_deep", None),
        (b"{}", "field_required", "event"),
        (b'{"event":7}', "field_required", "event"),
        (b'{"event":"call_ended"}', "field_required", "call.call_id"),
        (b'{"event":"call_ended","call":[]}', "field_required", "call.call_id"),
        (b'{"event":"call_ended","call":{"call_id":12}}', "field_required", "call.call_id"),
        (b'{"event":"call_ended","call":{"call_id":""}}', "fact_empty", "call.call_id"),
        (b'{"event":"call_ended","call":{"call_id":"%b"}}' % (b"c" * 257), "fact_too_long", "call.call_id"),
        (b'{"event":"call_ended","call":{"call_id":"a\\u0000b"}}', "fact_unkeepable", "call.call_id"),
        (b'{"event":"call_ended","call":{"call_id":"a\\ud800b"}}', "fact_unkeepable", "call.call_id"),
    ],
)
def test_names_what_is_wrong_with_a_signed_body(
    stack: Stack, source: Inlet, body: bytes, code: str, field: str | None
) -> None:
    """A body whose proof holds is refused only for what is needed of it."""
    assert_problem(stack.post(source.url, body, retell_digest(body, source.secret)), 400, code, field)


@pytest.mark.parametrize(
    "member",
    [b"NaN", b"1e400", b"9" * 4301, b'"\\ud800"', b'"\\u0000"', b'"\x7f"', b"-Infinity", b"[" * 500 + b"]" * 500],
    ids=["NaN", "1e400", "4301 digits", "lone surrogate", "NUL", "DEL", "Infinity", "500 deep"],
)
def test_relays_oddities_in_fields_that_it_does_not_need(
    stack: Stack, customer: Customer, receiver: Receiver, member: bytes
) -> None:
    """What JSON parsers disagree about is not ours to judge: the customer gets the same bytes."""
    source = customer.source("retell", relay_url=receiver.url)
    body = b'{"event":"call_started","call":{"call_id":"call_2"},"odd":' + member + b"}"

    answer = stack.post(source.url, body, retell_digest(body, source.secret))

    [post] = receiver.await_posts(1)
    assert answer.status_code == 200
    assert post.body == body


def test_reads_json_whatever_the_content_type(stack: Stack, customer: Customer, receiver: Receiver) -> None:
    """And passes the Content-Type on."""
    source = customer.source("retell", relay_url=receiver.url)

    answer = stack.post(source.url, BODY, {**retell_headers(BODY, source.secret), "Content-Type": "text/plain"})

    [post] = receiver.await_posts(1)
    assert answer.status_code == 200
    assert post.headers["content-type"] == "text/plain"


@pytest.mark.parametrize(
    ("headers", "body", "told"),
    [
        ({}, b"{}", (401, "secret_missing")),
        ({"X-Webhook-Secret": ""}, b"{}", (401, "secret_missing")),
        ({"X-Webhook-Secret": "nobody's"}, b"{}", (401, "secret_invalid")),
        # The server hides a header that is not ASCII from the application.
        ({"X-Webhook-Secret": "café"}, b"{}", (401, "secret_missing")),
        ({"X-Webhook-Secret": "{secret}"}, b"{", (400, "body_not_json")),
        ({"X-Webhook-Secret": "{secret}"}, b"[]", (400, "body_not_object")),
        ({"X-Webhook-Secret": "{secret}"}, b"{}", (400, "session_required", "sessionId")),
        ({"X-Webhook-Secret": "{secret}"}, b'{"sessionId":"x"}', (400, "session_required", "sessionId")),
        ({"X-Webhook-Secret": "{secret}", "Content-Encoding": "br"}, b"{}", (415, "content_encoding_refused")),
        (
            {"X-Webhook-Secret": "{secret}", "Idempotency-Key": "k" * 257},
            b'{"sessionId":1}',
            (400, "fact_too_long", "Idempotency-Key"),
        ),
    ],
)
def test_tells_refusals_in_canaryllms_envelope(
    stack: Stack, customer: Customer, headers: Mapping[str, str], body: bytes, told: tuple[Any, ...]
) -> None:
    """CanaryLLM's paths keep CanaryLLM's form of errors, with our codes."""
    secret = customer.template(None).template.webhook_secret
    given = {name: value.replace("{secret}", secret).encode() for name, value in headers.items()}

    for route in ("event", "complete"):
        assert_envelope(stack.post(CANARY + route, body, given), *told)


@pytest.mark.parametrize("body", [b"{}", b"[", elevenlabs_transcription("conv_3")], ids=["empty", "broken", "whole"])
@pytest.mark.parametrize("route", ["event", "complete"])
def test_tells_nothing_about_a_body_that_nobody_proved(stack: Stack, body: bytes, route: str) -> None:
    """ElevenLabs' signature under an unknown secret is 401 whatever the body, and never opens /event."""
    headers = {**elevenlabs_headers(body, "nobody's"), "X-Webhook-Secret": ""}

    assert_envelope(
        stack.post(CANARY + route, body, headers), 401, "secret_invalid" if route == "complete" else "secret_missing"
    )


def test_tells_what_is_not_there_in_the_form_of_its_paths(stack: Stack) -> None:
    """Unknown paths and methods are told as the paths around them are."""
    assert_problem(stack.post("/api/v1/nothing", b"{}"), 404, "not_found")
    assert_problem(stack.get("/api/v1/webhooks/retell/src_1"), 405, "method_not_allowed")
    assert_envelope(stack.post("/api/convagents/nothing", b"{}"), 404, "NOT_FOUND")
    assert_envelope(stack.get(CANARY + "event"), 405, "method_not_allowed")


def test_refuses_an_elevenlabs_body_without_its_timestamp(stack: Stack, customer: Customer) -> None:
    """The timestamp is part of what makes a repeat known, so it is needed."""
    source = customer.source("elevenlabs")
    body = elevenlabs_transcription("conv_2").replace(b"event_timestamp", b"event_time")

    answer = stack.post(source.url, body, elevenlabs_headers(body, source.secret))

    assert_problem(answer, 400, "field_required", "event_timestamp")


def test_refuses_what_is_over_the_accounts_quota(stack: Stack, receiver: Receiver) -> None:
    """Undelivered content has a limit for each account: 503, told apart, with a time to come again."""
    customer = stack.customers.create(quota_bytes=4096)
    source = customer.source("retell", relay_url=receiver.url)
    body = retell_event("call_ended", "call_3", said="x" * 4096)

    answer = stack.post(source.url, body, retell_headers(body, source.secret))
    small = stack.post(source.url, BODY, retell_headers(BODY, source.secret))

    assert_problem(answer, 503, "over_quota")
    assert int(answer.headers["Retry-After"]) > 0
    assert small.status_code == 200
