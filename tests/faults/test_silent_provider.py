"""A provider that takes connections and says nothing: the customer who keeps asking for it holds up nobody else."""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress

import pytest

from relay.demo.embedded import EmbeddedPostgres, Scratch
from tests.customers import Customer
from tests.faults.test_slow_senders import sent, timed, webhook_seconds
from tests.stack import Stack, fresh_stack
from tests.waiting import eventually

SESSIONS = "/api/convagents/sessions"
# More than the 256 threads of one server process.
REQUESTS = 300
WEBHOOKS = 100
MOST_SECONDS = 1.0
# How many requests of one account may wait for others' servers at once (docs/api.md).
WAITING = 8


@contextmanager
def silence() -> Iterator[str]:
    """A base URL where connections are made and nothing is answered; at the end they are reset."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def stack(
    scratch: Scratch, embedded_postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """One web process, and a Retell that is silent until just before the end."""
    logs = tmp_path_factory.mktemp("logs")
    with fresh_stack(scratch, embedded_postgres, logs=logs) as stack, silence() as url:
        stack.env["SWITCHHOOK_RETELL_BASE_URL"] = url
        stack.start("web")
        yield stack


def test_webhooks_are_taken_while_one_customer_waits_for_a_silent_provider(stack: Stack, customer: Customer) -> None:
    """300 sessions asked for with one key: 8 wait, the rest are told 503 at once, and no other account notices."""
    busy = stack.customers.create()
    busy.provider_key("retell", "own")
    template = busy.template(None, provider="retell", agent_id="agent_1").template
    body = json.dumps({"templateId": template.id})
    head = f"POST {SESSIONS} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {busy.api_key().key}\r\nConnection: close\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()
    source = customer.source("retell")

    with ExitStack() as held:
        asking = [held.enter_context(sent(stack, request)) for _ in range(REQUESTS)]
        with ThreadPoolExecutor(4) as pool:
            seconds = list(pool.map(lambda number: webhook_seconds(stack, source, number), range(WEBHOOKS)))
        alive_seconds = timed(lambda: stack.get("/livez").status_code)

        assert max(*seconds, alive_seconds) < MOST_SECONDS
        eventually(lambda: len(_answered(asking)) >= REQUESTS - WAITING, within_seconds=5, what="refusals")
        refusals = [_read(one) for one in _answered(asking)]
        assert len(refusals) == REQUESTS - WAITING  # the others wait still
        assert {refusal.partition(b"\r\n")[0] for refusal in refusals} == {b"HTTP/1.1 503 Service Unavailable"}
        assert all(b'"code":"API_BUSY"' in refusal and b"retry-after: 1\r\n" in refusal.lower() for refusal in refusals)


def _answered(connections: list[socket.socket]) -> list[socket.socket]:
    return select.select(connections, [], [], 0)[0]


def _read(connection: socket.socket) -> bytes:
    parts = []
    with suppress(ConnectionResetError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)
