"""What was said is nowhere in the clear: not in Redis, Postgres, logs or metrics, whatever happens on the way."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from relay.demo.embedded import EmbeddedPostgres, Scratch
from tests.customers import Customer
from tests.payloads import elevenlabs_headers, elevenlabs_transcription, retell_event, retell_headers
from tests.receiver import Receiver
from tests.scanner import Scanner, postgres_contents, redis_contents
from tests.stack import METRICS_TOKEN, Stack, fresh_stack

SAID = f"my card number is {secrets.token_hex(12)}"
PROVIDER_SECRET = f"provider-{secrets.token_hex(12)}"
WEBHOOK_SECRET = f"customer-{secrets.token_hex(12)}"
SIGNING_KEY = f"signing-{secrets.token_hex(12)}"  # 32 characters, behind whsec_ in base64
HEADER = f"header-{secrets.token_hex(12)}"
PATH_TOKEN = f"token-{secrets.token_hex(12)}"
RING = secrets.token_hex(24)
CANARIES = (SAID, PROVIDER_SECRET, WEBHOOK_SECRET, SIGNING_KEY, HEADER, PATH_TOKEN, RING, METRICS_TOKEN)


@pytest.fixture
def stack(scratch: Scratch, embedded_postgres: EmbeddedPostgres, tmp_path: Path) -> Iterator[Stack]:
    """All processes, as talkative as they can be."""
    settings = {"LOG_LEVEL": "DEBUG", "SWITCHHOOK_KEYS": RING}
    with fresh_stack(scratch, embedded_postgres, logs=tmp_path, settings=settings) as stack:
        stack.start("web", "worker", "beat")
        yield stack


def set_up(customer: Customer, url: str) -> str:
    """An endpoint full of secrets; what it is signed with."""
    whsec = "whsec_" + base64.b64encode(SIGNING_KEY.encode()).decode()
    customer.endpoint(
        f"{url}/{PATH_TOKEN}", webhook_secret=WEBHOOK_SECRET, signing_secret=whsec, headers={"X-Own": HEADER}
    )
    return whsec


def everything_written(stack: Stack, scratch: Scratch) -> Iterator[tuple[str, bytes]]:
    """All of Redis, its append-only file, all of Postgres, all logs and the metrics."""
    yield from redis_contents(stack.redis)
    yield "append-only file", (stack.redis_server.directory / "appendonly.aof").read_bytes()
    with stack.database.begin() as connection:
        yield from postgres_contents(connection)
    for log in (*stack.logs.iterdir(), *scratch.directory.glob("*.log")):
        yield log.name, log.read_bytes()
    yield "metrics", stack.get("/metrics", {"Authorization": f"Bearer {METRICS_TOKEN}"}).content


def test_keeps_content_and_secrets_out_of_everything_that_is_written(
    stack: Stack, customer: Customer, receiver: Receiver, scratch: Scratch
) -> None:
    """While content waits and after it went, however its delivery, its charge or its sender fails."""
    source, other = (customer.source(name, secret=PROVIDER_SECRET) for name in ("retell", "elevenlabs"))
    set_up(customer, receiver.url)
    scanner = Scanner(CANARIES)
    receiver.next_replies(500, "reset", "echo")
    call, conversation = retell_event("call_ended", "call_1", said=SAID), elevenlabs_transcription("conv_1", said=SAID)
    with stack.database.begin() as connection:
        connection.execute(text("ALTER TABLE ledger ADD CONSTRAINT refused CHECK (conversation_id <> 'call_1')"))

    assert stack.post(source.url, call, retell_headers(call, PROVIDER_SECRET)).ok
    assert stack.post(other.url, conversation, elevenlabs_headers(conversation, PROVIDER_SECRET)).ok
    for broken in (call[:-1], call.replace(b'"call_id"', b'"id"'), call + b"\xff", SAID.encode()):
        assert not stack.post(source.url, broken, {"X-Retell-Signature": PROVIDER_SECRET}).ok
        assert not stack.post("/api/convagents/webhook/complete", broken, {"X-Webhook-Secret": PROVIDER_SECRET}).ok
    receiver.await_posts(2)
    while_waiting = scanner.found_in_all(everything_written(stack, scratch))
    receiver.usual_reply("echo")
    receiver.await_posts(4)
    with stack.database.begin() as connection:
        connection.execute(text("ALTER TABLE ledger DROP CONSTRAINT refused"))
    [worker] = [process for process in stack.processes if process.command[0] == "worker"]
    worker.await_event("charge_refused")

    assert SAID.encode() in receiver.posts[-1].body
    assert while_waiting == set()
    assert scanner.found_in_all(everything_written(stack, scratch)) == set()


def test_the_scan_finds_what_is_there(stack: Stack, scratch: Scratch) -> None:
    """A positive control: a canary in each kind of key, in a row, in a log and in each spelling is found."""
    scanner = Scanner([SAID])
    encoded = base64.b64encode(f"xx{SAID}".encode())
    stack.redis.set("a", f"..{SAID}")
    stack.redis.hset("b", "field", encoded)
    stack.redis.rpush("c", SAID.encode("utf-16-le"))
    stack.redis.xadd("d", {"field": SAID.encode().hex()})
    stack.redis.zadd("e", {json.dumps(SAID): 1})
    stack.redis.sadd("f", SAID)
    stack.redis.set(SAID, "1")
    (stack.logs / "planted.log").write_text(f"{SAID}\n")
    stack.customers.create().template(None, name=SAID)

    found = scanner.found_in_all(everything_written(stack, scratch))

    assert {place for place, _ in found} >= {
        "a", "b", "c", "d", "e", "f", SAID, "append-only file", "templates", "planted.log"
    }  # fmt: skip


def test_every_line_on_standard_output_is_json(stack: Stack, customer: Customer, receiver: Receiver) -> None:
    """From the first line to the last, with a time, a level and an event; standard error stays empty."""
    source = customer.source("retell", relay_url=receiver.url)
    body = retell_event("call_ended", "call_2", start_timestamp=None)

    stack.post(source.url, body, retell_headers(body, source.secret))
    stack.await_settled(customer)
    for process in stack.processes:
        process.close()

    lines = [json.loads(line) for process in stack.processes for line in process.stdout.read_text().splitlines()]
    assert {"worker_ready", "session_unrated", "worker_stopped"} <= {line["event"] for line in lines}
    assert all({"time", "level", "event"} <= line.keys() for line in lines)
    assert [process.stderr.read_text() for process in stack.processes] == [""] * 3
    assert [process.wait() for process in stack.processes] == [0, 0, 0]
