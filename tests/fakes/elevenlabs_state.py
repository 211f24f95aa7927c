"""What the fake of ElevenLabs' API holds, checks and shows: the documented shapes (official Python package 2.78)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Json = dict[str, Any]
Query = Mapping[str, list[str]]
ACCESS: Final = {
    "is_creator": True, "creator_name": "Tests", "creator_email": "tests@example.com", "role": "admin",
}  # fmt: skip
# What a conversation's metadata have of what its list shows.
METADATA: Final = ("start_time_unix_secs", "call_duration_secs", "cost", "cost_fiat")
USAGE: Final = {"total_calls": 0, "avg_latency_secs": 0.0}


@dataclass(slots=True)
class Workspace:
    """What one API key opens; by id, as it was sent."""

    agents: dict[str, Json] = field(default_factory=dict)
    tools: dict[str, Json] = field(default_factory=dict)
    webhooks: dict[str, Json] = field(default_factory=dict)
    conversations: dict[str, Json] = field(default_factory=dict)


class Refused(Exception):
    """An answer that is no success; its text quotes what was sent, as the real one may."""

    def __init__(self, status: int, detail: Any) -> None:
        super().__init__(status)
        self.status, self.detail = status, detail


def check_agent(workspace: Workspace, body: Any, *, needed: bool) -> None:
    """Raises Refused for a body that the real one is known to refuse."""
    config = field_of(body, "conversation_config") if needed else body.get("conversation_config", {})
    prompt = config.get("agent", {}).get("prompt") or {}
    if "tools" in prompt:
        raise Refused(400, {"status": "invalid_request", "message": f"prompt.tools was removed: {prompt['tools']}"})
    for tool_id in prompt.get("tool_ids", ()):
        known(workspace.tools, tool_id)
    for name, tool in (prompt.get("built_in_tools") or {}).items():
        if tool is not None and name.startswith("transfer_") and not tool["params"].get("transfers"):
            loc = ["body", "conversation_config", "agent", "prompt", "built_in_tools", name, "params", "transfers"]
            raise Refused(422, [{"loc": loc, "msg": f"Field required in {tool}", "type": "missing"}])
    speed = config.get("tts", {}).get("speed", 1.0)
    if not 0.7 <= speed <= 1.2:
        loc = ["body", "conversation_config", "tts", "speed"]
        raise Refused(422, [{"loc": loc, "msg": f"{speed} is out of range", "type": "value_error"}])
    hooks = body.get("platform_settings", {}).get("workspace_overrides", {}).get("webhooks", {})
    if hooks.get("post_call_webhook_id"):
        known(workspace.webhooks, hooks["post_call_webhook_id"])


def field_of(body: Any, name: str, *loc: str) -> Any:
    """A field that is needed."""
    if not isinstance(body, dict) or name not in body:
        raise Refused(422, [{"loc": ["body", *loc, name], "msg": "Field required", "type": "missing", "input": body}])
    return body[name]


def known(things: dict[str, Json], name: str) -> Json:
    """The thing by this id."""
    if name not in things:
        raise Refused(404, {"status": "not_found", "message": f"Document with id {name} not found"})
    return things[name]


def tool_config(body: Any) -> Json:
    """The configuration of a tool in a request."""
    config: Json = field_of(body, "tool_config")
    needed = ("name", "description") if config.get("type") == "client" else ("name", "description", "api_schema")
    for name in needed:
        field_of(config, name, "tool_config")
    return config


def tool(tool_id: str, config: Json) -> Json:
    """A tool as it is shown."""
    return {"id": tool_id, "tool_config": config, "access_info": ACCESS, "usage_stats": USAGE}


def change_tool(workspace: Workspace, method: str, tool_id: str, *, query: Query, body: Any) -> Any:
    """PATCH or DELETE of a tool."""
    known(workspace.tools, tool_id)
    if method == "PATCH":
        workspace.tools[tool_id] = tool_config(body)
        return tool(tool_id, workspace.tools[tool_id])
    users = [one["conversation_config"].get("agent", {}).get("prompt", {}) for one in workspace.agents.values()]
    users = [prompt for prompt in users if tool_id in prompt.get("tool_ids", ())]
    if users and query.get("force") != ["true"]:
        raise Refused(409, {"status": "tool_in_use", "message": f"{tool_id} is used"})
    for prompt in users:
        prompt["tool_ids"] = [one for one in prompt["tool_ids"] if one != tool_id]
    del workspace.tools[tool_id]
    return None


def change_webhook(workspace: Workspace, method: str, webhook_id: str, body: Any) -> Json:
    """PATCH or DELETE of a webhook."""
    webhook = known(workspace.webhooks, webhook_id)
    if method == "DELETE":
        del workspace.webhooks[webhook_id]
    else:
        changed = {"is_disabled": field_of(body, "is_disabled"), "name": field_of(body, "name")}
        webhook |= changed | {"retry_enabled": body.get("retry_enabled", webhook["retry_enabled"])}
        webhook["is_auto_disabled"] = webhook["is_auto_disabled"] and webhook["is_disabled"]
    return {"status": "ok"}


def agent_page(workspace: Workspace, query: Query) -> Json:
    """A page of agents."""
    wanted, name = set(query.get("tags", ())), query.get("search", [""])[0].lower()
    agents = [
        {
            "agent_id": agent_id,
            "name": agent.get("name", ""),
            "voice_id": agent["conversation_config"].get("tts", {}).get("voice_id", ""),
            "tags": agent.get("tags", []),
            "created_at_unix_secs": agent["created"],
            "updated_at_unix_secs": agent["created"],
            "access_info": ACCESS,
        }
        for agent_id, agent in workspace.agents.items()
        if (not wanted or wanted & set(agent.get("tags", []))) and name in agent.get("name", "").lower()
    ]
    return page(agents, "agents", query)


def conversations(workspace: Workspace, query: Query) -> list[Json]:
    """The conversations that were asked for, newest first."""
    agent_id, after = query.get("agent_id", [""])[0], int(query.get("call_start_after_unix", ["0"])[0])
    before = int(query.get("call_start_before_unix", [str(2**53)])[0])
    found = [
        one
        for one in workspace.conversations.values()
        if (not agent_id or one["agent_id"] == agent_id) and after < one["start_time_unix_secs"] < before
    ]
    return sorted(found, key=lambda one: -one["start_time_unix_secs"])


def page(things: list[Json], name: str, query: Query) -> Json:
    """One page of a list, which has this name."""
    start, size = int(query.get("cursor", ["0"])[0]), int(query.get("page_size", ["30"])[0])
    if not 1 <= size <= 100:
        raise Refused(422, [{"loc": ["query", "page_size"], "msg": "1 to 100", "type": "value_error"}])
    has_more = start + size < len(things)
    return {
        name: things[start : start + size],
        "has_more": has_more,
        "next_cursor": str(start + size) if has_more else None,
    }


def merged(old: Any, new: Any) -> Any:
    """A body after a PATCH."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    return old | {name: merged(old.get(name), value) for name, value in new.items()}


def without(fields: Json, *names: str) -> Json:
    """Fields that are shown."""
    return {name: value for name, value in fields.items() if name not in names}
