"""Senders that take their time and customers' servers that hang: nobody else notices them."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest

from relay.demo.embedded import EmbeddedPostgres, Scratch
from tests.answering import answer, answering
from tests.customers import Customer, Inlet
from tests.payloads import retell_event, retell_headers
from tests.stack import Stack, fresh_stack

WEBHOOKS = 200
SENDERS = 4
MOST_SECONDS = 1.0
CONTEXT = "/api/convagents/webhook/context"
QUESTION = b'{"conversationId":"conv_1"}'


@pytest.fixture(scope="module")
def stack(
    scratch: Scratch, embedded_postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """One web process, and nothing else."""
    with fresh_stack(scratch, embedded_postgres, logs=tmp_path_factory.mktemp("logs")) as stack:
        stack.start("web")
        yield stack


@pytest.mark.parametrize(
    ("half_bodies", "half_headers", "idle", "questions"),
    [(100, 0, 0, 32), (200, 100, 100, 0)],
    ids=["100 unfinished POSTs and 32 hanging contexts", "A16: 200 slow senders and 200 connections that say nothing"],
)
def test_slow_ones_hold_up_nobody(
    stack: Stack, customer: Customer, *, half_bodies: int, half_headers: int, idle: int, questions: int
) -> None:
    """One web process answers /livez and signed webhooks with a p99 under 1 s while all of them wait."""
    source = customer.source("retell")
    head, body = request(source, "call_slow")
    with ExitStack() as held:
        held.enter_context(hanging_questions(stack, customer, questions))
        slow = [held.enter_context(sent(stack, head + body[: len(body) // 2])) for _ in range(half_bodies)]
        slow += [held.enter_context(sent(stack, head[: len(head) // 2])) for _ in range(half_headers)]
        slow += [held.enter_context(sent(stack, b"")) for _ in range(idle)]

        with ThreadPoolExecutor(SENDERS) as pool:
            seconds = list(pool.map(lambda number: webhook_seconds(stack, source, number), range(WEBHOOKS)))
        alive_seconds = [timed(lambda: stack.get("/livez").status_code) for _ in range(50)]

        assert p99(seconds) < MOST_SECONDS
        assert p99(alive_seconds) < MOST_SECONDS
        assert select.select(slow, [], [], 0)[0] == []  # they wait still
        slow[0].sendall(body[len(body) // 2 :])
        assert slow[0].recv(65536).startswith(b"HTTP/1.1 200 ")


def request(source: Inlet, call_id: str) -> tuple[bytes, bytes]:
    """A good webhook as its head and its body."""
    body = retell_event("call_started", call_id, said="x" * 4000)
    [(name, proof)] = retell_headers(body, source.secret).items()
    path = "/" + source.url.split("/", 3)[3]
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{name}: {proof}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode(), body


@contextmanager
def sent(stack: Stack, part: bytes) -> Iterator[socket.socket]:
    """A connection on which only this was sent."""
    with socket.create_connection(("127.0.0.1", stack.settings.port), timeout=5) as connection:
        connection.sendall(part)
        yield connection


@contextmanager
def hanging_questions(stack: Stack, customer: Customer, count: int) -> Iterator[None]:
    """So many questions that wait for a customer's server; at the end they are answered."""
    with answering(answer(b"{}")) as server, ThreadPoolExecutor(max(1, count)) as pool:
        made = customer.template(server.url)
        secret = {"X-Webhook-Secret": made.template.webhook_secret}
        server.hold()
        waiting = [pool.submit(stack.post, CONTEXT, QUESTION, secret) for _ in range(count)]
        server.await_asked(count)
        yield
        assert not any(one.done() for one in waiting)
        server.release()
        assert [one.result().status_code for one in waiting] == [200] * count


def webhook_seconds(stack: Stack, source: Inlet, number: int) -> float:
    """How long a good webhook took."""
    body = retell_event("call_started", f"call_{number}", said="x" * 4000)
    headers = retell_headers(body, source.secret)
    return timed(lambda: stack.post(source.url, body, headers).status_code)


def timed(send: Callable[[], int]) -> float:
    """How long it took to be answered 200."""
    began = time.perf_counter()
    assert send() == 200
    return time.perf_counter() - began


def p99(seconds: list[float]) -> float:
    """What 99 of 100 took at most."""
    return sorted(seconds)[int(len(seconds) * 0.99)]
