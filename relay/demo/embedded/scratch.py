"""The temporary directory that the servers live in, and everything that ends with it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from relay.demo.embedded.binaries import EmbeddedUnavailable, Program
from relay.demo.embedded.user import ServerUser, server_user
from relay.demo.embedded.watchdog import Watchdog

# Not tempfile's choice: a Unix socket's path may have 107 bytes (103 on macOS), and TMPDIR can be long.
_PARENT: Final = "/tmp"  # noqa: S108  mkdtemp makes a private directory in it


@dataclass(frozen=True, slots=True)
class Scratch:
    """A directory under /tmp, the user its servers run as (None: ourselves), and what happens at its end.

    Callbacks put on `exits` run before the directory is removed.
    """

    directory: Path
    user: ServerUser | None
    watchdog: Watchdog
    exits: ExitStack

    def subdirectory(self, name: str) -> Path:
        """A new directory that only the servers' user (and root) can enter: sockets in it need no password."""
        path = self.directory / name
        path.mkdir(mode=0o700)
        if self.user:
            try:
                os.chown(path, self.user.uid, self.user.gid)
            except OSError as error:
                raise EmbeddedUnavailable(
                    f"root may not act as uid {self.user.uid} here: start as a user other than root"
                ) from error
        return path

    def runnable(self, program: Program) -> Path:
        """The executable, or a copy of it in this directory if the servers' user cannot reach the original.

        Raises EmbeddedUnavailable if it can be neither reached nor copied.
        """
        if self.user is None or self.user.may_run(program.executable):
            return program.executable
        if not program.parts:
            raise EmbeddedUnavailable(
                f"uid {self.user.uid} cannot run {program.executable.name} where it is installed: "
                "start as a user other than root"
            )
        copies = self.directory / "programs"
        for part in program.parts:
            _copy(program.root / part, copies / part)
        # Readable by all, writable by none but root, whatever the umask and the modes of the original.
        for path in (copies, *copies.rglob("*")):
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
        return copies / program.executable.relative_to(program.root)


@contextmanager
def scratch_directory() -> Iterator[Scratch]:
    """Make a scratch directory. At the end its servers are stopped and it is removed."""
    directory = Path(tempfile.mkdtemp(prefix="sw-", dir=_PARENT))
    user = server_user()
    if user:
        # The servers' user must pass through to its own subdirectories, and see nothing else on the way.
        directory.chmod(0o711)
    with ExitStack() as exits:
        watchdog = exits.enter_context(Watchdog(directory))
        exits.callback(shutil.rmtree, directory)
        yield Scratch(directory=directory, user=user, watchdog=watchdog, exits=exits)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("include", "pgxs", "pkgconfig", "*.a"))
    elif source.exists():
        shutil.copy(source, target)
