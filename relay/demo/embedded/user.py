"""Who the servers run as. Postgres refuses to run as root, so as root both run as `nobody`."""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

# What Linux calls nobody where no name says otherwise.
_NOBODY: Final = 65534


@dataclass(frozen=True, slots=True)
class ServerUser:
    """An unprivileged user that already exists; none is ever created."""

    uid: int
    gid: int

    def popen_options(self) -> dict[str, Any]:
        """The arguments that make subprocess start a program as this user."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def may_run(self, executable: Path) -> bool:
        """Whether the modes of the file and of every directory above it let this user run it.

        A virtual environment below /root, say, cannot be entered by anyone else.
        """
        path = executable.resolve()
        return self._may(path, stat.S_IROTH | stat.S_IXOTH) and all(
            self._may(parent, stat.S_IXOTH) for parent in path.parents
        )

    def _may(self, path: Path, wanted: int) -> bool:
        status = path.stat()
        # As the kernel reads modes: the owner's bits count for the owner alone, then the group's, then the others'.
        shift = 6 if status.st_uid == self.uid else 3 if status.st_gid == self.gid else 0
        return (status.st_mode >> shift) & wanted == wanted


def server_user() -> ServerUser | None:
    """`nobody` if this process is root, else None: the servers run as whoever we are."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return ServerUser(_NOBODY, _NOBODY)
    return ServerUser(entry.pw_uid, entry.pw_gid)
