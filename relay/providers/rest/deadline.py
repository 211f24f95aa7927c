"""A bound on the whole of an HTTP answer, from its first byte to its last, however slowly it comes.

A timeout of a socket is for one read: a server that sends a byte now and then never exceeds it, neither in the headers
nor in the body. So each read may last no longer than what is left of the whole.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from typing import Any, Final

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

WHOLE_SECONDS: Final = 30.0


class Punctual(HTTPAdapter):
    """Answers that are not whole within WHOLE_SECONDS fail as a read that timed out does."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """Make the pools that connections come from."""
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}


class _Answer(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp = io.BufferedReader(_Reader(self.fp.detach(), sock))


class _Reader(io.RawIOBase):
    """What a socket has to read, until the time is over."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket) -> None:
        self._stream = raw
        self._socket = sock
        self._each = sock.gettimeout()
        self._ends_at = time.monotonic() + WHOLE_SECONDS

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._ends_at - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left if self._each is None else min(left, self._each))
        return self._stream.readinto(buffer)

    def close(self) -> None:
        self._stream.close()
        super().close()


class _Connection(HTTPConnection):
    response_class = _Answer


class _TlsConnection(HTTPSConnection):
    response_class = _Answer


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection
