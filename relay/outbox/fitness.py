"""Whether a Redis can be an outbox: judged by its INFO before a process begins to work.

An evicting policy would throw away accepted events, and a cluster cannot run scripts over several keys: both are
refused. A Redis without an append-only file loses what was accepted when it stops: reported, and left to the operator.
"""

from __future__ import annotations

from typing import Any

import redis

from relay.errors import SettingsError
from relay.telemetry import logs


def require(client: redis.Redis) -> None:
    """Raise SettingsError if this Redis must not be used. A Redis that is away is judged when it is back."""
    try:
        info: Any = client.info()
    except redis.RedisError as error:
        logs.warning("redis_not_judged", error=error)
        return
    refusal = refusal_of(info)
    if refusal is not None:
        raise SettingsError(refusal)
    if not info.get("aof_enabled"):
        logs.warning("redis_without_aof")


def refusal_of(info: dict[str, Any]) -> str | None:
    """Why this Redis cannot be an outbox, judged by its INFO; None if it can. Pure."""
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        return f"REDIS_URL: this Redis evicts ({policy}); set maxmemory-policy to noeviction, or events would be lost"
    if info.get("cluster_enabled") or info.get("redis_mode") == "cluster":
        return "REDIS_URL: Redis Cluster cannot hold an outbox; give a single primary"
    return None
