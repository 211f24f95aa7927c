"""The sample receiver: a customer's HTTP server that verifies, counts and forgets.

It verifies as a customer would who has read Standard Webhooks 1.0 and owns none of our code: everything it needs is
in `is_genuine`. Bodies are dropped as soon as they are verified.
"""

from __future__ import annotations

import base64
import hmac
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Final

from relay.demo.client import HOST

# Standard Webhooks 1.0 recommends five minutes either way.
TOLERANCE_SECONDS: Final = 300


@dataclass(frozen=True, slots=True)
class Secrets:
    """What an endpoint's deliveries are proved by: the key of `webhook-signature`, and X-Webhook-Secret."""

    signing_secret: str = field(repr=False)
    webhook_secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Counts:
    """What arrived: deliveries that were genuine and new, repeats of them, and requests that were refused."""

    verified: int = 0
    repeats: int = 0
    refused: int = 0


def is_genuine(body: bytes, headers: Mapping[str, str], *, secrets: Secrets, now_seconds: float) -> bool:
    """Whether a delivery comes from Switchhook: signature (Standard Webhooks 1.0), age, and X-Webhook-Secret.

    `headers` has lower-case names. Never raises, whatever is in them.
    """
    message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    # Ten digits last until the year 2286.
    is_timely = (
        timestamp.isdecimal() and len(timestamp) <= 10 and abs(now_seconds - int(timestamp)) <= TOLERANCE_SECONDS
    )
    key = base64.b64decode(secrets.signing_secret.removeprefix("whsec_"))
    expected = base64.b64encode(hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, "sha256"))
    signatures = (part.partition(",") for part in headers.get("webhook-signature", "").split())
    is_signed = any(v == "v1" and hmac.compare_digest(s.encode(), expected) for v, _, s in signatures)
    given_secret = headers.get("x-webhook-secret", "").encode()
    return is_timely and is_signed and hmac.compare_digest(given_secret, secrets.webhook_secret.encode())


class Receiver:
    """A receiver on a free port of loopback, in threads of its own for as long as the `with` block."""

    def __init__(self) -> None:
        self._secrets: dict[str, Secrets] = {}
        self._verified_at: dict[str, float] = {}
        self._counts = Counts()
        self._changed = threading.Condition()
        self._server = _Server((HOST, 0), _Handler)
        self._server.receiver = self
        self.url = f"http://{HOST}:{self._server.server_port}"

    def __enter__(self) -> Receiver:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def counts(self) -> Counts:
        """What arrived so far."""
        with self._changed:
            return self._counts

    def trust(self, path: str, secrets: Secrets) -> None:
        """Take deliveries on a path that these secrets prove."""
        self._secrets[path] = secrets

    def verified_at(self, event_id: str, *, within_seconds: float = 0) -> float | None:
        """When (time.monotonic) an event was first verified; waits for it that long, None if it does not come."""
        with self._changed:
            self._changed.wait_for(lambda: event_id in self._verified_at, within_seconds)
            return self._verified_at.get(event_id)

    def take(self, path: str, headers: Mapping[str, str], body: bytes) -> int:
        """Look at one delivery and return the HTTP status that answers it: 204, 401, or 404 for an unknown path."""
        secrets = self._secrets.get(path)
        if secrets is None:
            return 404
        is_verified = is_genuine(body, headers, secrets=secrets, now_seconds=time.time())
        with self._changed:
            event_id, seen = headers.get("webhook-id", ""), self._counts
            if not is_verified:
                self._counts = Counts(seen.verified, seen.repeats, seen.refused + 1)
                return 401
            if event_id in self._verified_at:
                self._counts = Counts(seen.verified, seen.repeats + 1, seen.refused)
            else:
                self._verified_at[event_id] = time.monotonic()
                self._counts = Counts(seen.verified + 1, seen.repeats, seen.refused)
            self._changed.notify_all()
        return 204


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    receiver: Receiver


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        """One delivery."""
        length = self.headers.get("Content-Length", "")
        body = self.rfile.read(int(length)) if length.isdecimal() else b""
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.send_response(self.server.receiver.take(self.path, headers, body))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class' name)
        """Say nothing: the demo tells what arrived."""
