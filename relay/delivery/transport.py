"""POST requests to customers' servers over libcurl, many at once in one thread.

A delivery counts only if curl ended without error, the blank line after the headers was seen (libcurl reports 200
for `HTTP/1.1 200 OK\\r\\n` and FIN) and the status is 2xx. Redirects are not followed, proxies and .netrc of the
environment are ignored, bodies are neither decoded nor kept, and every new connection is judged on the address it
goes to.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import certifi
import pycurl

from relay.content import Content
from relay.delivery.guard import is_allowed
from relay.delivery.retry import AttemptResult, Failure, parse_retry_after
from relay.settings import Network

# What is read of an answer before the transfer is cut off; a 2xx counts all the same.
BODY_CAP_BYTES: Final = 64 * 1024
# All header lines of an answer together; servers in the field stay below 16 KiB.
HEADERS_CAP_BYTES: Final = 64 * 1024
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One POST. `headers` are whole lines, ready to send; `deadline_ms` covers everything from DNS to the last byte."""

    url: str
    headers: Sequence[bytes]
    body: Content
    deadline_ms: int


@dataclass(frozen=True, slots=True)
class Finished:
    """One POST that ended. `ticket` is what its caller gave to `start`."""

    ticket: Any
    result: AttemptResult
    duration_ms: int
    response_bytes: int


class Transport:
    """A libcurl multi handle with its sockets. Belongs to one thread, except for `wake`."""

    def __init__(self, *, allow: Iterable[Network] = (), ca_file: str | None = None, user_agent: str) -> None:
        self._allow = tuple(allow)
        self._ca_file = ca_file or certifi.where()
        self._user_agent = user_agent
        self._idle: list[_Transfer] = []
        self._busy: dict[pycurl.Curl, _Transfer] = {}
        self._epoll = select.epoll()
        self._waker = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._waker, select.EPOLLIN)
        self._waking = threading.Lock()
        self._is_closed = False
        self._timer_at: float | None = None
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch_socket)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)

    @property
    def in_flight(self) -> int:
        """How many requests have started and not ended."""
        return len(self._busy)

    def start(self, request: Request, ticket: Any) -> None:
        """Begin a request; `step` will return it as Finished with this ticket."""
        transfer = self._idle.pop() if self._idle else _Transfer(self._allow, self._ca_file, self._user_agent)
        transfer.prepare(request, ticket)
        self._busy[transfer.curl] = transfer
        self._multi.add_handle(transfer.curl)

    def step(self, wait_seconds: float) -> list[Finished]:
        """Wait for sockets, timers or `wake`, at most so long; return what has ended."""
        if self._timer_at is not None:
            wait_seconds = min(wait_seconds, max(0.0, self._timer_at - time.monotonic()))
        # A millisecond is epoll's grain: rounding down would spin.
        for descriptor, events in self._epoll.poll(wait_seconds if wait_seconds <= 0 else wait_seconds + 0.0005):
            if descriptor == self._waker:
                os.eventfd_read(self._waker)
            else:
                self._multi.socket_action(descriptor, _curl_events(events))
        if self._timer_at is not None and time.monotonic() >= self._timer_at:
            self._timer_at = None
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        return self._ended() if self._busy else []

    def wake(self) -> None:
        """End the current or next wait of `step`. May be called from any thread, also after `close`."""
        with self._waking:
            if not self._is_closed:
                os.eventfd_write(self._waker, 1)

    def abort(self) -> list[Any]:
        """Give up every request in flight and return their tickets."""
        tickets = [transfer.ticket for transfer in self._busy.values()]
        for curl, transfer in self._busy.items():
            self._multi.remove_handle(curl)
            transfer.clear()
        self._busy.clear()
        return tickets

    def close(self) -> None:
        """Release every descriptor. Call after `abort`."""
        for transfer in self._idle:
            transfer.curl.close()
        self._multi.close()
        self._epoll.close()
        # Its number may be given to another file at once: from here on nobody writes to it.
        with self._waking:
            self._is_closed = True
            os.close(self._waker)

    def _ended(self) -> list[Finished]:
        finished: list[Finished] = []
        while True:
            queued, succeeded, failed = self._multi.info_read()
            finished += [self._finish(curl, 0) for curl in succeeded]
            finished += [self._finish(curl, error) for curl, error, _ in failed]
            if not queued:
                return finished

    def _finish(self, curl: Any, error: int) -> Finished:
        transfer = self._busy.pop(curl)
        finished = transfer.finished(error)
        self._multi.remove_handle(curl)
        transfer.clear()
        self._idle.append(transfer)
        return finished

    def _watch_socket(self, action: int, descriptor: int, _multi: Any, _data: Any) -> None:
        if action == pycurl.POLL_REMOVE:
            try:
                self._epoll.unregister(descriptor)
            except (OSError, ValueError):
                return  # libcurl has closed it already, which took it out of the epoll set
            return
        events = (select.EPOLLIN if action & pycurl.POLL_IN else 0) | (
            select.EPOLLOUT if action & pycurl.POLL_OUT else 0
        )
        try:
            self._epoll.modify(descriptor, events)
        except FileNotFoundError:
            self._epoll.register(descriptor, events)

    def _set_timer(self, timeout_ms: int) -> None:
        self._timer_at = None if timeout_ms < 0 else time.monotonic() + timeout_ms / 1000


class _Transfer:
    """One reusable easy handle and what has been seen of its answer. No byte of a body is kept."""

    __slots__ = (
        "_allow",
        "_body_bytes",
        "_header_bytes",
        "_headers_ended",
        "_refused",
        "_retry_after",
        "curl",
        "ticket",
    )

    def __init__(self, allow: tuple[Network, ...], ca_file: str, user_agent: str) -> None:
        self._allow = allow
        self.ticket: Any = None
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

    def prepare(self, request: Request, ticket: Any) -> None:
        self.ticket = ticket
        self._headers_ended = self._refused = False
        self._body_bytes = self._header_bytes = 0
        self._retry_after: bytes | None = None
        curl = self.curl
        curl.setopt(pycurl.URL, request.url)
        curl.setopt(pycurl.HTTPHEADER, request.headers)
        curl.setopt(pycurl.POSTFIELDS, request.body.reveal())
        curl.setopt(pycurl.TIMEOUT_MS, request.deadline_ms)
        curl.setopt(pycurl.CONNECTTIMEOUT_MS, request.deadline_ms)

    def clear(self) -> None:
        """Let go of the content and the ticket; the handle keeps only its connection."""
        self.ticket = None
        self.curl.setopt(pycurl.POSTFIELDS, b"")

    def finished(self, error: int) -> Finished:
        curl = self.curl
        status = curl.getinfo(pycurl.RESPONSE_CODE)
        if error == pycurl.E_WRITE_ERROR and self._headers_ended and self._body_bytes > BODY_CAP_BYTES:
            error = 0
        failure = self._failure(error, status)
        hint = parse_retry_after(self._retry_after, time.time()) if self._retry_after and failure is None else None
        return Finished(
            ticket=self.ticket,
            result=AttemptResult(status=status if failure is None else None, failure=failure, retry_after_seconds=hint),
            duration_ms=int(curl.getinfo(pycurl.TOTAL_TIME) * 1000),
            response_bytes=self._body_bytes,
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
        if self._header_bytes > HEADERS_CAP_BYTES:
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
        return -1 if self._body_bytes > BODY_CAP_BYTES else None

    def _on_connect(self, _purpose: int, address: Any) -> Any:
        family, kind, protocol, target = address
        if family not in (socket.AF_INET, socket.AF_INET6) or not is_allowed(target[0], allow=self._allow):
            self._refused = True
            return pycurl.SOCKET_BAD
        return _HandedOver(family, kind, protocol)


class _HandedOver(socket.socket):
    """A socket for pycurl, which duplicates its descriptor and drops it: closed then, without a ResourceWarning."""

    def __del__(self) -> None:
        self.close()


def _curl_events(events: int) -> int:
    mask = 0
    if events & select.EPOLLIN:
        mask |= pycurl.CSELECT_IN
    if events & select.EPOLLOUT:
        mask |= pycurl.CSELECT_OUT
    if events & (select.EPOLLERR | select.EPOLLHUP):
        mask |= pycurl.CSELECT_ERR
    return mask
