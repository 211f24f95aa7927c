"""How a long-running process treats its memory."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

_PROGRAM: Final = """
import gc
from relay import memory

before = gc.get_freeze_count()
memory.settle()
memory.settle()
print(gc.get_freeze_count() > before, gc.get_threshold()[0] >= 10_000, gc.isenabled())
"""


def test_what_was_loaded_is_left_alone_and_the_rest_looked_through_rarely() -> None:
    """In a process of its own: it would change how these tests run."""
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.split() == ["True", "True", "True"]
