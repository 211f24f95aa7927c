"""How a long-running process treats its memory: what starts with it stays, what passes through is given back."""

from __future__ import annotations

import ctypes
import gc
from typing import Final

# Parameters of mallopt(3). Blocks from a MiB on are mappings of their own; the ratio of the two is glibc's.
_ALLOCATION: Final = {"M_MMAP_THRESHOLD": (-3, 1024 * 1024), "M_TRIM_THRESHOLD": (-1, 2 * 1024 * 1024)}
# A request leaves some hundred objects that Python's collector looks at, and hardly ever a cycle: by default it would
# run at every other request, and look through all modules every few seconds.
_COLLECT_AFTER: Final = (50_000, 10, 10)


def settle() -> None:
    """Call once all is loaded, before the work begins. Safe to repeat."""
    collect_rarely()
    unmap_when_freed()


def collect_rarely() -> None:
    """Have Python's collector leave alone what is there now, and look through the rest less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)


def unmap_when_freed() -> None:
    """Have the memory of a large body given back to the system when it is freed, in this process from now on.

    glibc, left alone, takes the first such block for a sign to keep as much for each thread; other C libraries are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in _ALLOCATION.values():
            mallopt(parameter, value)
