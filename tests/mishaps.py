"""What a privacy run is made of: an account full of secrets, what is sent in its name, and all that goes wrong."""

from __future__ import annotations

import base64
import re
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Final

import psutil

from relay.directory import Mirror
from relay.outbox import keys
from relay.queues import RELAY
from relay.sealing import KeyRing
from relay.store import accounts, endpoints
from tests import audio
from tests.customers import Customer
from tests.echo import Echo, Manner
from tests.planted import Canary
from tests.processes import ManagedProcess
from tests.recording_server import Manner as RecordingManner
from tests.recording_server import recording
from tests.senders import Sender, Sent
from tests.stack import Stack
from tests.waiting import eventually

PATIENCE: Final = 45.0
SHORT_DEADLINE_SECONDS: Final = 1
LONG_DEADLINE_SECONDS: Final = 20
# How a customer's server may fail an agent that asks it something, within the time of a test.
UNHELPFUL: Final[tuple[Manner, ...]] = ("fail", "garbage", "endless")


def set_up(stack: Stack, customer: Customer, echoes: Mapping[Manner, Echo]) -> Sender:
    """An account full of secrets, whose events go to every echo, to a server that is gone, and to a template's own."""
    provider_secret, webhook_secret, header, in_path, signing_key = (
        f"{name}-{secrets.token_hex(12)}" for name in ("provider", "customer", "header", "path", "signing")
    )
    options: dict[str, Any] = {
        "webhook_secret": webhook_secret,
        # 32 characters, behind whsec_ in base64.
        "signing_secret": "whsec_" + base64.b64encode(signing_key.encode()).decode(),
        "headers": {"X-Own": header},
        "deadline_seconds": SHORT_DEADLINE_SECONDS,
    }
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        dead_url = f"http://127.0.0.1:{unused.getsockname()[1]}/hook"
    for url in (*(echo.url for echo in echoes.values()), dead_url):
        customer.endpoint(f"{url}/{in_path}", **options)
    # One whose answers are read: what it took it gives back, with this member.
    customer.endpoint(f"{echoes['take'].url}/{in_path}", failure_when="$.not_documented", **options)
    sources = [customer.source(name, secret=provider_secret) for name in ("elevenlabs", "retell", "agora")]
    manners: tuple[Manner, ...] = ("take", *UNHELPFUL)
    template_secrets = {manner: f"template-{secrets.token_hex(12)}" for manner in manners}
    for manner, template_secret in template_secrets.items():
        customer.template(f"{echoes[manner].url}/{in_path}", webhook_secret=template_secret)
    made_for_templates = tuple(template_secrets.values())
    with stack.database.begin() as connection:
        key = accounts.create_key(connection, account_id=customer.id).key
    publish(stack, customer)
    return Sender(
        elevenlabs_url=sources[0].url,
        retell_url=sources[1].url,
        agora_url=sources[2].url,
        provider_secret=provider_secret,
        template_secret=template_secrets.pop("take"),
        unhelpful_secrets=tuple(template_secrets.values()),
        api_key=key,
        secrets=(provider_secret, webhook_secret, header, in_path, signing_key, key, *made_for_templates),
    )


@contextmanager
def served_recordings(canary: Canary) -> Iterator[dict[str, str]]:
    """Recordings in which something is said, at servers of every manner; their addresses."""
    said = " ".join((canary.token, str(canary.number))).encode()
    file, page = audio.wav(2_000, said=said), b"<html>" + said * 100
    manners: dict[RecordingManner, bytes] = {
        "ranges": file, "whole": file, "short": file, "gzip": file, "missing": page, "redirect": b"",
    }  # fmt: skip
    with ExitStack() as exits:
        servers = {manner: exits.enter_context(recording(held, manner)) for manner, held in manners.items()}
        servers["redirect"].target = f"{servers['whole'].url}/{canary.token}"
        page_server = exits.enter_context(recording(page))
        yield {manner: server.url for manner, server in servers.items()} | {"a page": page_server.url}


def await_post(echo: Echo, *, what: str) -> None:
    """Wait until something came to a customer's server."""
    eventually(lambda: echo.posts > 0, within_seconds=PATIENCE, what=f"a POST to {what}")


def publish(stack: Stack, customer: Customer) -> None:
    """Mirror what was written past the provisioning."""
    Mirror(stack.redis, KeyRing(stack.settings.keys)).publish(stack.database, customer.id)


def answer(stack: Stack, one: Sent) -> tuple[int, str]:
    """Send a request; status, headers and body of its answer."""
    given = stack.post(one.url, one.body, one.headers)
    return given.status_code, f"{given.headers}\n{given.text}"


def speak(stack: Stack, line: bytes) -> bytes:
    """Send raw bytes to web, and nothing after them; what it says to that."""
    host, _, port = stack.url.removeprefix("http://").partition(":")
    heard = b""
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection, suppress(OSError):
        connection.sendall(line)
        connection.shutdown(socket.SHUT_WR)
        while piece := connection.recv(65536):
            heard += piece
    return heard


def core_limits_of(process: ManagedProcess) -> Iterator[tuple[int, int]]:
    """How large a core dump a process and its children may write: the soft and the hard limit."""
    parent = psutil.Process(process.pid)
    for one in (parent, *parent.children(recursive=True)):
        yield one.rlimit(psutil.RLIMIT_CORE)


def break_headers(stack: Stack, customer: Customer, echo: Echo) -> None:
    """Add an endpoint with a header that cannot be sent, as one that was written before it was refused."""
    with stack.database.begin() as connection:
        ring = KeyRing(stack.settings.keys)
        endpoints.create(connection, ring, account_id=customer.id, url=echo.url, headers={"X-Broken": "one\r\nanother"})
    publish(stack, customer)


def change_workers(stack: Stack, customer: Customer, worker: ManagedProcess, stuck: Echo, later: list[Sent]) -> None:
    """Kill a worker with a request in flight; then one comes whose keys open nothing; then content that is damaged."""
    endpoint = customer.endpoint(stuck.url, deadline_seconds=LONG_DEADLINE_SECONDS)
    first = send_again(stack, later[0])
    worker.await_event("dispatch_failed", within_seconds=PATIENCE)
    await_post(stuck, what="what hangs")
    worker.kill()

    second = send_again(stack, later[1])
    right, stack.env["SWITCHHOOK_KEYS"] = stack.env["SWITCHHOOK_KEYS"], secrets.token_hex(24)
    (wrong,) = stack.start("worker")
    stack.env["SWITCHHOOK_KEYS"] = right
    line = keys.line(RELAY, endpoint.id)

    def is_put_off() -> bool:
        due_ms: Any = stack.redis.zscore(line, second)
        return due_ms is not None and due_ms > time.time() * 1000 + 1000

    eventually(is_put_off, within_seconds=PATIENCE, what="the release of what cannot be opened")
    wrong.close()
    for event_id in (first, second):
        stack.redis.set(keys.sealed(event_id), b"\x01\x02k1 is damaged", keepttl=True)
    stack.start("worker")


def send_again(stack: Stack, one: Sent) -> str:
    """Send a webhook that is taken; the event's id."""
    status, told = answer(stack, one)
    assert status == 200
    found = re.search("evt_[a-z2-7]+", told)
    assert found is not None
    return found[0]
