"""What a process and its children use of the machine."""

from __future__ import annotations

import psutil


def cpu_seconds(pid: int) -> float:
    """CPU seconds of a process tree so far, those of children that have ended included."""
    total = 0.0
    for process in _tree(pid):
        times = process.cpu_times()
        total += times.user + times.system + times.children_user + times.children_system
    return total


def resident_mb(pid: int) -> float:
    """Resident memory of the largest process of a tree, in MB of 10^6 bytes."""
    return max(process.memory_info().rss for process in _tree(pid)) / 1e6


def _tree(pid: int) -> list[psutil.Process]:
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]
