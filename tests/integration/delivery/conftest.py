"""Servers of raw bytes, certificates, and a transport that trusts them."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from relay.delivery.transport import Transport
from tests.certificates import Certificates
from tests.raw_server import LOOPBACK, Answer, Serve, Server, close


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """The certificates of this run."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


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
    close(transport)
