"""Servers whose disk is full when a test says so: their files may not grow, and they are told so by the kernel.

A limit of the process stands for a file system without space: it needs no right that a user lacks.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Final

from relay.demo.embedded import EmbeddedRedis, Scratch
from relay.demo.embedded.process import ServerProcess
from tests.waiting import eventually

_PRLIMIT: Final = shutil.which("prlimit") or "prlimit"
_NO_LIMIT: Final = "unlimited"
_NUMBERS: Final = iter(range(1, 1000))


def limit_files(server: ServerProcess, most_bytes: int | None) -> None:
    """Let no file of a running server grow beyond this; None lifts the limit. What it forks from now on inherits it."""
    most = _NO_LIMIT if most_bytes is None else most_bytes
    # As the server's own user: one may lower the limits of one's own processes, and raise what one has lowered.
    server.run([_PRLIMIT, "--pid", str(server.pid), f"--fsize={most}:{_NO_LIMIT}"])


class RedisOnSmallDisk(EmbeddedRedis):
    """A Redis whose append-only file can be kept from growing, now and at its next start."""

    def __init__(self, scratch: Scratch) -> None:
        self._most_bytes: int | None = None
        name = f"small-disk-redis-{next(_NUMBERS)}"
        super().__init__(scratch, name=name, tcp_port=None, maxmemory_mib=256)

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._child is not None and self._child.poll() is None

    def await_end(self) -> None:
        """Wait until it has ended by itself: upkeep writes within seconds, whoever else does not."""
        eventually(lambda: not self.is_running, within_seconds=20, what="the end of Redis")

    def fill_disk(self, *, free_bytes: int) -> None:
        """Leave so much room for what is appended."""
        self._most_bytes = (self.directory / "appendonly.aof").stat().st_size + free_bytes
        limit_files(self, self._most_bytes)

    def free_disk(self) -> None:
        """Make room."""
        self._most_bytes = None
        if self.is_running:
            limit_files(self, None)

    def _command(self) -> Sequence[str]:
        most = _NO_LIMIT if self._most_bytes is None else self._most_bytes
        # Without its signal, so that the server learns of the limit as it would of a full disk: by a failing write.
        ignoring = ("/bin/sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh")
        return [*ignoring, _PRLIMIT, f"--fsize={most}:{_NO_LIMIT}", *super()._command()]
