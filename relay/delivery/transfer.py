"""One libcurl handle: how it is set up, and what is seen of an answer.

A delivery counts only if curl ended without error, the blank line after the headers was seen (libcurl reports 200
for `HTTP/1.1 200 OK\\r\\n` and FIN) and the status is 2xx. Redirects are not followed, proxies and .netrc of the
environment are ignored, bodies are neither decoded nor kept unless asked for, and every new connection is judged on
the address it goes to.
"""

from __future__ import annotations

import socket
import time
from typing import Any, Final

import pycurl

from relay.content import Content
from relay.delivery.exchange import Begun, Finished, Reply
from relay.delivery.guard import is_allowed
from relay.delivery.retry import AttemptResult, Failure, parse_retry_after
from relay.settings import Network

# What is read of an answer before the transfer is cut off; a 2xx counts all the same.
BODY_CAP_BYTES: Final = 64 * 1024
# All header lines of an answer together; servers in the field stay below 16 KiB.
HEADERS_CAP_BYTES: Final = 64 * 1024
# And how many, for libcurl keeps each with some hundred bytes of its own until the handle's next request. Python's own
# client takes 100 in an answer.
HEADERS_CAP_LINES: Final = 512
# An idle connection is dropped before usual servers and NATs drop it (60 s and more).
_IDLE_SECONDS: Final = 50
_LIFETIME_SECONDS: Final = 600
# A line feed alone ends a line too (RFC 9112, 2.2), and small servers write it.
_BLANK_LINES: Final = (b"\r\n", b"\n")

_TLS_ERRORS: Final = frozenset({
    pycurl.E_SSL_CONNECT_ERROR, pycurl.E_PEER_FAILED_VERIFICATION, pycurl.E_SSL_CACERT, pycurl.E_SSL_CERTPROBLEM,
    pycurl.E_SSL_CIPHER, pycurl.E_SSL_CACERT_BADFILE, pycurl.E_SSL_ISSUER_ERROR, pycurl.E_SSL_INVALIDCERTSTATUS,
    pycurl.E_SSL_PINNEDPUBKEYNOTMATCH,
})  # fmt: skip


class Transfer:
    """One reusable easy handle and what has been seen of its answer. A body is kept only where it was asked for."""

    __slots__ = (
        "_allow",
        "_body_bytes",
        "_header_bytes",
        "_header_lines",
        "_headers_ended",
        "_kept",
        "_refused",
        "_retry_after",
        "curl",
        "host",
    )

    def __init__(self, allow: tuple[Network, ...], ca_file: str, user_agent: str) -> None:
        self._allow = allow
        self.host = ""
        self.curl = curl = pycurl.Curl()
        for option, value in (
            (pycurl.NOSIGNAL, 1),
            (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
            (pycurl.FOLLOWLOCATION, 0),
            (pycurl.PROXY, ""),  # set and empty: the environment's proxy variables have no effect
            (pycurl.NETRC, pycurl.NETRC_IGNORED),
            (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
            (pycurl.SSL_VERIFYPEER, 1),
            (pycurl.SSL_VERIFYHOST, 2),
            (pycurl.SSLVERSION, pycurl.SSLVERSION_TLSv1_2),
            (pycurl.CAINFO, ca_file),
            (pycurl.USERAGENT, user_agent),
            (pycurl.MAXAGE_CONN, _IDLE_SECONDS),
            (pycurl.MAXLIFETIME_CONN, _LIFETIME_SECONDS),
            (pycurl.TCP_NODELAY, 1),
            (pycurl.POST, 1),
            (pycurl.HEADERFUNCTION, self._on_header),
            (pycurl.WRITEFUNCTION, self._on_body),
            (pycurl.OPENSOCKETFUNCTION, self._on_connect),
        ):
            curl.setopt(option, value)

    def prepare(self, begun: Begun, host: str, resolve: list[str]) -> None:
        """Set the handle up for a request, with libcurl's RESOLVE entries for its host (none for an address)."""
        request = begun.request
        self.host = host
        self._headers_ended = self._refused = False
        self._body_bytes = self._header_bytes = self._header_lines = 0
        self._retry_after: bytes | None = None
        self._kept: list[bytes] | None = [] if request.keep_reply else None
        curl = self.curl
        curl.setopt(pycurl.URL, request.url)
        curl.setopt(pycurl.HTTPHEADER, request.headers)
        curl.setopt(pycurl.POSTFIELDS, request.body.reveal())
        left_ms = request.deadline_ms
        if resolve:
            curl.setopt(pycurl.RESOLVE, resolve)
            # Nothing is no deadline at all to libcurl.
            left_ms = max(1, left_ms - begun.spent_ms)
        curl.setopt(pycurl.TIMEOUT_MS, left_ms)
        curl.setopt(pycurl.CONNECTTIMEOUT_MS, left_ms)

    def clear(self) -> None:
        """Let go of the content; the handle keeps only its connection."""
        self._kept = None
        self.curl.setopt(pycurl.POSTFIELDS, b"")

    def finished(self, begun: Begun, error: int) -> Finished:
        """What came of `begun`, which this handle was prepared for. `error` is libcurl's."""
        curl = self.curl
        status = curl.getinfo(pycurl.RESPONSE_CODE)
        if error == pycurl.E_WRITE_ERROR and self._headers_ended and self._body_bytes > BODY_CAP_BYTES:
            error = 0
        failure = self._failure(error, status)
        hint = parse_retry_after(self._retry_after, time.time()) if self._retry_after and failure is None else None
        return Finished(
            ticket=begun.ticket,
            result=AttemptResult(status=status if failure is None else None, failure=failure, retry_after_seconds=hint),
            duration_ms=begun.spent_ms,
            response_bytes=self._body_bytes,
            reply=None if self._kept is None or failure is not None else self._reply(status, self._kept),
        )

    def _reply(self, status: int, kept: list[bytes]) -> Reply:
        content_type: bytes | None = self.curl.getinfo_raw(pycurl.CONTENT_TYPE)
        return Reply(
            status=status,
            content_type=None if content_type is None else content_type.decode("latin-1"),
            body=Content(b"".join(kept)[:BODY_CAP_BYTES]),
            is_whole=self._body_bytes <= BODY_CAP_BYTES,
        )

    def _failure(self, error: int, status: int) -> Failure | None:
        if error == 0:
            return None if self._headers_ended and status else Failure.TRUNCATED
        if error == pycurl.E_OPERATION_TIMEDOUT:
            return Failure.TIMED_OUT if self._was_connected() else Failure.CONNECT_TIMED_OUT
        if error == pycurl.E_COULDNT_RESOLVE_HOST:
            return Failure.DNS_FAILED
        if error == pycurl.E_COULDNT_CONNECT:
            # A name may have several addresses; only when none could be reached does the refused one tell why.
            return Failure.TARGET_REFUSED if self._refused else Failure.CONNECT_FAILED
        return Failure.TLS_FAILED if error in _TLS_ERRORS else Failure.TRUNCATED

    def _was_connected(self) -> bool:
        # Connecting takes no time on a connection that is used again; its address is known all the same.
        return self.curl.getinfo(pycurl.CONNECT_TIME) > 0 or bool(self.curl.getinfo(pycurl.PRIMARY_IP))

    def _on_header(self, line: bytes) -> int | None:
        self._header_bytes += len(line)
        self._header_lines += 1
        if self._header_bytes > HEADERS_CAP_BYTES or self._header_lines > HEADERS_CAP_LINES:
            return -1
        if line in _BLANK_LINES:
            self._headers_ended = True
        elif line[:5] == b"HTTP/":
            self._headers_ended = False  # an interim answer (100) came before
            self._retry_after = None
        elif line[:12].lower() == b"retry-after:":
            self._retry_after = line[12:].strip()
        return None

    def _on_body(self, chunk: bytes) -> int | None:
        self._body_bytes += len(chunk)
        if self._kept is not None:
            self._kept.append(chunk)
        return -1 if self._body_bytes > BODY_CAP_BYTES else None

    def _on_connect(self, _purpose: int, address: Any) -> Any:
        family, kind, protocol, target = address
        if family not in (socket.AF_INET, socket.AF_INET6) or not is_allowed(target[0], allow=self._allow):
            self._refused = True
            return pycurl.SOCKET_BAD
        try:
            return _HandedOver(family, kind, protocol)
        except OSError:
            return pycurl.SOCKET_BAD  # no descriptor is left, or no IPv6 here: libcurl tries the next address


class _HandedOver(socket.socket):
    """A socket for pycurl, which duplicates its descriptor and drops it: closed then, without a ResourceWarning."""

    def __del__(self) -> None:
        self.close()
