"""The socket that web listens on: opened, or inherited and nothing else taken for one."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

import pytest
from click.testing import CliRunner

from relay import server
from relay.cli import main
from relay.errors import SettingsError


def test_inherits_a_listening_socket() -> None:
    """What is accepted from it came to the one that was given."""
    with socket.create_server(("127.0.0.1", 0)) as given, server.inherit(os.dup(given.fileno())) as inherited:
        assert inherited.getsockname() == given.getsockname()


def _unix_listener() -> socket.socket:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind("")
    listening.listen()
    return listening


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(socket.socket, id="does not listen"),
        pytest.param(lambda: socket.socket(type=socket.SOCK_DGRAM), id="datagrams"),
        pytest.param(_unix_listener, id="not TCP"),
    ],
)
def test_refuses_what_is_no_listening_tcp_socket(make: Callable[[], socket.socket]) -> None:
    """By the option's name, and leaves it open to whoever it belongs to."""
    with make() as other:
        with pytest.raises(SettingsError, match=f"--fd {other.fileno()} is not"):
            server.inherit(other.fileno())
        assert os.fstat(other.fileno())


def test_refuses_a_descriptor_that_is_no_socket_or_not_open() -> None:
    """A pipe, and one that was closed."""
    reading, writing = os.pipe()
    with pytest.raises(SettingsError, match="--fd"):
        server.inherit(reading)
    os.close(reading)
    os.close(writing)
    with pytest.raises(SettingsError, match="--fd"):
        server.inherit(reading)


def test_two_cannot_open_one_port() -> None:
    """Neither can what shares ports by SO_REUSEPORT, such as granian by itself."""
    with server.listen("127.0.0.1", 0) as first, socket.socket() as sharing:
        port = first.getsockname()[1]
        with pytest.raises(SettingsError, match=f"PORT {port} is taken"):
            server.listen("127.0.0.1", port)
        sharing.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        with pytest.raises(OSError, match="in use"):
            sharing.bind(("127.0.0.1", port))


def test_names_the_setting_of_an_address_of_somebody_else() -> None:
    """It is not said to be taken."""
    with pytest.raises(SettingsError, match=r"^HOST and PORT 8000 cannot be listened on"):
        server.listen("192.0.2.1", 8000)  # TEST-NET-1 (RFC 5737)


def test_web_takes_a_port_or_a_socket_and_not_both() -> None:
    """Which of them was meant would be a guess."""
    result = CliRunner().invoke(main, ["web", "--port", "8000", "--fd", "3"])
    assert result.exit_code == 2
    assert "not both" in result.output
