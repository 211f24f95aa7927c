"""Redis: whether it answers, and whether it can be an outbox. Everything but one line is read from INFO."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

import redis

from relay.doctor import transport
from relay.doctor.finding import Finding, fail, ok, skipped, warn
from relay.ingress.pressure import FULL_SHARE
from relay.outbox import fitness
from relay.settings import MIB, Settings

Info = dict[str, Any]

# The outbox' scripts use XAUTOCLAIM and LT of ZADD, which came with 6.2.
_OLDEST: Final = (6, 2)
# Every accept waits for a few round trips.
_SLOW_MS: Final = 20.0
# From here on it is near the share at which web refuses.
_NEARLY_FULL_SHARE: Final = 0.7
_FULL_ADVICE: Final = f"web answers 503 above {FULL_SHARE * 100:.0f} %: see what waits, or raise maxmemory"


def examine(client: redis.Redis, settings: Settings) -> Iterator[Finding]:
    """Ask a Redis that answers. Raises RedisError."""
    yield _latency(client)
    info: Any = client.info()
    yield judged_version(info)
    yield judged_role(info)
    yield judged_fitness(info)
    yield judged_memory(info)
    yield from judged_persistence(info)
    yield _appendfsync(client, info)
    yield _transport(settings)


def _latency(client: redis.Redis) -> Finding:
    client.time()  # connects
    began = time.perf_counter()
    client.time()
    took_ms = (time.perf_counter() - began) * 1000
    if took_ms > _SLOW_MS:
        return warn("redis: answers", f"in {took_ms:.1f} ms", "bring it nearer: every webhook waits for it")
    return ok("redis: answers", f"in {took_ms:.1f} ms")


def judged_version(info: Info) -> Finding:
    """6.2 or newer."""
    text = str(info.get("redis_version", "unknown"))
    numbers = tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
    if numbers < _OLDEST:
        return fail("redis: version", text, "the outbox needs 6.2 or newer")
    return ok("redis: version", text)


def judged_role(info: Info) -> Finding:
    """A primary."""
    role = str(info.get("role", "unknown"))
    if role in ("slave", "replica"):
        return fail("redis: role", "a replica, which takes no writes", "give REDIS_URL the primary")
    replicas = int(info.get("connected_slaves", 0))
    return ok("redis: role", f"primary with {replicas} replica(s)")


def judged_fitness(info: Info) -> Finding:
    """Neither evicting nor a cluster, by the rule that processes start by."""
    refusal = fitness.refusal_of(info)
    if refusal is not None:
        _, _, said = refusal.partition(": ")
        found, _, advice = said.partition("; ")
        return fail("redis: keeps everything", found, advice)
    return ok("redis: keeps everything", "noeviction, no cluster")


def judged_memory(info: Info) -> Finding:
    """A limit, and room below it."""
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if not most:
        found = f"{used // MIB} MiB used, no maxmemory"
        return warn("redis: memory", found, "set maxmemory ('switchhook plan' says how much), or the kernel ends Redis")
    share = used / most
    found = f"{share:.0%} of {most // MIB} MiB"
    if share > FULL_SHARE:
        return fail("redis: memory", found, _FULL_ADVICE)
    if share > _NEARLY_FULL_SHARE:
        return warn("redis: memory", found, _FULL_ADVICE)
    return ok("redis: memory", found)


def judged_persistence(info: Info) -> Iterator[Finding]:
    """The append-only file, and snapshots where there are any."""
    if not int(info.get("aof_enabled", 0)):
        advice = "set appendonly yes: what waits is lost when Redis stops"
        yield warn("redis: append-only file", "off", advice)
    elif info.get("aof_last_write_status", "ok") != "ok":
        advice = "make room on its disk; web answers 503 until then, and goes on by itself"
        yield fail("redis: append-only file", "cannot be written", advice)
    elif info.get("aof_last_bgrewrite_status", "ok") != "ok":
        advice = "its disk needs room for a second copy, its machine memory for a fork; what was deleted stays on disk"
        yield warn("redis: append-only file", "the last rewrite failed", advice)
    else:
        yield ok("redis: append-only file", "written, the last rewrite was good")
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        advice = "make room on its disk and memory for a fork; with stop-writes-on-bgsave-error it refuses every write"
        yield fail("redis: snapshots", "the last one failed", advice)
    else:
        yield ok("redis: snapshots", "none has failed")


def judged_appendfsync(policy: str) -> Finding:
    """When what was appended is safe from a power cut."""
    if policy == "always":
        return ok("redis: appendfsync", policy)
    lost = "up to a second" if policy == "everysec" else "what the kernel had not written"
    advice = f"set appendfsync always, or accept that {lost} of accepted events is lost with the machine"
    return warn("redis: appendfsync", policy, advice)


def _appendfsync(client: redis.Redis, info: Info) -> Finding:
    if not int(info.get("aof_enabled", 0)):
        return skipped("redis: appendfsync", "there is no append-only file")
    try:
        policy: Any = client.config_get("appendfsync")
        return judged_appendfsync(policy["appendfsync"])
    except (redis.ResponseError, KeyError):
        return skipped("redis: appendfsync", "this server does not tell; see its provider's settings")


def _transport(settings: Settings) -> Finding:
    url = urlsplit(settings.redis_url)
    return transport.judged(
        "redis",
        host="" if url.scheme == "unix" else url.hostname or "localhost",
        encrypted=url.scheme == "rediss",
        verified=settings.redis_tls_verify == "required",
    )
