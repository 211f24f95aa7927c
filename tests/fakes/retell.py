"""Retell's REST API for tests: web calls, in the documented formats (official Python package 6.2.13), in memory.

It is an HTTP server on a free loopback port: give its `url` to a process as SWITCHHOOK_RETELL_BASE_URL.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from tests.fakes.server import Fake, Seen

Json = dict[str, Any]
KEY: Final = "retell-key-of-tests"
_GET_CALL: Final = "/v2/get-call/"
_PAGE: Final = 50


class FakeRetell(Fake):
    """The server. `calls` are those that were made, by id, as `get-call` shows them."""

    def __init__(self, key: str = KEY) -> None:
        self.key = key
        self.requests: list[Seen] = []
        self.calls: dict[str, Json] = {}
        self._failures: deque[int] = deque()
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        super().__init__("retell")

    def fail_next(self, status: int, times: int = 1) -> None:
        """Answer the next requests with this status, having done nothing."""
        with self._lock:
            self._failures.extend([status] * times)

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
        asked = wish.get("filter_criteria", {}).get("start_timestamp", {}).get("value", 0)
        since, until = asked if isinstance(asked, list) else (asked, float("inf"))
        found = [call for call in self.calls.values() if since <= call.get("start_timestamp", -1) <= until]
        found.sort(key=lambda call: call["start_timestamp"], reverse=wish.get("sort_order") != "ascending")
        start, most = int(wish.get("pagination_key", "0")), wish.get("limit", _PAGE)
        has_more = start + most < len(found)
        page = {"items": found[start : start + most], "has_more": has_more}
        return page | ({"pagination_key": str(start + most)} if has_more else {})


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
