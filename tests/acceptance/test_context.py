"""CanaryLLM's `context`: an agent asks in the middle of a call, the customer's server answers, nothing is kept."""

from __future__ import annotations

import re
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from requests import Response
from standardwebhooks import Webhook

from relay.calls import derived_session_id
from relay.delivery.caller import MOST_CALLS
from relay.directory import Mirror
from relay.sealing import KeyRing
from relay.store import endpoints
from relay.store.templates import NewTemplate
from tests.answering import Answering, answer, answering
from tests.customers import Customer
from tests.payloads import ODD_MEMBERS
from tests.scanner import Scanner
from tests.stack import Stack
from tests.written import postgres_contents, redis_contents

PATH = "/api/convagents/webhook/context"
QUESTION = b'{"conversationId":"conv_1","query":"Who is calling?"}'
WHOLE = answer(b'{"caller":"Ada"}', content_type="application/json")


def ask(
    stack: Stack, made: NewTemplate, body: bytes = QUESTION, *, headers: Mapping[str, str] | None = None
) -> Response:
    """Ask as an agent's tool does."""
    return stack.post(PATH, body, {"X-Webhook-Secret": made.template.webhook_secret, **(headers or {})})


def assert_refused(answered: Response, status: int, code: str) -> None:
    """The answer is CanaryLLM's envelope of errors."""
    told = answered.json()
    assert (answered.status_code, told["success"], told["code"]) == (status, False, code)
    assert answered.headers["Content-Type"] == "application/json"


def impatient(stack: Stack, customer: Customer, made: NewTemplate, *, deadline_seconds: int) -> None:
    """Give the template's endpoint another deadline, before it is first used."""
    ring = KeyRing(stack.settings.keys)
    assert made.endpoint is not None
    with stack.database.begin() as connection:
        endpoints.update(
            connection, ring, account_id=customer.id, endpoint_id=made.endpoint.id, deadline_seconds=deadline_seconds
        )
    Mirror(stack.redis, ring).publish(stack.database, customer.id)


@pytest.fixture
def server() -> Iterator[Answering]:
    """A customer's server that knows who is calling."""
    with answering(WHOLE) as it:
        yield it


def test_gives_the_customers_answer_back(stack: Stack, customer: Customer) -> None:
    """Status, Content-Type and body are the customer's, byte for byte; only the id is ours; asked as deliveries are."""
    said = bytes(range(256))
    question = b' {"conversationId": "conv_1",\n "query":"Wer?", ' + ODD_MEMBERS.encode() + b"} "
    with answering(answer(said, status="203 As I Heard", content_type="text/plain; charset=x-odd")) as server:
        made = customer.template(server.url, name='Büro "Nord"')

        answered = ask(stack, made, question)

        [asked] = server.asked
    assert (answered.status_code, answered.headers["Content-Type"]) == (203, "text/plain; charset=x-odd")
    assert answered.content == said
    assert answered.headers["X-Request-Id"].startswith("req_")
    session = derived_session_id(customer.id, "elevenlabs", "conv_1")
    timestamp = re.search(rb'"timestamp":"([0-9TZ:.-]+)"', asked.body)
    assert timestamp is not None
    assert made.endpoint is not None
    head = (
        f'{{"event":"context","sessionId":{session},"templateId":{made.template.id},'
        f'"templateName":"Büro \\"Nord\\"","timestamp":"{timestamp[1].decode()}","data":'
    )
    assert asked.body == head.encode() + question + b"}"
    Webhook(made.endpoint.signing_secrets[0]).verify(asked.body, asked.headers)
    assert asked.headers["x-webhook-secret"] == made.endpoint.webhook_secret
    assert asked.headers["content-type"] == "application/json"
    assert asked.headers["switchhook-event"] == "elevenlabs.context"
    assert (asked.headers["switchhook-session"], asked.headers["switchhook-attempt"]) == (str(session), "1")


def test_asks_about_the_session_that_the_body_names(stack: Stack, customer: Customer, server: Answering) -> None:
    """A session that was opened before the call keeps its id."""
    made = customer.template(server.url)
    session = customer.session(made.template.id)

    assert ask(stack, made, b'{"sessionId":"%d"}' % session).content == b'{"caller":"Ada"}'

    assert server.asked[0].body.startswith(b'{"event":"context","sessionId":%d,' % session)


def test_the_same_words_are_asked_each_time(stack: Stack, customer: Customer, server: Answering) -> None:
    """Each question wants an answer and has an id of its own, unless an Idempotency-Key says that it is a repeat."""
    made = customer.template(server.url)

    assert [ask(stack, made).status_code for _ in range(2)] == [200, 200]
    assert [ask(stack, made, headers={"Idempotency-Key": "one"}).status_code for _ in range(2)] == [200, 200]

    first, second, third, fourth = [asked.headers["webhook-id"] for asked in server.asked]
    assert len({first, second, third}) == 3
    assert third == fourth


@pytest.mark.parametrize(
    ("raw", "content_type"),
    [
        (answer(b"{}", content_type="x" * 257), "application/octet-stream"),
        (answer(b"{}", content_type="text/pläin"), "application/octet-stream"),
        (answer(b"{}"), None),
        (answer(status="204 No Content"), None),
    ],
    ids=["too long", "not ASCII", "none", "no content"],
)
def test_replaces_a_content_type_that_cannot_be_sent(
    stack: Stack, customer: Customer, raw: bytes, content_type: str | None
) -> None:
    """And adds none to an answer that has none."""
    with answering(raw) as server:
        answered = ask(stack, customer.template(server.url))

    assert answered.ok
    assert answered.headers.get("Content-Type") == content_type


@pytest.mark.parametrize(
    "raw",
    [
        answer(b"a secret of theirs", status="404 Not Found"),
        answer(b"a secret of theirs", status="500 Internal Server Error"),
        answer(status="302 Found\r\nLocation: http://127.0.0.1:1/"),
        answer(status="410 Gone"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it",
        b"HTTP/1.1 200 OK\r\n",
        b"no HTTP at all\r\n\r\n",
        b"",
        answer(b"a" * (64 * 1024 + 1)),
    ],
    ids=["404", "500", "302", "410", "cut body", "cut head", "no HTTP", "nothing", "over 64 KiB"],
)
def test_any_other_answer_is_a_failure(stack: Stack, customer: Customer, raw: bytes) -> None:
    """The agent is told that there is no answer, and nothing of what there was."""
    with answering(raw, closes=True) as server:
        answered = ask(stack, customer.template(server.url))

        assert len(server.asked) == 1
    assert_refused(answered, 502, "context_failed")
    assert "theirs" not in answered.text


def test_takes_an_answer_of_64_kib(stack: Stack, customer: Customer) -> None:
    """The limit itself is passed on whole."""
    with answering(answer(b"a" * 64 * 1024)) as server:
        assert ask(stack, customer.template(server.url)).content == b"a" * 64 * 1024


def test_a_server_that_is_not_there_is_a_failure(stack: Stack, customer: Customer) -> None:
    """Whatever the reason is that it cannot be reached."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]

    assert_refused(ask(stack, customer.template(f"http://127.0.0.1:{port}/")), 502, "context_failed")


def test_a_server_that_hangs_is_a_timeout(stack: Stack, customer: Customer, server: Answering) -> None:
    """The endpoint's own deadline holds."""
    made = customer.template(server.url)
    impatient(stack, customer, made, deadline_seconds=1)
    server.hold()

    began = time.monotonic()
    answered = ask(stack, made)

    assert 1 <= time.monotonic() - began < 2
    assert_refused(answered, 504, "context_timeout")


def test_a_template_without_an_endpoint_has_nobody_to_ask(stack: Stack, customer: Customer, server: Answering) -> None:
    """An endpoint of the whole account is told of events; it does not answer for a template."""
    customer.endpoint(server.url)

    assert_refused(ask(stack, customer.template(None)), 409, "endpoint_missing")
    assert server.asked == []


def test_a_disabled_endpoint_is_not_asked(stack: Stack, customer: Customer, server: Answering) -> None:
    """Its account has said that nothing goes there."""
    made = customer.template(server.url)
    assert made.endpoint is not None
    customer.set_state(made.endpoint.id, enabled=False)

    assert_refused(ask(stack, made), 502, "context_failed")
    assert server.asked == []


def test_a_question_to_our_own_context_is_stopped(stack: Stack, customer: Customer) -> None:
    """A7: at the first round, or each question would hold another until all 32 places were taken."""
    made = customer.template(stack.url + PATH)
    counter = "switchhook_relay_context_requests_total"
    before = stack.scrape().get(counter, 0)

    assert_refused(ask(stack, made), 502, "context_failed")

    assert stack.scrape()[counter] == before + 2
    assert_refused(ask(stack, made, headers={"Switchhook-Event": "elevenlabs.context"}), 508, "loop_detected")


def test_takes_32_questions_at_once(stack: Stack, customer: Customer, server: Answering) -> None:
    """The next one is told to come again in a second; the others get their answers."""
    made = customer.template(server.url)
    server.hold()

    with ThreadPoolExecutor(MOST_CALLS) as pool:
        waiting = [pool.submit(ask, stack, made) for _ in range(MOST_CALLS)]
        server.await_asked(MOST_CALLS)
        refused = ask(stack, made)
        server.release()

    assert_refused(refused, 503, "context_busy")
    assert refused.headers["Retry-After"] == "1"
    assert [future.result().content for future in waiting] == [b'{"caller":"Ada"}'] * MOST_CALLS
    assert ask(stack, made).status_code == 200


@pytest.mark.parametrize(
    ("headers", "body", "status", "code"),
    [
        ({"X-Webhook-Secret": ""}, QUESTION, 401, "secret_missing"),
        ({"X-Webhook-Secret": "nobody's"}, QUESTION, 401, "secret_invalid"),
        ({}, b"{", 400, "body_not_json"),
        ({}, b"[]", 400, "body_not_object"),
        ({}, b'{"query":"Who?"}', 400, "session_required"),
        ({}, b" " * (10 * 1024 * 1024 + 1), 413, "body_too_large"),
        ({"Content-Encoding": "gzip"}, QUESTION, 415, "content_encoding_refused"),
        ({"Idempotency-Key": "k" * 257}, QUESTION, 400, "fact_too_long"),
    ],
)
def test_refuses_what_event_refuses(
    stack: Stack, customer: Customer, *, headers: dict[str, str], body: bytes, status: int, code: str
) -> None:
    """With the same codes, and without a word to the customer's server."""
    with answering(WHOLE) as server:
        assert_refused(ask(stack, customer.template(server.url), body, headers=headers), status, code)

        assert server.asked == []


def test_refuses_a_session_of_another_template(stack: Stack, customer: Customer, server: Answering) -> None:
    """A template's secret opens its own sessions only; of several templates with one secret the body chooses."""
    made, other = customer.template(server.url), customer.template(server.url)
    session = customer.session(other.template.id)
    shared = [customer.template(server.url, webhook_secret=f"of-{customer.id}") for _ in range(2)]

    assert_refused(ask(stack, made, b'{"sessionId":%d}' % session), 404, "session_not_found")
    assert_refused(ask(stack, shared[0]), 400, "template_ambiguous")
    assert server.asked == []
    chosen = b'{"conversationId":"c","templateId":%d}' % shared[1].template.id
    assert ask(stack, shared[0], chosen).status_code == 200


def test_keeps_nothing(stack: Stack, customer: Customer, server: Answering) -> None:
    """Neither question nor answer is written anywhere, and neither is counted as accepted, delivered or billed."""
    said, known = f"asked-{secrets.token_hex(12)}", f"answered-{secrets.token_hex(12)}"
    scanner = Scanner([said, known])
    made = customer.template(server.url)
    before, keys = stack.scrape(), event_keys(stack, customer, made)

    for raw in (answer(known.encode()), answer(known.encode(), status=f"500 {known}"), known.encode()):
        server.raw = raw
        ask(stack, made, b'{"conversationId":"conv_1","query":"%b"}' % said.encode())

    assert [said.encode() in asked.body for asked in server.asked] == [True] * 3
    assert scanner.found_in_all(written(stack)) == set()
    assert event_keys(stack, customer, made) <= keys
    assert (stack.deliveries(customer), stack.sessions(customer), stack.charges(customer)) == ([], [], [])
    after = stack.scrape()
    assert after["switchhook_relay_units"] == before["switchhook_relay_units"]
    for name in ("switchhook_relay_ingress_requests_total", "switchhook_relay_accept_seconds_count"):
        assert after.get(name, 0) == before.get(name, 0)
    for name in ("switchhook_relay_context_requests_total", "switchhook_relay_context_seconds_count"):
        assert after[name] == before.get(name, 0) + 3


def event_keys(stack: Stack, customer: Customer, made: NewTemplate) -> set[Any]:
    """The keys of all events and their content, and of what waits for this customer: others' retries come and go."""
    assert made.endpoint is not None
    names = [f"sw:{kind}:*" for kind in ("event", "facts", "sealed")]
    names += [f"sw:{kind}:*:{key}" for kind in ("line", "fly") for key in (customer.id, made.endpoint.id)]
    return {key for name in names for key in stack.redis.keys(name)}


def written(stack: Stack) -> Iterator[tuple[str, bytes]]:
    """All of Redis, all of Postgres, and all logs."""
    yield from redis_contents(stack.redis)
    with stack.database.begin() as connection:
        yield from postgres_contents(connection)
    for log in stack.logs.iterdir():
        yield log.name, log.read_bytes()
