"""ElevenLabs' REST API for tests: the documented formats (official Python package 2.78) over state in memory.

It is an HTTP server on a free loopback port: give its `url` to a process as SWITCHHOOK_ELEVENLABS_BASE_URL. Each API
key opens a workspace of its own.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.fakes.elevenlabs_state import (
    ACCESS,
    METADATA,
    Json,
    Refused,
    Workspace,
    agent_page,
    change_tool,
    change_webhook,
    check_agent,
    conversations,
    field_of,
    known,
    merged,
    page,
    tool,
    tool_config,
    without,
)
from tests.fakes.server import Fake, Seen

KEY: Final = "xi-key-of-tests"


@dataclass(slots=True)
class _Failure:
    status: int
    times: int
    on: str
    acted: bool
    loc: Sequence[str]

    def detail(self, seen: Seen) -> Json | list[Json]:
        """What its answer says: the field that is wrong, if it is to name one."""
        message = f"failed at {json.dumps(seen.body)}"
        if self.loc:
            return [{"loc": list(self.loc), "msg": message, "type": "value_error"}]
        return {"status": "error", "message": message}


class FakeElevenLabs(Fake):
    """The server. `requests` are those that had a key, oldest first."""

    def __init__(self, *keys: str) -> None:
        self.workspaces = {key: Workspace() for key in keys or (KEY,)}
        self.requests: list[Seen] = []
        self.before: Callable[[Seen], None] = lambda _: None
        self._lock = threading.RLock()
        self._failures: list[_Failure] = []
        self._numbers = itertools.count(1)
        super().__init__("elevenlabs")

    @property
    def workspace(self) -> Workspace:
        """The one of the first key."""
        return next(iter(self.workspaces.values()))

    def fail_next(
        self, status: int, times: int = 1, *, on: str = "", acted: bool = False, loc: Sequence[str] = ()
    ) -> None:
        """Answer the next requests that begin with `on` ("POST /v1/convai/agents") with this status.

        `acted`: after doing what was asked, as a gateway that gives up too early would. `loc` names a field.
        """
        with self._lock:
            self._failures.append(_Failure(status, times, on, acted, loc))

    def recover(self) -> None:
        """Fail at nothing more."""
        with self._lock:
            self._failures.clear()

    def calls(self, start: str = "") -> list[str]:
        """Method and path of each request so far that begins like this."""
        with self._lock:
            made = [f"{seen.method} {seen.path}" for seen in self.requests]
        return [call for call in made if call.startswith(start)]

    def add_workspace(self, key: str) -> Workspace:
        """What another key opens."""
        return self.workspaces.setdefault(key, Workspace())

    def add_agent(self, **fields: Any) -> str:
        """An agent that somebody made by hand; its id."""
        return self._create_agent(self.workspace, {"conversation_config": {"agent": {}}, **fields})

    def add_conversation(self, agent_id: str, **fields: Any) -> str:
        """A conversation that has ended; its id."""
        conversation_id = self._new("conv")
        now = int(time.time())
        self.workspace.conversations[conversation_id] = {
            "conversation_id": conversation_id,
            "agent_id": agent_id,
            "status": "done",
            "start_time_unix_secs": now,
            "call_duration_secs": 60,
            "message_count": 2,
            "call_successful": "success",
            "transcript_summary": "what was said",
            **fields,
        }
        return conversation_id

    def answer(self, seen: Seen) -> tuple[int, Any]:
        """The status and the JSON body for a request."""
        self.before(seen)
        workspace = self.workspaces.get(seen.headers.get("xi-api-key", ""))
        if workspace is None:
            return 401, {"detail": {"status": "invalid_api_key", "message": "Invalid API key"}}
        with self._lock:
            self.requests.append(seen)
            failure = self._failure(seen)
            if failure is None or failure.acted:
                try:
                    answer = 200, self._act(workspace, seen)
                except Refused as error:
                    answer = error.status, {"detail": error.detail}
            if failure is None:
                return answer
        return failure.status, {"detail": failure.detail(seen)}

    def _failure(self, seen: Seen) -> _Failure | None:
        call = f"{seen.method} {seen.path}"
        failure = next((one for one in self._failures if one.times and call.startswith(one.on)), None)
        if failure is not None:
            failure.times -= 1
        return failure

    def _new(self, prefix: str) -> str:
        return f"{prefix}_{next(self._numbers):06d}"

    def _act(self, workspace: Workspace, seen: Seen) -> Any:  # noqa: PLR0911  (one for each route)
        match seen.method, seen.path.strip("/").split("/")[1:]:
            case "POST", ["convai", "agents", "create"]:
                return {"agent_id": self._create_agent(workspace, seen.body)}
            case "GET", ["convai", "agents"]:
                return agent_page(workspace, seen.query)
            case method, ["convai", "agents", agent_id]:
                return self._agent(workspace, method, agent_id, seen.body)
            case "POST", ["convai", "tools"]:
                tool_id = self._new("tool")
                workspace.tools[tool_id] = tool_config(seen.body)
                return tool(tool_id, workspace.tools[tool_id])
            case "GET", ["convai", "tools"]:
                start = seen.query.get("search", [""])[0]
                tools = [tool(*one) for one in workspace.tools.items() if one[1]["name"].startswith(start)]
                return page(tools, "tools", seen.query)
            case method, ["convai", "tools", tool_id]:
                return change_tool(workspace, method, tool_id, query=seen.query, body=seen.body)
            case "POST", ["workspace", "webhooks"]:
                return self._create_webhook(workspace, seen.body)
            case "GET", ["workspace", "webhooks"]:
                return {"webhooks": [without(one, "secret", "retry_enabled") for one in workspace.webhooks.values()]}
            case method, ["workspace", "webhooks", webhook_id]:
                return change_webhook(workspace, method, webhook_id, seen.body)
            case "GET", ["convai", "conversation", "get-signed-url" | "get_signed_url"]:
                agent_id = seen.query.get("agent_id", [""])[0]
                known(workspace.agents, agent_id)
                host = "wss://api.elevenlabs.io/v1/convai/conversation"
                return {"signed_url": f"{host}?agent_id={agent_id}&conversation_signature={self._new('cvtkn')}"}
            case "GET", ["convai", "conversations"]:
                return page(conversations(workspace, seen.query), "conversations", seen.query)
            case "GET", ["convai", "conversations", conversation_id]:
                one = known(workspace.conversations, conversation_id)
                told = {name: one[name] for name in METADATA if name in one}
                return {"transcript": [], "metadata": told} | one
        raise Refused(404, {"status": "not_found", "message": "Not Found"})

    def _create_agent(self, workspace: Workspace, body: Any) -> str:
        check_agent(workspace, body, needed=True)
        agent_id = self._new("agent")
        workspace.agents[agent_id] = body | {"created": int(time.time())}
        return agent_id

    def _agent(self, workspace: Workspace, method: str, agent_id: str, body: Any) -> Any:
        agent = known(workspace.agents, agent_id)
        if method == "DELETE":
            del workspace.agents[agent_id]
            return None
        if method == "PATCH":
            check_agent(workspace, body, needed=False)
            agent = workspace.agents[agent_id] = merged(agent, body)
        times = {"created_at_unix_secs": agent["created"], "updated_at_unix_secs": agent["created"]}
        shown = {"tags": [], "platform_settings": {}, "phone_numbers": [], "access_info": ACCESS}
        return shown | {"agent_id": agent_id, "metadata": times} | without(agent, "created")

    def _create_webhook(self, workspace: Workspace, body: Any) -> Json:
        settings = field_of(body, "settings")
        webhook_id, secret = self._new("webhook"), "wsec_" + self._new("secret")
        workspace.webhooks[webhook_id] = {
            "webhook_id": webhook_id,
            "name": field_of(settings, "name", "settings"),
            "webhook_url": field_of(settings, "webhook_url", "settings"),
            "is_disabled": False,
            "is_auto_disabled": False,
            "created_at_unix": int(time.time()),
            "auth_type": field_of(settings, "auth_type", "settings"),
            "secret": secret,
            "retry_enabled": False,
        }
        return {"webhook_id": webhook_id, "webhook_secret": secret}
