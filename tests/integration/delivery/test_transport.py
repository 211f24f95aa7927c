"""The transport against servers that answer badly, slowly, endlessly, or from where nothing may be sent to."""

from __future__ import annotations

import gc
import gzip
import ipaddress
import os
import socket
import ssl
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from relay.content import Content
from relay.delivery.retry import AttemptResult, Failure
from relay.delivery.transport import BODY_CAP_BYTES, HEADERS_CAP_BYTES, Finished, Request, Transport

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
BODY = b'{"said":"hello"}'
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
DELIVERED = AttemptResult(status=200)
TRUNCATED = AttemptResult(failure=Failure.TRUNCATED)
DEADLINE_MS = 1_500
# Generous: a transfer that ends by itself ends long before.
PATIENT_MS = 15_000
MIB = 1024 * 1024

Answer = Callable[[socket.socket], None]
Serve = Callable[..., "Server"]


class Server:
    """Listens on loopback and hands every connection to `answer`, each in a thread of its own."""

    def __init__(self, answer: Answer, *, context: ssl.SSLContext | None, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=64)
        self._answer = answer
        self._context = context
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self.closing = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"{'https' if self._context else 'http'}://127.0.0.1:{self.port}/hook"

    def close(self) -> None:
        """Wait until every connection has ended; more than once does no harm."""
        if self.closing.is_set():
            return
        self.closing.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                thread = threading.Thread(target=self._serve, args=(connection,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with ExitStack() as stack:
            stack.enter_context(connection)
            stack.enter_context(suppress(OSError))
            connection.settimeout(10)
            if self._context is not None:
                connection = stack.enter_context(self._context.wrap_socket(connection, server_side=True))
            self._answer(connection)


def read_request(connection: socket.socket) -> bytes:
    """One request with its body; empty when the client has gone."""
    received = b""
    while not received.endswith(BODY):
        piece = connection.recv(65536)
        if not piece:
            return b""
        received += piece
    return received


def saying(*pieces: bytes) -> Answer:
    """Read the request, send the pieces, close the connection."""

    def answer(connection: socket.socket) -> None:
        read_request(connection)
        for piece in pieces:
            connection.sendall(piece)

    return answer


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Makes servers that end with the test."""
    with ExitStack() as stack:

        def make(
            answer: Answer, *, context: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0
        ) -> Server:
            server = Server(answer, context=context, host=host, port=port)
            stack.callback(server.close)
            return server

        yield make


@pytest.fixture
def transport(certificates: Certificates) -> Iterator[Transport]:
    """A transport that may call loopback and trusts the authority of these tests."""
    transport = Transport(allow=LOOPBACK, ca_file=str(certificates.ca_file), user_agent="Switchhook/test")
    yield transport
    _close(transport)


def _close(transport: Transport) -> None:
    transport.abort()
    transport.close()


def request_to(url: str, *, deadline_ms: int = PATIENT_MS) -> Request:
    headers = (b"Content-Type: application/json", b"webhook-id: evt_1", b"Expect:")
    return Request(url=url, headers=headers, body=Content(BODY), deadline_ms=deadline_ms)


def post(transport: Transport, url: str, *, deadline_ms: int = PATIENT_MS) -> Finished:
    """Send one request and wait for its end."""
    transport.start(request_to(url, deadline_ms=deadline_ms), "ticket")
    return finish(transport)[0]


def finish(transport: Transport) -> list[Finished]:
    """Step until nothing is in flight."""
    finished: list[Finished] = []
    while transport.in_flight:
        finished += transport.step(1.0)
    return finished


# -- answers that are none


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="nothing at all"),
        pytest.param(b"HTTP/1.1 200 OK\r\n", id="a status line and FIN"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Le", id="half a header"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", id="headers without their end"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", id="less than Content-Length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", id="a cut chunk"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", id="no last chunk"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n", id="a chunk size of junk"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\n", id="a length of junk"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", id="two lengths"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n", id="only an interim answer"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n", id="an interim answer, then half of one"),
        pytest.param(b"<html>hello</html>\r\n\r\n", id="HTTP/0.9"),
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n", id="another protocol"),
        pytest.param(b"HTTP/1.1 2\xff0 OK\r\n\r\n", id="a status of junk"),
    ],
)
def test_an_answer_that_was_cut_or_is_none_counts_as_truncated(
    serve: Serve, transport: Transport, answer: bytes
) -> None:
    """Whatever the status line promised: without a whole answer nothing was delivered."""
    assert post(transport, serve(saying(answer)).url).result == TRUNCATED


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"])
def test_a_reset_in_the_middle_counts_as_truncated(serve: Serve, transport: Transport, sent: bytes) -> None:
    """The receiver may have processed it: the retry has the same id."""

    def answer(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(sent)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    assert post(transport, serve(answer).url).result == TRUNCATED


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(OK, id="plain"),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", id="204"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" + OK, id="100-continue first"),
        pytest.param(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK, id="early hints first"),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\nhello", id="HTTP/1.0 until the end"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", id="chunked"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 1\r\n\r\n", id="trailers"),
        pytest.param(b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", id="line feeds alone (RFC 9112, 2.2)"),
    ],
)
def test_a_whole_answer_with_2xx_is_a_delivery(serve: Serve, transport: Transport, answer: bytes) -> None:
    """In any framing that HTTP/1 allows."""
    assert post(transport, serve(saying(answer)).url).result.is_delivered


def test_sends_the_bytes_and_headers_that_were_given(serve: Serve, transport: Transport) -> None:
    """The body is not touched, no Expect goes out, and no encoding is offered that we would not decode."""
    seen: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        seen.append(read_request(connection))
        connection.sendall(OK)

    assert post(transport, serve(answer).url).result == DELIVERED
    head, _, body = seen[0].partition(b"\r\n\r\n")
    assert body == BODY
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /hook HTTP/1.1"
    assert b"webhook-id: evt_1" in lines
    names = {line.partition(b":")[0].lower() for line in lines[1:]}
    assert names.isdisjoint({b"expect", b"accept-encoding", b"te", b"authorization", b"cookie"})


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_follows_no_redirect(serve: Serve, transport: Transport, status: int) -> None:
    """A redirect is an answer like any other; content and secrets go nowhere else."""
    elsewhere = serve(saying(OK))
    head = f"HTTP/1.1 {status} Elsewhere\r\nLocation: {elsewhere.url}\r\nContent-Length: 0\r\n\r\n"
    result = post(transport, serve(saying(head.encode())).url).result
    assert result == AttemptResult(status=status)
    assert not result.is_delivered
    assert elsewhere.connections == 0


def _in_an_hour() -> str:
    return (datetime.now(UTC) + timedelta(hours=1)).strftime("%a, %d %b %Y %H:%M:%S GMT")


@pytest.mark.parametrize(
    ("header", "lowest", "highest"),
    [
        ("Retry-After: 120", 120, 120),
        ("retry-after:7", 7, 7),
        ("RETRY-AFTER: \t 9 ", 9, 9),
        ("Retry-After: " + _in_an_hour(), 3_400, 3_600),
        ("Retry-After: 999999999999", 86_400, 86_400),
    ],
)
def test_reads_the_hint_when_to_come_again(
    serve: Serve, transport: Transport, header: str, lowest: int, highest: int
) -> None:
    """Seconds or a date, at most a day."""
    answer = f"HTTP/1.1 503 Busy\r\n{header}\r\nContent-Length: 0\r\n\r\n"
    result = post(transport, serve(saying(answer.encode())).url).result
    assert result.status == 503
    assert result.retry_after_seconds is not None
    assert lowest <= result.retry_after_seconds <= highest


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 503 Busy\r\nRetry-After: soon\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 503 Busy\r\nRetry-After: -5\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 503 Busy\r\nRetry-After:\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 503 Busy\r\nRetry-After: \xd9\xa5\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\nRetry-After: 5\r\n\r\nHTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_ignores_hints_that_make_no_sense(serve: Serve, transport: Transport, answer: bytes) -> None:
    """Junk is no hint, and what an interim answer says does not belong to the final one."""
    assert post(transport, serve(saying(answer)).url).result == AttemptResult(status=503)


# -- slow answers


def dripping(head: bytes, server_of: Callable[[], Server]) -> Answer:
    """Send the head, then one byte each 0.3 s."""

    def answer(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(head)
        while not server_of().closing.wait(0.3):
            connection.sendall(b"x")

    return answer


def test_a_drip_ends_by_its_deadline_and_frees_its_slot(
    serve: Serve, transport: Transport, certificates: Certificates
) -> None:
    """One byte per 0.3 s, in headers or body, over http or https, keeps nothing busy past the deadline."""
    servers: list[Server] = []
    for head in (b"HTTP/1.1 200 OK\r\nX-Slow: ", b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"):
        for context in (None, certificates.context("good")):
            place = len(servers)
            servers.append(serve(dripping(head, lambda place=place: servers[place]), context=context))  # type: ignore[misc]
    began = time.monotonic()
    for server in servers:
        transport.start(request_to(server.url, deadline_ms=DEADLINE_MS), server.url)
    finished = finish(transport)
    assert time.monotonic() - began < DEADLINE_MS / 1000 + 0.5
    assert {f.ticket for f in finished} == {server.url for server in servers}
    assert {f.result.failure for f in finished} == {Failure.TIMED_OUT}
    assert all(DEADLINE_MS <= f.duration_ms < DEADLINE_MS + 500 for f in finished)
    assert transport.in_flight == 0


def test_silence_on_a_reused_connection_is_a_timeout_and_not_unreachable(serve: Serve, transport: Transport) -> None:
    """The receiver is there, it only does not answer: its owner is told so."""
    release = threading.Event()

    def answer(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(OK)
        read_request(connection)
        release.wait(10)

    server = serve(answer)
    assert post(transport, server.url).result == DELIVERED
    assert post(transport, server.url, deadline_ms=300).result == AttemptResult(failure=Failure.TIMED_OUT)
    release.set()
    assert server.connections == 1


def test_a_tls_handshake_that_hangs_is_a_timeout(serve: Serve, transport: Transport) -> None:
    """The deadline holds before the first byte of HTTP too."""
    server = serve(_hang)
    url = server.url.replace("http:", "https:")
    assert post(transport, url, deadline_ms=300).result == AttemptResult(failure=Failure.TIMED_OUT)


def test_a_closed_port_is_a_failed_connection(transport: Transport) -> None:
    """Nobody listens there."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert post(transport, f"http://127.0.0.1:{port}/").result == AttemptResult(failure=Failure.CONNECT_FAILED)


def _hang(connection: socket.socket) -> None:
    """Take in everything, say nothing, until the client leaves."""
    while connection.recv(65536):
        pass


# -- endless answers


def test_a_body_without_end_is_cut_off_and_still_counts(serve: Serve, transport: Transport) -> None:
    """A gigabyte is offered; a 2xx is known by its headers, so the rest is not waited for."""
    sent = 0

    def answer(connection: socket.socket) -> None:
        nonlocal sent
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
        piece = bytes(65536)
        for _ in range(1024 * MIB // len(piece)):
            connection.sendall(piece)
            sent += len(piece)

    server = serve(answer)
    finished = post(transport, server.url)
    server.close()
    assert finished.result == DELIVERED
    assert BODY_CAP_BYTES < finished.response_bytes < BODY_CAP_BYTES + 64 * 1024
    assert sent < 32 * MIB  # what the sockets' buffers took in


def test_a_long_refusal_keeps_its_status(serve: Serve, transport: Transport) -> None:
    """Past the cap an error is the error that it was."""
    answer = saying(b"HTTP/1.1 500 Oops\r\nContent-Length: 1000000\r\n\r\n", bytes(1_000_000))
    assert post(transport, serve(answer).url).result == AttemptResult(status=500)


def test_does_not_unpack_a_compressed_answer(serve: Serve, transport: Transport) -> None:
    """A bomb of 50 MB arrives as the few kilobytes that it is."""
    bomb = gzip.compress(bytes(50 * MIB), compresslevel=9)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n"
    finished = post(transport, serve(saying(head.encode(), bomb)).url)
    assert finished.result == DELIVERED
    assert finished.response_bytes == len(bomb)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(b"X-Long: " + b"a" * MIB + b"\r\n", id="one line of 1 MB"),
        pytest.param(b"X-Many: 1\r\n" * 10_000, id="10,000 lines"),
    ],
)
def test_headers_without_measure_are_refused(serve: Serve, transport: Transport, headers: bytes) -> None:
    """They count as no answer: 64 KiB is four times what servers in the field send."""
    assert len(headers) > HEADERS_CAP_BYTES
    answer = saying(b"HTTP/1.1 200 OK\r\n" + headers + b"Content-Length: 0\r\n\r\n")
    assert post(transport, serve(answer).url).result == TRUNCATED


def test_hostile_answers_do_not_grow_the_process(serve: Serve, transport: Transport) -> None:
    """Endless bodies, bombs and headers, again and again, cost no more than 8 MB."""
    bomb = gzip.compress(bytes(20 * MIB), compresslevel=9)
    line, lines = b"X-Long: " + b"a" * MIB + b"\r\n", b"X-Many: 1\r\n" * 10_000
    head = b"HTTP/1.1 200 OK\r\n"
    servers = [
        serve(saying(head + b"Content-Length: 1073741824\r\n\r\n", *[bytes(65536)] * 512)),
        serve(saying(head + b"Content-Encoding: gzip\r\n\r\n", bomb)),
        serve(saying(head, line, b"\r\n")),
        serve(saying(head, lines, b"\r\n")),
    ]

    def round_of_all() -> None:
        for server in servers:
            transport.start(request_to(server.url), server)
        finish(transport)
        gc.collect()

    round_of_all()
    process = psutil.Process()
    baseline = process.memory_info().rss
    for _ in range(5):
        round_of_all()
    assert process.memory_info().rss - baseline <= 8 * MIB


# -- connections


def test_uses_a_connection_again(serve: Serve, transport: Transport) -> None:
    """Requests to one receiver, one after another, share a connection."""
    server = serve(_keep_answering)
    for _ in range(5):
        assert post(transport, server.url).result == DELIVERED
    assert server.connections == 1


def _keep_answering(connection: socket.socket) -> None:
    while read_request(connection):
        connection.sendall(OK)


def test_replaces_a_connection_that_the_receiver_closed(serve: Serve, transport: Transport) -> None:
    """An idle connection that has gone is no failed attempt."""
    server = serve(saying(OK))
    for _ in range(3):
        assert post(transport, server.url).result == DELIVERED
    assert server.connections == 3


def test_closes_what_it_opened(serve: Serve, certificates: Certificates) -> None:
    """No descriptor is left behind by deliveries, failures, or requests that were given up."""
    answering, cutting, hanging = serve(saying(OK)), serve(saying(b"HTTP/1.1 2")), serve(_hang)
    before = _open_descriptors()
    transport = Transport(allow=LOOPBACK, user_agent="Switchhook/test")
    for server in (answering, cutting) * 5:
        transport.start(request_to(server.url), None)
    finish(transport)
    transport.start(request_to(hanging.url), None)
    transport.step(0.0)
    _close(transport)
    for server in (answering, cutting, hanging):
        server.close()  # the other ends count as well
    assert _open_descriptors() <= before - 3


def _open_descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208  names are enough


def test_wake_ends_a_wait(transport: Transport) -> None:
    """From another thread, also if it comes before the wait begins."""
    transport.wake()
    began = time.monotonic()
    assert transport.step(30.0) == []
    waker = threading.Timer(0.05, transport.wake)
    waker.start()
    assert transport.step(30.0) == []
    waker.join()
    assert time.monotonic() - began < 10


def test_wake_after_the_end_touches_nothing() -> None:
    """A late bell must not write into a descriptor that somebody else has got since."""
    transport = Transport(user_agent="Switchhook/test")
    transport.close()
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(20)]
        transport.wake()
        assert [os.fstat(file.fileno()).st_size for file in files] == [0] * 20


def test_abort_returns_the_tickets_of_what_is_in_flight(serve: Serve, transport: Transport) -> None:
    """And the transport goes on working."""
    hanging = serve(_hang)
    for ticket in ("one", "two"):
        transport.start(request_to(hanging.url), ticket)
    transport.step(0.0)
    assert transport.in_flight == 2
    assert sorted(transport.abort()) == ["one", "two"]
    assert transport.in_flight == 0
    assert post(transport, serve(saying(OK)).url).result == DELIVERED


# -- where nothing may be sent to


def test_a_refused_address_is_not_connected_to(serve: Serve) -> None:
    """Somebody listens there, and never hears of it."""
    server = serve(saying(OK))
    transport = Transport(user_agent="Switchhook/test")
    for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]"):
        result = post(transport, f"http://{host}:{server.port}/").result
        assert result == AttemptResult(failure=Failure.TARGET_REFUSED)
        assert result.tenant_code == "unreachable"
    _close(transport)
    server.close()
    assert server.connections == 0


def test_of_a_names_addresses_only_the_allowed_are_connected_to(serve: Serve, transport: Transport) -> None:
    """`localhost` is ::1 too, which is not allowed here."""
    server = serve(saying(OK))
    try:
        refused = serve(saying(b"HTTP/1.1 500 Wrong one\r\n\r\n"), host="::1", port=server.port)
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    assert post(transport, f"http://localhost:{server.port}/").result == DELIVERED
    other = Transport(allow=(ipaddress.ip_network("::1/128"),), user_agent="Switchhook/test")
    assert post(other, f"http://localhost:{server.port}/").result == AttemptResult(status=500)
    _close(other)
    assert (server.connections, refused.connections) == (1, 1)


def test_proxies_and_netrc_of_the_environment_have_no_effect(
    serve: Serve, transport: Transport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was started in some shell sends to its receivers, with its own headers."""
    seen: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        seen.append(read_request(connection))
        connection.sendall(OK)

    proxy = serve(saying(OK))
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login someone password netrc-password\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert post(transport, serve(answer).url).result == DELIVERED
    assert proxy.connections == 0
    assert b"authorization" not in seen[0].lower()


# -- TLS


class Certificates:
    """An authority of our own and what it has signed, by name; `self-signed` signed itself."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        now = datetime.now(UTC)
        valid = (now - timedelta(days=1), now + timedelta(days=1))
        expired = (now - timedelta(days=3), now - timedelta(days=1))
        self._ca_key = ec.generate_private_key(ec.SECP256R1())
        self._ca_name = _name("Switchhook test authority")
        ca = self._certificate(self._ca_name, self._ca_key, valid, is_ca=True)
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
        self._write("good", valid)
        self._write("expired", expired)
        self._write("wrong-name", valid, address="127.0.0.2")
        self._write("self-signed", valid, is_self_signed=True)

    def context(self, name: str) -> ssl.SSLContext:
        """A server's context with the certificate of this name."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._folder / f"{name}.pem")
        return context

    def _write(
        self,
        name: str,
        validity: tuple[datetime, datetime],
        *,
        address: str = "127.0.0.1",
        is_self_signed: bool = False,
    ) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._certificate(_name(name), key, validity, address=address, is_self_signed=is_self_signed)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (self._folder / f"{name}.pem").write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))

    def _certificate(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        validity: tuple[datetime, datetime],
        *,
        address: str = "127.0.0.1",
        is_ca: bool = False,
        is_self_signed: bool = False,
    ) -> x509.Certificate:
        addresses = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if is_self_signed else self._ca_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(validity[0])
            .not_valid_after(validity[1])
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(addresses, critical=False)
            .sign(key if is_self_signed else self._ca_key, hashes.SHA256())
        )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """The certificates of this run."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


def test_delivers_over_tls_that_can_be_trusted(serve: Serve, transport: Transport, certificates: Certificates) -> None:
    """With an authority of the operator's."""
    assert post(transport, serve(saying(OK), context=certificates.context("good")).url).result == DELIVERED


@pytest.mark.parametrize("name", ["expired", "self-signed", "wrong-name"])
def test_a_certificate_that_proves_nothing_is_a_failure(
    serve: Serve, transport: Transport, certificates: Certificates, name: str
) -> None:
    """And not a byte of the request is sent."""
    heard: list[bytes] = []
    server = serve(lambda connection: heard.append(connection.recv(65536)), context=certificates.context(name))
    result = post(transport, server.url).result
    server.close()
    assert result == AttemptResult(failure=Failure.TLS_FAILED)
    assert result.tenant_code == "tls"
    assert b"".join(heard) == b""


def test_an_authority_that_was_not_configured_proves_nothing(serve: Serve, certificates: Certificates) -> None:
    """The operator's file is needed to trust it."""
    server = serve(saying(OK), context=certificates.context("good"))
    transport = Transport(allow=LOOPBACK, user_agent="Switchhook/test")
    assert post(transport, server.url).result == AttemptResult(failure=Failure.TLS_FAILED)
    _close(transport)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
def test_old_versions_of_tls_are_refused(serve: Serve, transport: Transport, certificates: Certificates) -> None:
    """TLS 1.2 is the oldest that is spoken."""
    context = certificates.context("good")
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    assert post(transport, serve(saying(OK), context=context).url).result == AttemptResult(failure=Failure.TLS_FAILED)


def test_a_receiver_that_speaks_no_tls_is_a_tls_failure(serve: Serve, transport: Transport) -> None:
    """Plain HTTP on a port that is called with https."""

    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    url = serve(answer).url.replace("http:", "https:")
    assert post(transport, url).result == AttemptResult(failure=Failure.TLS_FAILED)
