"""Plain HTTP to the demo's web process: on loopback, past any proxy that this machine is configured with."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

HOST: Final = "127.0.0.1"
# Longer than web takes to answer 503 when its Redis hangs.
_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Client:
    """Requests to the port that web listens on."""

    port: int

    @property
    def url(self) -> str:
        """Where web is."""
        return f"http://{HOST}:{self.port}"

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """The status and body that answer a POST. Raises OSError or HTTPException if nothing does."""
        return self._request("POST", path, body, headers)

    def get(self, path: str) -> str | None:
        """The text of a page; None unless web answers 200."""
        try:
            status, body = self._request("GET", path, b"", {})
        except (OSError, http.client.HTTPException):
            return None
        return body.decode() if status == http.client.OK else None

    def _request(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=_SECONDS)
        try:
            connection.request(method, path, body or None, dict(headers))
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()
