"""The transport's connections: kept, closed, woken, proved by certificates, and never made to where nothing may go."""

from __future__ import annotations

import gc
import ipaddress
import os
import socket
import ssl
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from relay.delivery.retry import AttemptResult, Failure
from relay.delivery.transport import Transport
from tests.certificates import Certificates
from tests.raw_server import LOOPBACK, OK, Serve, Server, close, finish, hang, post, read_request, request_to, saying

DELIVERED = AttemptResult(status=200)


# -- connections


def test_uses_a_connection_again(serve: Serve, transport: Transport) -> None:
    """Requests to one receiver, one after another, share a connection."""
    server = serve(_keep_answering)
    for _ in range(5):
        assert post(transport, server.url).result == DELIVERED
    assert server.connections == 1


def test_a_port_that_never_answers_looks_to_tenants_like_a_closed_one(transport: Transport) -> None:
    """A filtered port gives no sign: its code is that of one that refuses, and with that code no time is shown."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as silent, ExitStack() as waiting:
        for _ in range(4):  # fills the backlog: later connections are not even acknowledged
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(silent.getsockname())
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        result = post(transport, url, deadline_ms=700).result
    assert result.failure is Failure.CONNECT_TIMED_OUT
    assert result.tenant_code == "unreachable"


def _keep_answering(connection: socket.socket) -> None:
    while read_request(connection):
        connection.sendall(OK)


def test_replaces_a_connection_that_the_receiver_closed(serve: Serve, transport: Transport) -> None:
    """An idle connection that has gone is no failed attempt."""
    server = serve(saying(OK))
    for _ in range(3):
        assert post(transport, server.url).result == DELIVERED
    assert server.connections == 3


def test_a_reused_connection_that_dies_under_a_request_costs_no_attempt(serve: Serve, transport: Transport) -> None:
    """libcurl sends it once more, unchanged: the receiver may see one attempt twice, and knows it by its id."""
    seen: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        while request := read_request(connection):
            seen.append(request)
            if len(seen) == 2:
                return
            connection.sendall(OK)

    server = serve(answer)
    assert post(transport, server.url).result == DELIVERED
    assert post(transport, server.url).result == DELIVERED
    assert len(seen) == 3
    assert seen[1] == seen[2]


def test_closes_what_it_opened(serve: Serve, certificates: Certificates) -> None:
    """No descriptor is left behind by deliveries, failures, or requests that were given up."""
    answering, cutting, hanging = serve(saying(OK)), serve(saying(b"HTTP/1.1 2")), serve(hang)
    before = _open_descriptors()
    transport = Transport(allow=LOOPBACK, user_agent="Switchhook/test")
    for server in (answering, cutting) * 5:
        transport.start(request_to(server.url), None)
    finish(transport)
    transport.start(request_to(hanging.url), None)
    transport.step(0.0)
    close(transport)
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
    hanging = serve(hang)
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
    close(transport)
    server.close()
    assert server.connections == 0


def test_of_a_names_addresses_only_the_allowed_are_connected_to(serve: Serve) -> None:
    """A name has an address of either family, and only one of them is allowed."""
    server = serve(saying(OK))
    try:
        refused = serve(saying(b"HTTP/1.1 500 Wrong one\r\n\r\n"), host="::1", port=server.port)
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")

    def lookup(host: str) -> tuple[str, ...]:
        assert host == "both.example"
        return "::1", "127.0.0.1"

    url = f"http://both.example:{server.port}/"
    for network, expected in (("127.0.0.0/8", DELIVERED), ("::1/128", AttemptResult(status=500))):
        transport = Transport(allow=[ipaddress.ip_network(network)], user_agent="Switchhook/test", lookup=lookup)
        assert post(transport, url).result == expected
        close(transport)
    assert (server.connections, refused.connections) == (1, 1)


def test_proxies_and_netrc_of_the_environment_have_no_effect(
    serve: Serve,
    transport: Transport,
    certificates: Certificates,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process that was started in some shell sends to its receivers, with its own headers, over TLS or without."""
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
    for context in (None, certificates.context("good")):
        assert post(transport, serve(answer, context=context).url, deadline_ms=3_000).result == DELIVERED
    assert proxy.connections == 0
    assert [b"authorization" in request.lower() for request in seen] == [False, False]


# -- TLS


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
    close(transport)


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1:DeprecationWarning")
def test_old_versions_of_tls_are_refused(
    serve: Serve, transport: Transport, certificates: Certificates, version: str
) -> None:
    """TLS 1.2 is the oldest that is spoken; whoever takes an older one reaches this very server."""
    context = certificates.context("good")
    _speak_only(context, version)
    server = serve(saying(OK), context=context)
    try:
        spoken = _version_of_a_permissive_client(server, version)
    except ssl.SSLError:
        pytest.skip(f"this build of OpenSSL does not speak {version}, whatever it is allowed")
    assert spoken == version.replace("_", ".")
    assert post(transport, server.url).result == AttemptResult(failure=Failure.TLS_FAILED)


def _speak_only(context: ssl.SSLContext, version: str) -> None:
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]


def _version_of_a_permissive_client(server: Server, version: str) -> str | None:
    """The version that a client which takes anything agrees on. Raises SSLError if there is none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    _speak_only(context, version)
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=10) as plain,
        context.wrap_socket(plain) as connection,
    ):
        return connection.version()


def test_a_receiver_that_speaks_no_tls_is_a_tls_failure(serve: Serve, transport: Transport) -> None:
    """Plain HTTP on a port that is called with https."""

    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    url = serve(answer).url.replace("http:", "https:")
    assert post(transport, url).result == AttemptResult(failure=Failure.TLS_FAILED)
