"""A15: requests that servers and proxies may read differently: refused, or read as one request and no more."""

from __future__ import annotations

import re
import select
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

import pytest

from tests.customers import Inlet
from tests.payloads import retell_event, retell_headers
from tests.stack import Stack

ANSWER_SECONDS = 5.0
MOMENT_SECONDS = 0.02
HOST = b"Host: localhost\r\n"
BODY = b"hello"


@pytest.fixture
def source(stack: Stack) -> Inlet:
    """A source without an endpoint."""
    return stack.customers.create().source("retell")


def webhook(source: Inlet, name: str) -> bytes:
    """A whole request that would be taken: what somebody would like to have executed unseen."""
    body = retell_event("call_ended", name)
    [(header, proof)] = retell_headers(body, source.secret).items()
    return b"POST %b HTTP/1.1\r\n%b%b: %b\r\nContent-Length: %d\r\n\r\n%b" % (
        path(source), HOST, header.encode(), proof.encode(), len(body), body
    )  # fmt: skip


def path(source: Inlet) -> bytes:
    """Where its webhooks go."""
    return ("/" + source.url.split("/", 3)[3]).encode()


def outer(source: Inlet, fields: bytes, rest: bytes, *, start: bytes = b"POST %b HTTP/1.1\r\n") -> bytes:
    """The request that somebody lets a proxy see."""
    return (start % path(source)) + HOST + b"X-Retell-Signature: v=1,d=0\r\n" + fields + b"\r\n" + rest


def said(stack: Stack, request: bytes, *, expected: int = 1) -> list[int]:
    """The statuses of all final answers to what is sent on one connection: until so many came, and a moment longer.

    The moment is short, because nothing depends on it: what was executed is found by `assert_never_taken`.
    """
    received, deadline = b"", time.monotonic() + ANSWER_SECONDS
    with socket.create_connection(("127.0.0.1", stack.settings.port)) as connection, suppress(ConnectionError):
        connection.sendall(request)
        while select.select([connection], [], [], max(0.0, deadline - time.monotonic()))[0]:
            piece = connection.recv(65536)
            if not piece:
                break
            received += piece
            if len(statuses(received)) >= expected:
                deadline = time.monotonic() + MOMENT_SECONDS
    return statuses(received)


def statuses(received: bytes) -> list[int]:
    """The statuses of the final answers in these bytes."""
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] ([2-5]\d\d) ", received)]


# Two readings of one request: the headers, and what comes before the hidden request in its body.
AMBIGUOUS: Mapping[str, tuple[bytes, bytes]] = {
    "CL.TE": (b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
    "TE.CL": (b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", b"0\r\n\r\n"),
    "TE.CL of the whole": (b"Transfer-Encoding: chunked\r\nContent-Length: %d\r\n", b"0\r\n\r\n"),
    "TE in another case": (b"tRANSFER-eNCODING: CHUNKED\r\nContent-Length: %d\r\n", b"0\r\n\r\n"),
    "TE with a tab": (b"Transfer-Encoding:\tchunked\r\nContent-Length: %d\r\n", b"0\r\n\r\n"),
    "two lengths, the second short": (b"Content-Length: %d\r\nContent-Length: 0\r\n", b""),
    "two lengths, the first short": (b"Content-Length: 0\r\nContent-Length: %d\r\n", b""),
    "a list of lengths": (b"Content-Length: 0, %d\r\n", b""),
    "a length with a sign": (b"Content-Length: +0\r\nX: %d\r\n", b""),
    "a negative length": (b"Content-Length: -1\r\nX: %d\r\n", b""),
    "a length in hex": (b"Content-Length: 0x0\r\nX: %d\r\n", b""),
    "a length that overflows": (b"Content-Length: 18446744073709551616\r\nX: %d\r\n", b""),
    "a blank before the colon": (b"Content-Length : 0\r\nX: %d\r\n", b""),
    "TE with a blank before the colon": (b"Transfer-Encoding : chunked\r\nContent-Length: %d\r\n", b"0\r\n\r\n"),
    "a folded length": (b"X: %d\r\n Content-Length: 0\r\n", b""),
    "a folded TE": (b"Content-Length: %d\r\nTransfer-Encoding:\r\n chunked\r\n", b"0\r\n\r\n"),
    "a length after a bare CR": (b"X: %d\rContent-Length: 0\r\n", b""),
    "TE after a bare CR": (b"Content-Length: %d\r\nX: y\rTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
    "TE after a bare LF": (b"Content-Length: %d\r\nX: y\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
    "TE with a vertical tab": (b"Transfer-Encoding:\x0bchunked\r\nContent-Length: %d\r\n", b"0\r\n\r\n"),
    "TE in quotes": (b'Transfer-Encoding: "chunked"\r\nContent-Length: %d\r\n', b"0\r\n\r\n"),
    "TE that nobody knows": (b"Transfer-Encoding: xchunked\r\nContent-Length: %d\r\n", b"0\r\n\r\n"),
    "TE that ends otherwise": (b"Transfer-Encoding: chunked, identity\r\nContent-Length: %d\r\n", b"0\r\n\r\n"),
    "two TE": (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\nContent-Length: %d\r\n", b"0\r\n\r\n"),
    "NUL in a header": (b"Content-Length: %d\r\nX: \x00\r\n", b""),
    "a line without a colon": (b"Content-Length: %d\r\nTransfer-Encoding chunked\r\n", b"0\r\n\r\n"),
    "a length with an underscore": (b"Content_Length: 0\r\nContent-Length: %d\r\n", b""),
    "an upgrade to HTTP/2": (b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nContent-Length: %d\r\n", b""),
    "a method that is overridden": (b"X-HTTP-Method-Override: GET\r\nContent-Length: %d\r\n", b""),
    "a body that waits to be asked for": (b"Expect: 100-continue\r\nContent-Length: %d\r\n", b""),
    "chunk sizes in another notation": (b"Transfer-Encoding: chunked\r\nX: %d\r\n", b"0x0\r\n\r\n"),
    "a negative chunk": (b"Transfer-Encoding: chunked\r\nX: %d\r\n", b"-1\r\n\r\n"),
    "a chunk that overflows": (b"Transfer-Encoding: chunked\r\nX: %d\r\n", b"10000000000000000\r\n\r\n"),
    "chunks between bare LF": (b"Transfer-Encoding: chunked\r\nX: %d\r\n", b"5\nhello\n0\n\n"),
    "an extension with a bare LF": (b"Transfer-Encoding: chunked\r\nX: %d\r\n", b"5;a\n\r\nhello\r\n0\r\n\r\n"),
    "a chunk longer than it says": (b"Transfer-Encoding: chunked\r\nX: %d\r\n", b"5\r\nhello, and more\r\n0\r\n\r\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_nobody_executes_a_request_that_is_hidden_in_another(stack: Stack, source: Inlet, name: str) -> None:
    """There is one answer at most, it is a refusal, and the hidden webhook was never taken."""
    fields, before = AMBIGUOUS[name]
    hidden = webhook(source, "call_hidden")
    length = len(before) + len(hidden)

    answers = said(stack, outer(source, fields % length if b"%d" in fields else fields, before + hidden))

    assert len(answers) <= 1
    assert all(400 <= status < 500 for status in answers)
    assert_never_taken(stack, source)


@pytest.mark.parametrize("name", ["CL.TE", "TE.CL", "TE.CL of the whole", "TE in another case", "TE after a bare LF"])
def test_two_lengths_of_a_body_end_the_connection(stack: Stack, source: Inlet, name: str) -> None:
    """Where a request could be read in two ways, nothing more is read after it (RFC 9112, 6.3)."""
    fields, before = AMBIGUOUS[name]
    whole = outer(source, fields.replace(b"%d", b"%d" % len(before)), before)

    with socket.create_connection(("127.0.0.1", stack.settings.port)) as connection:
        connection.settimeout(ANSWER_SECONDS)
        connection.sendall(whole)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))

    assert answer.startswith(b"HTTP/1.1 4")


@pytest.mark.parametrize(
    "start",
    [
        b"POST %b HTTP/1.1\n",
        b" POST %b HTTP/1.1\r\n",
        b"POST %b HTTP/1.1\r\n X: y\r\n",
        b"POST\t%b\tHTTP/1.1\r\n",
        b"POST %b HTTP/1.0\r\n",
        b"POST %b HTTP/2.0\r\n",
        b"POST %b\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\r\nPOST %b HTTP/1.1\r\n",
        b"GET %b HTTP/1.1\r\n",
        b"HEAD %b HTTP/1.1\r\n",
        b"CONNECT %b HTTP/1.1\r\n",
        b"POST http://localhost%b HTTP/1.1\r\n",
    ],
)
def test_an_odd_first_line_hides_nothing(stack: Stack, source: Inlet, start: bytes) -> None:
    """The body of a request is never the next request, whatever its first line is."""
    hidden = webhook(source, "call_hidden")

    answers = said(stack, outer(source, b"Content-Length: %d\r\n" % len(hidden), hidden, start=start))

    assert len(answers) <= 1
    assert all(400 <= status < 600 for status in answers)
    assert_never_taken(stack, source)


def test_a_refusal_before_the_body_does_not_make_the_body_a_request(stack: Stack, source: Inlet) -> None:
    """What was not read of a refused request is thrown away with its connection, or skipped."""
    hidden = webhook(source, "call_hidden")
    head = b"POST %b HTTP/1.1\r\n" % path(source) + HOST

    for length in (len(hidden), len(hidden) + 1, 10_000_000):
        assert said(stack, head + b"Content-Length: %d\r\n\r\n" % length + hidden) == [401]
    # As long as it says, and more than that: what follows is another request, of nobody's.
    assert said(stack, head + b"Content-Length: 2\r\n\r\n{}" + b"Z" + hidden, expected=2)[:1] == [401]
    assert_never_taken(stack, source)


def test_two_requests_are_two(stack: Stack, source: Inlet) -> None:
    """A positive control: a second request that is not hidden is answered, and a webhook in it is taken."""
    first = outer(source, b"Content-Length: 5\r\n", BODY)

    answers = said(stack, first + webhook(source, "call_hidden"), expected=2)

    assert answers == [401, 200]
    with pytest.raises(AssertionError):
        assert_never_taken(stack, source)


def assert_never_taken(stack: Stack, source: Inlet) -> None:
    """The hidden webhook is new to us when it comes openly."""
    body = retell_event("call_ended", "call_hidden")
    told = stack.post(source.url, body, retell_headers(body, source.secret)).json()
    assert told["repeat"] is False
