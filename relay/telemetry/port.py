"""A port of this process' own for Prometheus, where it can reach every process: SWITCHHOOK_METRICS_PORT."""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from relay.errors import SettingsError, Unauthorized
from relay.problems import problem
from relay.settings import Settings
from relay.telemetry import logs, metrics
from relay.telemetry.access import require_token

# A scraper sends its request at once; whoever does not must not keep a thread.
_PATIENCE_SECONDS: Final = 5.0


class OwnPort(ThreadingHTTPServer):
    """Serves `GET /metrics` with what this process counts, by the token rule of web's `/metrics`."""

    daemon_threads = True

    def __init__(self, settings: Settings) -> None:
        """Bind to HOST. Raises SettingsError when the port is taken or not for this process."""
        self.settings = settings
        self.address_family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        try:
            super().__init__((settings.host, settings.metrics_port), _Handler)
        except OSError as error:
            raise SettingsError(
                f"SWITCHHOOK_METRICS_PORT {settings.metrics_port} cannot be used ({error.strerror}); "
                "give each process of this machine one of its own"
            ) from error

    def server_bind(self) -> None:
        """Bind without the base class's question to DNS, which may hang, for a name that nothing uses."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A scraper that hangs up is nothing to print."""

    def start(self) -> None:
        """Serve from a thread."""
        threading.Thread(target=self.serve_forever, name="metrics-port", daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    server: OwnPort
    timeout = _PATIENCE_SECONDS
    server_version = "switchhook"
    sys_version = ""

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != "/metrics":
            self._answer(404, b"only /metrics is here\n", "text/plain")
            return
        try:
            require_token(self.server.settings, self.headers.get("Authorization", ""))
        except Unauthorized as error:
            self._answer(error.status, *problem(error))
        else:
            self._answer(200, metrics.exposition(), metrics.CONTENT_TYPE)

    def _answer(self, status: int, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class's name
        """Say nothing: the base class prints every request on standard error."""


def check(settings: Settings) -> None:
    """Find out before web's server processes start whether one of them can serve. Raises SettingsError."""
    if not settings.metrics_port:
        return
    if settings.web_concurrency > 1:
        raise SettingsError("SWITCHHOOK_METRICS_PORT is for one server process; unset it, or set WEB_CONCURRENCY to 1")
    OwnPort(settings).server_close()


def serve(settings: Settings) -> None:
    """Serve this process' own metrics if SWITCHHOOK_METRICS_PORT is set. Raises SettingsError when it is taken."""
    if settings.metrics_port:
        OwnPort(settings).start()
        logs.info("metrics_served", port=settings.metrics_port)
