"""A libcurl handle that goes only where it may: how it is set up, and what its errors mean.

Redirects are not followed, the environment's proxies and .netrc are ignored, nothing is decoded, and every new
connection is judged on the address it goes to.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Final

import pycurl

from relay.delivery.guard import is_allowed
from relay.delivery.retry import Failure
from relay.settings import Network

# An idle connection is dropped before usual servers and NATs drop it (60 s and more).
_IDLE_SECONDS: Final = 50
_LIFETIME_SECONDS: Final = 600

_TLS_ERRORS: Final = frozenset({
    pycurl.E_SSL_CONNECT_ERROR, pycurl.E_PEER_FAILED_VERIFICATION, pycurl.E_SSL_CACERT, pycurl.E_SSL_CERTPROBLEM,
    pycurl.E_SSL_CIPHER, pycurl.E_SSL_CACERT_BADFILE, pycurl.E_SSL_ISSUER_ERROR, pycurl.E_SSL_INVALIDCERTSTATUS,
    pycurl.E_SSL_PINNEDPUBKEYNOTMATCH,
})  # fmt: skip


def guarded(
    *, allow: tuple[Network, ...], ca_file: str, user_agent: str, on_refused: Callable[[], None]
) -> pycurl.Curl:
    """A new handle. `on_refused` is called when an address must not be connected to."""

    def connect(_purpose: int, address: Any) -> Any:
        family, kind, protocol, target = address
        if family not in (socket.AF_INET, socket.AF_INET6) or not is_allowed(target[0], allow=allow):
            on_refused()
            return pycurl.SOCKET_BAD
        try:
            return _HandedOver(family, kind, protocol)
        except OSError:
            return pycurl.SOCKET_BAD  # no descriptor is left, or no IPv6 here: libcurl tries the next address

    curl = pycurl.Curl()
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
        (pycurl.OPENSOCKETFUNCTION, connect),
    ):
        curl.setopt(option, value)
    return curl


def failure_of(curl: pycurl.Curl, error: int, *, headers_ended: bool, refused: bool) -> Failure | None:
    """Why a transfer got no whole answer; None if it did. `error` is libcurl's, 0 for none.

    libcurl reports 200 for `HTTP/1.1 200 OK\\r\\n` and FIN: only the blank line after the headers makes it an answer.
    """
    if error == 0:
        return None if headers_ended and curl.getinfo(pycurl.RESPONSE_CODE) else Failure.TRUNCATED
    if error == pycurl.E_OPERATION_TIMEDOUT:
        return Failure.TIMED_OUT if _was_connected(curl) else Failure.CONNECT_TIMED_OUT
    if error == pycurl.E_COULDNT_RESOLVE_HOST:
        return Failure.DNS_FAILED
    if error == pycurl.E_COULDNT_CONNECT:
        # A name may have several addresses; only when none could be reached does the refused one tell why.
        return Failure.TARGET_REFUSED if refused else Failure.CONNECT_FAILED
    return Failure.TLS_FAILED if error in _TLS_ERRORS else Failure.TRUNCATED


def _was_connected(curl: pycurl.Curl) -> bool:
    # Connecting takes no time on a connection that is used again; its address is known all the same.
    return curl.getinfo(pycurl.CONNECT_TIME) > 0 or bool(curl.getinfo(pycurl.PRIMARY_IP))


class _HandedOver(socket.socket):
    """A socket for pycurl, which duplicates its descriptor and drops it: closed then, without a ResourceWarning."""

    def __del__(self) -> None:
        self.close()
