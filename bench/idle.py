"""What a system costs that has nothing to do."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from bench.lines import Line, at_most, line
from bench.stack import MEASURED_CORE, Stack, process, web
from bench.usage import cpu_seconds
from relay.connections import redis_client


def idle(stack: Stack, *, seconds: int) -> Iterator[Line]:
    """Redis commands a minute, and the share of a core, of one web, one worker and one beat without events."""
    client = redis_client(stack.settings)
    with contextlib.ExitStack() as processes:
        worker = processes.enter_context(process(stack, "worker", core=MEASURED_CORE))
        server = processes.enter_context(web(stack, core=MEASURED_CORE))
        beat = processes.enter_context(process(stack, "beat", core=MEASURED_CORE))
        time.sleep(20)  # what is done once at start is done
        pids = [worker.pid, server.pid, beat.pid]
        commands, cpu = int(client.info("stats")["total_commands_processed"]), sum(map(cpu_seconds, pids))
        time.sleep(seconds)
        # This measure's own INFO is one of them.
        commands = int(client.info("stats")["total_commands_processed"]) - commands - 1
        cpu = sum(map(cpu_seconds, pids)) - cpu
    yield line("idle_redis_commands_per_min", commands * 60 / seconds, "commands/min", at_most(600))
    yield line("idle_cpu_share", cpu / seconds, "cores")
