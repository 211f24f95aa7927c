"""POST requests to customers' servers over libcurl, many at once in one thread."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

import certifi
import pycurl

from relay.delivery.exchange import Begun, Finished, Reply, Request
from relay.delivery.resolver import Addresses, Lookup, Resolver, system_lookup
from relay.delivery.retry import Failure
from relay.delivery.transfer import Transfer
from relay.settings import Network
from relay.telemetry import logs

__all__ = ["Finished", "Reply", "Request", "Transport"]

# No connection was made: the name is asked for anew, for it may have moved.
_UNCONNECTED: Final = frozenset({Failure.CONNECT_FAILED, Failure.CONNECT_TIMED_OUT, Failure.TARGET_REFUSED})
_PORTS: Final = {"http": 80, "https": 443}


class Transport:
    """A libcurl multi handle with its sockets. Belongs to one thread, except for `wake`."""

    def __init__(
        self,
        *,
        allow: Iterable[Network] = (),
        ca_file: str | None = None,
        user_agent: str,
        lookup: Lookup = system_lookup,
    ) -> None:
        self._allow = tuple(allow)
        self._ca_file = ca_file or certifi.where()
        self._user_agent = user_agent
        self._idle: list[Transfer] = []
        self._busy: dict[pycurl.Curl, tuple[Transfer, Begun]] = {}
        self._epoll = select.epoll()
        self._waker = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._waker, select.EPOLLIN)
        self._waking = threading.Lock()
        self._is_closed = False
        self._timer_at: float | None = None
        self._resolver = Resolver(lookup, on_answer=self.wake)
        self._unresolved: dict[str, list[Begun]] = {}
        self._unresolved_count = 0
        self._next_expiry = 0.0
        self._unsendable: list[Begun] = []
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch_socket)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)

    @property
    def in_flight(self) -> int:
        """How many requests have started and not ended."""
        return len(self._busy) + self._unresolved_count + len(self._unsendable)

    def start(self, request: Request, ticket: Any) -> None:
        """Begin a request; `step` will return it as Finished with this ticket."""
        begun = Begun(request, ticket, time.monotonic())
        host, port = _name_and_port(request.url)
        addresses = self._resolver.known(host) if port else ()
        if addresses is not None:
            self._send(begun, host, port, addresses)
            return
        self._unresolved.setdefault(host, []).append(begun)
        self._next_expiry = min(self._next_expiry, begun.ends_at) if self._unresolved_count else begun.ends_at
        self._unresolved_count += 1
        self._resolver.ask(host)

    def _send(self, begun: Begun, host: str, port: int, addresses: Addresses) -> None:
        transfer = self._idle.pop() if self._idle else Transfer(self._allow, self._ca_file, self._user_agent)
        try:
            # The plus sign lets libcurl forget the entry like one of its own.
            transfer.prepare(begun, host, [f"+{host}:{port}:{','.join(addresses)}"] if port else [])
        except Exception as error:
            # One request that libcurl does not take must not end the others; it ends with the next step.
            logs.failure("request_unsendable", error)
            self._unsendable.append(begun)
            return
        self._busy[transfer.curl] = transfer, begun
        self._multi.add_handle(transfer.curl)

    def step(self, wait_seconds: float) -> list[Finished]:
        """Wait for sockets, timers or `wake`, at most so long; return what has ended."""
        if self._timer_at is not None:
            wait_seconds = min(wait_seconds, max(0.0, self._timer_at - time.monotonic()))
        if self._unsendable:
            wait_seconds = 0.0
        if self._unresolved_count:
            wait_seconds = min(wait_seconds, max(0.0, self._next_expiry - time.monotonic()))
        # A millisecond is epoll's grain: rounding down would spin.
        for descriptor, events in self._epoll.poll(wait_seconds if wait_seconds <= 0 else wait_seconds + 0.0005):
            if descriptor == self._waker:
                os.eventfd_read(self._waker)
            else:
                self._multi.socket_action(descriptor, _curl_events(events))
        if self._timer_at is not None and time.monotonic() >= self._timer_at:
            self._timer_at = None
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        finished = self._resolved() if self._unresolved_count or self._resolver.has_answers else []
        if self._unsendable:
            finished += [begun.failed(Failure.UNSENDABLE) for begun in self._unsendable]
            self._unsendable.clear()
        return finished + self._ended() if self._busy else finished

    def wake(self) -> None:
        """End the current or next wait of `step`. May be called from any thread, also after `close`."""
        with self._waking:
            if not self._is_closed:
                os.eventfd_write(self._waker, 1)

    def abort(self) -> list[Any]:
        """Give up every request in flight and return their tickets."""
        tickets = [begun.ticket for _, begun in self._busy.values()]
        tickets += [begun.ticket for group in self._unresolved.values() for begun in group]
        tickets += [begun.ticket for begun in self._unsendable]
        self._unsendable.clear()
        self._unresolved.clear()
        self._unresolved_count = 0
        for curl, (transfer, _) in self._busy.items():
            self._multi.remove_handle(curl)
            transfer.clear()
        self._busy.clear()
        return tickets

    def close(self) -> None:
        """Release every descriptor. Call after `abort`."""
        self._resolver.close()
        for transfer in self._idle:
            transfer.curl.close()
        self._multi.close()
        self._epoll.close()
        # Its number may be given to another file at once: from here on nobody writes to it.
        with self._waking:
            self._is_closed = True
            os.close(self._waker)

    def _resolved(self) -> list[Finished]:
        """Send what waited for a name that was answered; end what waited for no name, or for too long."""
        finished: list[Finished] = []
        for host, addresses in self._resolver.answered():
            group = self._unresolved.pop(host, [])
            self._unresolved_count -= len(group)
            for begun in group:
                if addresses:
                    self._send(begun, *_name_and_port(begun.request.url), addresses)
                else:
                    finished.append(begun.failed(Failure.DNS_FAILED))
        now = time.monotonic()
        if self._unresolved_count and now >= self._next_expiry:
            everyone = [(host, begun) for host, group in self._unresolved.items() for begun in group]
            self._unresolved.clear()
            for host, begun in everyone:
                if begun.ends_at > now:
                    self._unresolved.setdefault(host, []).append(begun)
                else:
                    self._unresolved_count -= 1
                    finished.append(begun.failed(Failure.DNS_FAILED))
            left = (begun.ends_at for group in self._unresolved.values() for begun in group)
            self._next_expiry = min(left, default=now)
        return finished

    def _ended(self) -> list[Finished]:
        finished: list[Finished] = []
        while True:
            queued, succeeded, failed = self._multi.info_read()
            finished += [self._finish(curl, 0) for curl in succeeded]
            finished += [self._finish(curl, error) for curl, error, _ in failed]
            if not queued:
                return finished

    def _finish(self, curl: Any, error: int) -> Finished:
        transfer, begun = self._busy.pop(curl)
        finished = transfer.finished(begun, error)
        if finished.result.failure in _UNCONNECTED:
            self._resolver.forget(transfer.host)
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


@lru_cache(maxsize=4096)
def _name_and_port(url: str) -> tuple[str, int]:
    """The name to resolve and its port; port 0 for an address, which needs no resolving."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if ":" in host or host.rpartition(".")[2].isdigit():
        return host, 0
    return host, parts.port or _PORTS[parts.scheme]


def _curl_events(events: int) -> int:
    mask = 0
    if events & select.EPOLLIN:
        mask |= pycurl.CSELECT_IN
    if events & select.EPOLLOUT:
        mask |= pycurl.CSELECT_OUT
    if events & (select.EPOLLERR | select.EPOLLHUP):
        mask |= pycurl.CSELECT_ERR
    return mask
