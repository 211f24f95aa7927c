"""One call to a provider's API, against a server that misbehaves in every way that one can."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any, Final

import pytest

from relay.errors import ProviderFailed, ProviderUnavailable
from relay.providers.rest import client, deadline
from relay.providers.rest.client import Rest, segment
from tests.waiting import eventually

SECRET: Final = "sk-the-key-itself"
SAID: Final = "the caller's own words"


@dataclass
class Server:
    """A server of one test. It answers 200 `{}` unless told otherwise; `seen` has what was asked of it."""

    url: str = ""
    seen: list[tuple[str, str]] = field(default_factory=list)
    next: deque[Callable[[Handler], None]] = field(default_factory=deque)

    def replies(self, *statuses: int, body: bytes = b"{}", **headers: str) -> None:
        """Answer the next requests so."""
        for status in statuses:
            self.next.append(lambda handler, status=status: handler.reply(status, body, headers))  # type: ignore[misc]


class Handler(BaseHTTPRequestHandler):
    """Takes the next reply."""

    protocol_version = "HTTP/1.1"
    told: Server

    def serve(self) -> None:
        """Record, then do what the test wants."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.told.seen.append((self.command, self.path))
        reply = self.told.next.popleft() if self.told.next else (lambda handler: handler.reply(200, b"{}", {}))
        reply(self)

    do_GET = do_POST = do_PATCH = do_DELETE = serve  # noqa: N815  (the base class's names)

    def reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        """A whole answer."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class's name
        """Say nothing."""


class Quiet(ThreadingHTTPServer):
    """A client that went away is nothing to print."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    """A server for one test."""
    told = Server()
    http = Quiet(("127.0.0.1", 0), type("Bound", (Handler,), {"told": told}))
    thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    told.url = f"http://127.0.0.1:{http.server_port}"
    yield told
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited between the tries, without waiting."""
    waited: list[float] = []
    # The module's own name for it: threads of other parts sleep too.
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=waited.append)
    monkeypatch.setattr("relay.providers.rest.client.time", clock)
    return waited


def _rest(server: Server) -> Rest:
    return Rest(server.url, headers={"xi-api-key": SECRET})


def test_returns_the_decoded_answer(server: Server) -> None:
    """JSON is decoded, and an empty answer is None."""
    server.replies(200, body=b'{"agent_id": "a1"}')
    server.replies(204, body=b"")

    assert _rest(server).call("GET", "/v1/x", params={"q": "a b"}) == {"agent_id": "a1"}
    assert _rest(server).call("DELETE", "/v1/x") is None
    assert server.seen == [("GET", "/v1/x?q=a+b"), ("DELETE", "/v1/x")]


@pytest.mark.parametrize(
    ("method", "statuses", "tries"),
    [
        ("GET", (500, 502), 3),
        ("PATCH", (503, 408), 3),
        ("DELETE", (504,), 2),
        ("POST", (429, 503), 3),  # the provider has not acted on these
    ],
)
def test_tries_again_where_that_is_safe(
    server: Server, waits: list[float], method: str, statuses: tuple[int, ...], tries: int
) -> None:
    """A provider that is busy is asked again, at growing distances."""
    server.replies(*statuses)

    assert _rest(server).call(method, "/v1/x") == {}
    assert len(server.seen) == tries
    assert waits == [0.25, 1.0][: tries - 1]


def test_gives_up_after_three_tries(server: Server, waits: list[float]) -> None:
    """Then it is for the caller to come back later."""
    server.replies(503, 429, 500)

    with pytest.raises(ProviderUnavailable):
        _rest(server).call("GET", "/v1/x")
    assert len(server.seen) == 3


@pytest.mark.parametrize(("asked", "waited"), [("1", 1.0), ("3600", 2.0), ("tomorrow", 0.25), ("-1", 0.25)])
def test_waits_as_asked_but_not_for_long(server: Server, waits: list[float], asked: str, waited: float) -> None:
    """Retry-After in seconds is honoured up to two: somebody may be waiting."""
    server.replies(429, Retry_After=asked)

    _rest(server).call("GET", "/v1/x")
    assert waits == [waited]


@pytest.mark.parametrize("status", [500, 502, 504])
def test_a_post_with_an_unknown_outcome_is_not_repeated(server: Server, status: int) -> None:
    """A gateway's error says nothing of whether the agent was made."""
    server.replies(status)

    with pytest.raises(ProviderUnavailable):
        _rest(server).call("POST", "/v1/x", json={})
    assert len(server.seen) == 1


def test_a_post_whose_connection_breaks_is_not_repeated(server: Server) -> None:
    """It may have been acted on."""
    server.next.append(lambda handler: setattr(handler, "close_connection", True))

    with pytest.raises(ProviderUnavailable):
        _rest(server).call("POST", "/v1/x", json={})
    assert len(server.seen) == 1


def test_a_get_whose_connection_breaks_is_repeated(server: Server, waits: list[float]) -> None:
    """Reading twice changes nothing."""
    server.next.append(lambda handler: setattr(handler, "close_connection", True))

    assert _rest(server).call("GET", "/v1/x") == {}
    assert len(server.seen) == 2


def test_a_server_that_is_silent_is_left(server: Server, waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting ends with the timeout, and no try begins when the tries together took too long."""
    monkeypatch.setattr(client, "READ_SECONDS", 0.1)
    monkeypatch.setattr(client, "_TRIES_WITHIN_SECONDS", 0.05)
    released = threading.Event()

    def hang(_: Handler) -> None:
        released.wait(30)

    server.next.extend([hang] * 3)

    try:
        with pytest.raises(ProviderUnavailable):
            _rest(server).call("GET", "/v1/x")
        assert waits == []  # as there are between tries
        # The client may have gone before the server has read what it was sent.
        eventually(lambda: server.seen, within_seconds=20, what="the request")
        assert len(server.seen) == 1
    finally:
        released.set()


@pytest.mark.parametrize(
    ("begin", "drop"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n", b" "),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\x08\x10" + bytes(6), b"x"),
        (b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x"),
        (b"", b"H"),
    ],
    ids=["chunks", "bytes", "zipped", "headers", "status"],
)
def test_an_answer_that_trickles_is_left(
    server: Server, monkeypatch: pytest.MonkeyPatch, begin: bytes, drop: bytes
) -> None:
    """A byte now and then keeps the timeout of a read from ever coming; the whole has one of its own."""
    monkeypatch.setattr(client, "_TRIES_WITHIN_SECONDS", 0.0)
    monkeypatch.setattr(deadline, "WHOLE_SECONDS", 0.2)
    gone = threading.Event()

    def drip(handler: Handler) -> None:
        handler.wfile.write(begin)
        while not gone.wait(0.02) and time.monotonic() < ends_at:
            handler.wfile.write(drop)

    server.next.append(drip)
    ends_at = time.monotonic() + 20
    try:
        with pytest.raises(ProviderUnavailable):
            _rest(server).call("GET", "/v1/x")
        assert time.monotonic() < ends_at, "it was heard to its end"
    finally:
        gone.set()


def test_redirects_are_not_followed(server: Server) -> None:
    """The key goes nowhere but to the base URL."""
    server.replies(307, Location=f"{server.url}/elsewhere")

    with pytest.raises(ProviderFailed) as caught:
        _rest(server).call("GET", "/v1/x")
    assert caught.value.provider_status == 307
    assert server.seen == [("GET", "/v1/x")]


def test_a_huge_answer_is_not_read_to_its_end(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded, whatever the provider sends."""
    monkeypatch.setattr(client, "_MAX_REPLY_BYTES", 100_000)
    server.replies(200, body=b" " * 1_000_000)

    with pytest.raises(ProviderFailed, match="16 MiB"):
        _rest(server).call("GET", "/v1/x")


@pytest.mark.parametrize("body", [b"<html>", b"\xff\xfe\x00", b"[" * 100_000])
def test_an_answer_that_is_no_json_is_told_so(server: Server, body: bytes) -> None:
    """And not quoted."""
    server.replies(200, body=body)

    with pytest.raises(ProviderFailed, match="no JSON") as caught:
        _rest(server).call("GET", "/v1/x")
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "provider_failed"),
        (401, "provider_key_refused"),
        (403, "provider_key_refused"),
        (404, "provider_not_found"),
        (422, "provider_failed"),
    ],
)
def test_a_refusal_is_told_by_its_status(server: Server, status: int, code: str) -> None:
    """Once: the same again would be refused too."""
    server.replies(status, body=b'{"detail": "no"}')

    with pytest.raises(ProviderFailed) as caught:
        _rest(server).call("PATCH", "/v1/x", json={})
    assert (caught.value.code, caught.value.provider_status, len(server.seen)) == (code, status, 1)


@pytest.mark.parametrize(
    ("locs", "fields"),
    [
        ([["body", "tts", "speed"], ["body", "a word of a prompt"]], ("tts.speed",)),
        ([["body", "tools", 0, "name"], ["query", "page"], ["body"]], ("tools.0.name", "query.page", "body")),
        # 129 characters are too many.
        ([["body", *["n" * 60] * 2], ["body", *["n" * 60] * 2, "nnnnnnn"]], (f"{'n' * 60}.{'n' * 60}",)),
        ([["body", str(number)] for number in range(9)], ("0", "1", "2", "3", "4")),
        ([["body", "tts"], ["body", "tts"]], ("tts",)),
        ([["body", None], ["body", 1.5], [], "body", None], ()),
    ],
)
def test_names_our_own_fields_that_were_refused(server: Server, locs: list[Any], fields: tuple[str, ...]) -> None:
    """As far as they are plain names, a few and short; anything else might be a quotation."""
    server.replies(422, body=json.dumps({"detail": [{"loc": loc, "msg": "x"} for loc in locs]}).encode())

    with pytest.raises(ProviderFailed) as caught:
        _rest(server).call("POST", "/v1/x", json={})
    assert caught.value.fields == fields


def test_nothing_of_the_provider_or_of_the_key_is_in_our_errors(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither in their texts, nor in what they stand for, nor in a log."""
    caplog.set_level(logging.DEBUG)
    texts = []
    server.replies(400, 401, 404, 422, 500, body=b'{"detail": "%s"}' % SAID.encode())
    server.next.append(lambda handler: setattr(handler, "close_connection", True))
    rest = _rest(server)
    for _ in range(6):
        with pytest.raises((ProviderFailed, ProviderUnavailable)) as caught:
            rest.call("POST", f"/v1/{SAID}", json={"prompt": SAID})
        assert caught.value.__context__ is None
        texts += [str(caught.value), repr(caught.value), "".join(traceback.format_exception_only(caught.value))]
    texts += [repr(rest), *(record.getMessage() for record in caplog.records if record.name.startswith("switchhook"))]

    assert not [text for text in texts if SAID in text or SECRET in text]


def test_nobody_listens(waits: list[float]) -> None:
    """A refused connection is a provider that is away."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        # Bound meanwhile, so that nobody else listens there.
        with pytest.raises(ProviderUnavailable):
            Rest(url, headers={}).call("GET", "/v1/x")


@pytest.mark.parametrize(
    ("name", "path"),
    [("agent_1", "agent_1"), ("a/../b", "a%2F..%2Fb"), ("a?b#c", "a%3Fb%23c"), ("\x00é", "%00%C3%A9")],
)
def test_an_id_is_one_part_of_a_path(name: str, path: str) -> None:
    """Whatever a customer gives as an id, it leads nowhere else."""
    assert segment(name) == path


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_an_id_that_is_a_step_up_the_path_is_nobodys(name: str) -> None:
    """Clients and servers resolve dots, quoted or not."""
    with pytest.raises(ProviderFailed) as caught:
        segment(name)
    assert caught.value.provider_status == 404
