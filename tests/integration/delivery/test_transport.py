"""The transport against servers that answer badly, slowly or endlessly."""

from __future__ import annotations

import gc
import gzip
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import psutil
import pytest
from msgspec.structs import replace

from relay.delivery.retry import AttemptResult, Failure
from relay.delivery.transfer import BODY_CAP_BYTES, HEADERS_CAP_BYTES, HEADERS_CAP_LINES
from relay.delivery.transport import Transport
from tests.certificates import Certificates
from tests.raw_server import BODY, OK, Answer, Serve, Server, finish, hang, post, read_request, request_to, saying

DELIVERED = AttemptResult(status=200)
TRUNCATED = AttemptResult(failure=Failure.TRUNCATED)
DEADLINE_MS = 1_500
# docs/faults.md, F13.
LATE_MS = 500
MIB = 1024 * 1024


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
        ("Retry-After: {in_an_hour}", 3_500, 3_600),
        ("Retry-After: 999999999999", 86_400, 86_400),
    ],
)
def test_reads_the_hint_when_to_come_again(
    serve: Serve, transport: Transport, header: str, lowest: int, highest: int
) -> None:
    """Seconds or a date, at most a day."""
    header = header.format(in_an_hour=_in_an_hour())  # now, not when the tests were collected
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
    assert time.monotonic() - began < (DEADLINE_MS + LATE_MS) / 1000
    assert {f.ticket for f in finished} == {server.url for server in servers}
    assert {f.result.failure for f in finished} == {Failure.TIMED_OUT}
    assert all(DEADLINE_MS <= f.duration_ms < DEADLINE_MS + LATE_MS for f in finished)
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
    server = serve(hang)
    url = server.url.replace("http:", "https:")
    assert post(transport, url, deadline_ms=300).result == AttemptResult(failure=Failure.TIMED_OUT)


def test_a_closed_port_is_a_failed_connection(transport: Transport) -> None:
    """Nobody listens there."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert post(transport, f"http://127.0.0.1:{port}/").result == AttemptResult(failure=Failure.CONNECT_FAILED)


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
        pytest.param(b"X:\r\n" * HEADERS_CAP_LINES, id="more lines than any server sends, in 2 KB"),
    ],
)
def test_headers_without_measure_are_refused(serve: Serve, transport: Transport, headers: bytes) -> None:
    """They count as no answer: 64 KiB is four times what servers in the field send, 512 lines are five times."""
    assert len(headers) > HEADERS_CAP_BYTES or headers.count(b"\n") >= HEADERS_CAP_LINES
    answer = saying(b"HTTP/1.1 200 OK\r\n" + headers + b"Content-Length: 0\r\n\r\n")
    assert post(transport, serve(answer).url).result == TRUNCATED


def test_headers_within_measure_are_read(serve: Serve, transport: Transport) -> None:
    """As many lines as may be, the status line and the blank one among them."""
    headers = b"X-Many: 1\r\n" * (HEADERS_CAP_LINES - 3)
    answer = saying(b"HTTP/1.1 200 OK\r\n" + headers + b"Content-Length: 0\r\n\r\n")
    assert post(transport, serve(answer).url).result == DELIVERED


def test_hostile_answers_do_not_grow_the_process(serve: Serve, transport: Transport) -> None:
    """Endless bodies, bombs and headers, from the first one on, cost no more than 8 MB."""
    packer, nothing = zlib.compressobj(level=1, wbits=31), bytes(MIB)
    bomb = b"".join(packer.compress(nothing) for _ in range(200)) + packer.flush()
    line, lines = b"X-Long: " + b"a" * MIB + b"\r\n", b"X-Many: 1\r\n" * 10_000
    head, piece = b"HTTP/1.1 200 OK\r\n", bytes(65536)
    ordinary = saying(head + b"Connection: close\r\nContent-Length: 2\r\n\r\nok")
    answers = [
        saying(head + b"Content-Length: 1073741824\r\n\r\n", *[piece] * 512),
        saying(head + b"Content-Encoding: gzip\r\n\r\n", bomb),
        saying(head, line, b"\r\n"),
        saying(head, lines, b"\r\n"),
    ]
    are_hostile = threading.Event()

    def turning(hostile: Answer) -> Answer:
        def answer(connection: socket.socket) -> None:
            (hostile if are_hostile.is_set() else ordinary)(connection)

        return answer

    servers = [serve(turning(answer)) for answer in answers]

    def round_of_all() -> None:
        for server in servers * 24:
            transport.start(request_to(server.url), server)
        finish(transport)
        gc.collect()

    process = psutil.Process()
    for _ in range(2):
        round_of_all()
    baseline = process.memory_info().rss
    are_hostile.set()
    for _ in range(6):
        round_of_all()
        assert process.memory_info().rss - baseline <= 8 * MIB


def test_a_reply_that_was_asked_for_is_kept(serve: Serve, transport: Transport) -> None:
    """With its status and type; without being asked for no byte is."""
    answer = b"HTTP/1.1 201 Created\r\nContent-Type: text/plain\xff\r\nContent-Length: 5\r\n\r\nhello"
    server = serve(saying(answer))
    transport.start(replace(request_to(server.url), keep_reply=True), "kept")
    [kept] = finish(transport)
    assert kept.reply is not None
    assert (kept.reply.status, kept.reply.content_type) == (201, "text/plain\xff")
    assert (kept.reply.body.reveal(), kept.reply.is_whole) == (b"hello", True)
    assert post(transport, server.url).reply is None


def test_a_reply_is_cut_at_the_cap(serve: Serve, transport: Transport) -> None:
    """And says so."""
    body = b"x" * (BODY_CAP_BYTES + 1)
    server = serve(saying(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)))
    transport.start(replace(request_to(server.url), keep_reply=True), "cut")
    [finished] = finish(transport)
    assert finished.reply is not None
    assert (len(finished.reply.body.reveal()), finished.reply.is_whole) == (BODY_CAP_BYTES, False)
