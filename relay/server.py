"""granian on one listening socket of ours, so that a restart need not refuse or reset anybody.

Left to itself granian has each server process bind the port with SO_REUSEPORT. Then each has a queue of connections of
its own, Linux resets what waits there when the process ends, and a leftover process silently takes its share of the
webhooks. Here all server processes accept from one socket, which `web` opens or is handed by who started it: systemd
keeps one open over restarts, and what comes meanwhile waits (systemd.socket(5)).
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from granian import _signals
from granian._granian import SocketHolder, WorkerSignal
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.mp import MPServer

from relay.errors import SettingsError
from relay.settings import Settings
from relay.telemetry import logs

# Connections that may wait while a successor starts; the kernel's own limit (net.core.somaxconn) is 4096.
BACKLOG: Final = 2048
# Connections for each thread: who is slow with headers, or idle, holds a connection (for at most 30 s) and no thread.
_CONNECTIONS_PER_THREAD: Final = 2
# What is buffered for a connection; granian's own 408 KiB would be 200 MiB for all of them.
_BUFFER_BYTES: Final = 64 * 1024
# How long whoever has connected already may take to begin a request, once nobody is accepted any more.
_QUIET_SECONDS: Final = 1.0
# Then what is still unfinished is cut off: platforms kill 30 s after SIGTERM.
_STOP_SECONDS: Final = 25
_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

Application = Callable[[], Any]


def listen(host: str, port: int) -> socket.socket:
    """Open the listening socket. Raises SettingsError when the port is taken or the address is none of ours.

    Without SO_REUSEPORT: nobody else can listen there, and a leftover process is noticed.
    """
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        # Only lets the port be taken again right after a stop; two listeners are refused all the same (socket(7)).
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise SettingsError(f"PORT {port} is taken; stop what listens there, or choose another") from error
        raise SettingsError(f"HOST and PORT {port} cannot be listened on: {type(error).__name__}") from error
    return listening


def inherit(descriptor: int) -> socket.socket:
    """The listening TCP socket that this process was started with. Raises SettingsError if it is none."""
    refusal = f"--fd {descriptor} is not a listening TCP socket; start web by what opens one for it"
    try:
        listening = socket.socket(fileno=descriptor)
    except OSError as error:
        raise SettingsError(refusal) from error
    is_tcp = listening.family in {socket.AF_INET, socket.AF_INET6}
    if not (is_tcp and listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)):
        listening.detach()  # somebody else's, and possibly where the refusal is printed
        raise SettingsError(refusal)
    return listening


def run(create_app: Application, listening: socket.socket, settings: Settings) -> None:
    """Serve until SIGTERM, in server processes that each call `create_app` for a WSGI application of their own.

    Asked to stop, they accept nobody more, answer who has connected, and end within 25 s.
    """
    # Connections inherit it. Else an answer's second packet waits for the acknowledgement of the first: 40 ms.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    _WebServer(listening, settings).serve(
        target_loader=partial(_load, create_app, listening.fileno()), wrap_loader=False
    )


class _WebServer(MPServer):
    """granian, on a socket that is listening already."""

    # granian says None for what it sets later.
    _sfd: Any
    _shd: Any

    def __init__(self, listening: socket.socket, settings: Settings) -> None:
        host, port = listening.getsockname()[:2]
        super().__init__(
            "switchhook web",
            address=host,
            port=port,
            interface=Interfaces.WSGI,
            # Not HTTP/2: each of its connections could hold every thread.
            http=HTTPModes.http1,
            http1_settings=HTTP1Settings(max_buffer_size=_BUFFER_BYTES),
            websockets=False,
            workers=settings.web_concurrency,
            blocking_threads=settings.blocking_threads,
            backlog=BACKLOG,
            backpressure=settings.blocking_threads * _CONNECTIONS_PER_THREAD,
            log_access=False,
            log_dictconfig=logs.GRANIAN,
            respawn_failed_workers=True,
            workers_kill_timeout=_STOP_SECONDS,
        )
        self._listening = listening

    def _init_shared_socket(self) -> None:
        # What granian itself does where there is no SO_REUSEPORT: one socket for all server processes.
        self._ssp = None
        self._sso = self._listening
        self._sfd = self._listening.fileno()
        self._shd = SocketHolder(self._sfd, False, BACKLOG)  # type: ignore[call-arg]


def _load(create_app: Application, descriptor: int) -> Any:
    """Called first in each server process, before there is any other thread."""
    # Every thread inherits this. Otherwise the kernel may hand the signal to a thread that is just being made, and
    # Python, which runs handlers in its main thread only, would not notice before that wakes up by itself.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    _signals.set_sync_signals = partial(_stop_when_asked, descriptor)
    return create_app()


def _stop_when_asked(descriptor: int) -> WorkerSignal:
    stop = WorkerSignal()
    threading.Thread(target=_stop_in_two_steps, args=(stop, descriptor), name="stopper", daemon=True).start()
    return stop


def _stop_in_two_steps(stop: WorkerSignal, descriptor: int) -> None:
    """Wait for SIGTERM; first end the accepting, and a moment later the serving.

    granian does both at once, and closes a connection that was accepted a moment before and has not said anything yet:
    its sender would be left without an answer. The shared socket cannot be closed for one process alone, since others
    hold it; a socket that nobody can connect to takes its place under the same number.
    """
    signal.sigwait(_STOP_SIGNALS)
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind("")  # Linux gives it a name that nobody knows (unix(7), autobind)
        deaf.listen()
        deaf.setblocking(False)
        os.dup2(deaf.fileno(), descriptor)
    time.sleep(_QUIET_SECONDS)
    stop.set()
