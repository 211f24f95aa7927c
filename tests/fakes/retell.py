"""Retell's REST API for tests: web calls, in the documented formats (official Python package 6.2.13), in memory.

It is an HTTP server on a free loopback port: give its `url` to a process as SWITCHHOOK_RETELL_BASE_URL.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import urlsplit

Json = dict[str, Any]
KEY: Final = "retell-key-of-tests"
_GET_CALL: Final = "/v2/get-call/"
_PAGE: Final = 50


@dataclass(frozen=True, slots=True)
class Seen:
    """One request."""

    method: str
    path: str
    authorization: str | None
    body: Any


class FakeRetell:
    """The server. `calls` are those that were made, by id, as `get-call` shows them."""

    def __init__(self, key: str = KEY) -> None:
        self.key = key
        self.requests: list[Seen] = []
        self.calls: dict[str, Json] = {}
        self._failures: deque[int] = deque()
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="retell", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def fail_next(self, status: int, times: int = 1) -> None:
        """Answer the next requests with this status, having done nothing."""
        with self._lock:
            self._failures.extend([status] * times)

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, seen: Seen) -> tuple[int, Any]:
        """The status and the JSON body for a request."""
        with self._lock:
            self.requests.append(seen)
            if self._failures:
                return _refusal(self._failures.popleft(), f"failed at {json.dumps(seen.body)}")
            if seen.authorization != f"Bearer {self.key}":
                return _refusal(401, "API key is invalid")
            match seen.method, seen.path:
                case "POST", "/v2/create-web-call" | "/v3/create-web-call":
                    return self._create(seen.body, _connection if seen.path.startswith("/v3/") else _with_token)
                case "POST", "/v3/list-calls":
                    return 200, self._page(seen.body)
                case "GET", path if path.startswith(_GET_CALL):
                    call = self.calls.get(path.removeprefix(_GET_CALL))
                    return (200, call) if call is not None else _refusal(404, "call not found")
        return _refusal(404, "Not Found")

    def _create(self, body: Any, shown: Callable[[Json, str], Json]) -> tuple[int, Any]:
        if not isinstance(body, dict) or not isinstance(body.get("agent_id"), str):
            return _refusal(400, f"agent_id is required in {json.dumps(body)}")
        number = next(self._numbers)
        call = {
            "call_type": "web_call",
            "call_id": f"call_{number:024d}",
            "agent_id": body["agent_id"],
            "agent_version": 0,
            "call_status": "registered",
            **{name: body[name] for name in ("metadata", "retell_llm_dynamic_variables") if name in body},
        }
        self.calls[call["call_id"]] = call
        return 201, shown(call, f"token_{number:024d}")

    def _page(self, wish: Any) -> Json:
        """Those that began at the asked moment or later: calls that have not begun have no start."""
        begun = wish.get("filter_criteria", {}).get("start_timestamp", {}).get("value", 0)
        found = [call for call in self.calls.values() if call.get("start_timestamp", -1) >= begun]
        found.sort(key=lambda call: call["start_timestamp"], reverse=wish.get("sort_order") != "ascending")
        start, most = int(wish.get("pagination_key", "0")), wish.get("limit", _PAGE)
        has_more = start + most < len(found)
        page = {"items": found[start : start + most], "has_more": has_more}
        return page | ({"pagination_key": str(start + most)} if has_more else {})


@contextmanager
def fake_retell(key: str = KEY) -> Iterator[FakeRetell]:
    """A fake for as long as the block lasts."""
    fake = FakeRetell(key)
    try:
        yield fake
    finally:
        fake.close()


def _with_token(call: Json, token: str) -> Json:
    """What version 2 tells of a call: all of it."""
    return call | {"access_token": token}


def _connection(call: Json, token: str) -> Json:
    """What version 3 tells of a call: how to join it, and nothing else."""
    turn = {"urls": ["turn:turn.example:3478"], "username": "u", "credential": "a-secret"}
    servers = [{"urls": "stun:stun.example:3478"}, turn]
    how = {"transport": "gateway", "ice_servers": servers, "expires_at": 1_800_000_000_000}
    return {"call_id": call["call_id"], "access_token": token, **how}


def _refusal(status: int, message: str) -> tuple[int, Json]:
    return status, {"status": "error", "message": message}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, fake: FakeRetell) -> None:
        self.fake = fake
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away: nothing to print."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path, authorization = urlsplit(self.path).path, self.headers.get("Authorization")
        seen = Seen(self.command, path, authorization, json.loads(raw) if raw else None)
        status, answer = self.server.fake.answer(seen)
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class's name
        """Say nothing."""
