"""What a Redis holds, as `switchhook plan` counts it: keys and their bookkeeping, not the traffic of the moment."""

from __future__ import annotations

from typing import Any

import redis

from relay.planning import ALLOCATORS, Allocator


def held_bytes(client: redis.Redis) -> int:
    """Used memory without the buffers of connections and of the append-only file: those come and go.

    `mem_clients_normal` of INFO would not do: Redis brings it up to date now and then, CLIENT LIST when it is asked.
    """
    pipeline = client.pipeline(transaction=True)
    pipeline.client_list()
    pipeline.info("memory")
    clients, memory = pipeline.execute()
    return int(memory["used_memory"] - memory["mem_aof_buffer"]) - sum(int(one["tot-mem"]) for one in clients)


def allocator(client: redis.Redis) -> Allocator:
    """What this Redis allocates with."""
    memory: Any = client.info("memory")
    [name] = [name for name in ALLOCATORS if memory["mem_allocator"].startswith(name)]
    return name
