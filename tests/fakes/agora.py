"""Agora's REST API as its documents describe it: agents that join channels and leave them, in memory."""

from __future__ import annotations

import itertools
import re
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.fakes.server import Fake, Seen

_ROUTE: Final = re.compile(
    r"/api/conversational-ai-agent/v2/projects/(?P<appid>[^/]+)/"
    r"(?:join|(?P<list>agents)|agents/(?P<agent>[^/]+)(?:/(?P<verb>leave|update|interrupt|speak))?)"
)
_RUNNING, _STOPPED = 2, 4
_numbers = itertools.count(1)

Reply = tuple[int, dict[str, Any] | None]


@dataclass(slots=True)
class FakeAgent:
    """An agent in a channel."""

    agent_id: str
    appid: str
    name: str
    properties: dict[str, Any]
    start_ts: int = field(default_factory=lambda: int(time.time()))
    stop_ts: int | None = None

    @property
    def status(self) -> str:
        """In Agora's word."""
        return "RUNNING" if self.stop_ts is None else "STOPPED"

    @property
    def labels(self) -> Mapping[str, str]:
        """What it was labelled with."""
        labels: Mapping[str, str] = self.properties.get("labels", {})
        return labels

    def payload(self, **more: Any) -> dict[str, Any]:
        """What every notification about it holds."""
        channel = self.properties["channel"]
        common = {"agent_id": self.agent_id, "name": self.name, "channel": channel, "start_ts": self.start_ts}
        return {**common, "labels": dict(self.labels), **more}


class FakeAgora(Fake):
    """A threaded server on a free loopback port."""

    def __init__(self) -> None:
        self.requests: list[Seen] = []
        self.agents: dict[str, FakeAgent] = {}
        self._failures: deque[int] = deque()
        self._lock = threading.Lock()
        super().__init__("agora")

    def fail_next(self, status: int, times: int = 1) -> None:
        """Answer the next requests with this status, having done nothing."""
        with self._lock:
            self._failures.extend([status] * times)

    def answer(self, seen: Seen) -> Reply:
        """What to answer; None for an empty body."""
        with self._lock:
            self.requests.append(seen)
            if self._failures:
                return _refusal(self._failures.popleft(), "InternalError")
            route = _ROUTE.fullmatch(seen.path)
            if route is None or seen.authorization is None:
                return _refusal(404 if route is None else 401, "InvalidPermission")
            if route["list"]:
                return 200, self._page(route["appid"], {name: given[0] for name, given in seen.query.items()})
            if route["agent"] is None:
                return self._join(route["appid"], seen.body)
            agent = self.agents.get(route["agent"])
            if agent is None or agent.appid != route["appid"]:
                return _refusal(404, "TaskNotFound")
            return self._told(agent, route["verb"], seen.body)

    def _join(self, appid: str, body: dict[str, Any]) -> Reply:
        live = {(one.appid, one.name) for one in self.agents.values() if one.stop_ts is None}
        if not _is_complete(body):
            return _refusal(400, "InvalidRequestBody")
        if (appid, body["name"]) in live:
            return _refusal(409, "TaskConflict")
        agent = FakeAgent(f"1NT29X10YHFAKE{next(_numbers):011d}", appid, body["name"], body["properties"])
        self.agents[agent.agent_id] = agent
        return 200, _started(agent)

    def _page(self, appid: str, wish: Mapping[str, str]) -> dict[str, Any]:
        """Those that run and began in the last two hours, unless asked otherwise; the cursor is an agent's id."""
        states = {int(state) for state in wish.get("state", str(_RUNNING)).split(",")}
        since, until = float(wish.get("from_time", time.time() - 7200)), float(wish.get("to_time", time.time()))
        found = [
            agent
            for agent in self.agents.values()
            if agent.appid == appid
            and (_RUNNING if agent.stop_ts is None else _STOPPED) in states
            and since <= agent.start_ts <= until
            and wish.get("channel") in (None, agent.properties["channel"])
        ]
        start = next((place for place, one in enumerate(found) if one.agent_id == wish.get("cursor")), 0)
        end = start + int(wish.get("limit", 20))
        shown = [{"start_ts": one.start_ts, "status": one.status, "agent_id": one.agent_id} for one in found[start:end]]
        cursor = found[end].agent_id if end < len(found) else ""
        data = {"count": len(shown), "list": shown}
        return {"data": data, "meta": {"cursor": cursor, "total": len(found)}, "status": "ok"}

    def _told(self, agent: FakeAgent, verb: str | None, body: Any) -> Reply:
        if verb is None:
            times = {"start_ts": agent.start_ts, "stop_ts": agent.stop_ts}
            shown = {"message": "agent exits with reason: OK", **times, "status": agent.status, "name": agent.name}
            return 200, {**shown, "agent_id": agent.agent_id}
        if agent.stop_ts is not None:
            return _refusal(404, "TaskNotFound")
        if verb == "leave":
            agent.stop_ts = int(time.time())
            return 200, None
        if verb == "update":
            agent.properties |= body["properties"]
            return 200, _started(agent)
        channel = agent.properties["channel"]
        return 200, {"agent_id": agent.agent_id, "channel": channel, "start_ts": int(time.time())}


def _is_complete(body: Mapping[str, Any]) -> bool:
    """What the document requires, unless a preset or a pipeline has it, or an `mllm` is in its place."""
    properties = body["properties"]
    if not all(properties.get(name) for name in ("channel", "token", "agent_rtc_uid", "remote_rtc_uids")):
        return False
    if body.get("preset") or body.get("pipeline_id") or properties.get("mllm"):
        return True
    llm, tts = properties.get("llm") or {}, properties.get("tts") or {}
    return bool((llm.get("url") or llm.get("vendor")) and tts.get("vendor") and tts.get("params"))


def _started(agent: FakeAgent) -> dict[str, Any]:
    return {"agent_id": agent.agent_id, "create_ts": agent.start_ts, "status": "RUNNING"}


def _refusal(status: int, reason: str) -> Reply:
    return status, {"detail": "the detail may quote what was sent", "reason": reason}
