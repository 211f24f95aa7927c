"""Whom a template's agent may hand a call over to. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def transferred_to(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The agents that are named in the `params` of its tools, wherever in them: `{"transfers": [{"agent_id"}]}`."""
    waiting = [tool.get("params") for tool in config.get("tools") or ()]
    found: dict[str, None] = {}
    while waiting:
        one = waiting.pop()
        if isinstance(one, Mapping):
            if isinstance(agent_id := one.get("agent_id"), str):
                found[agent_id] = None
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
    return tuple(found)
