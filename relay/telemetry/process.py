"""What a process is called in the label `process`: its kind, where it runs, and its pid, as in `worker@worker.1:4`.

Where is the platform's name for it (`DYNO`), which comes back after a restart, else the host. The pid tells several
processes of one place apart, as with WEB_CONCURRENCY; in containers it comes back too.
"""

from __future__ import annotations

import os
import re
import socket
from typing import Final, Literal, get_args

Kind = Literal["web", "worker", "beat"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

_MOST_CHARS: Final = 63
_PLACE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_NAME: Final = re.compile(rf"({'|'.join(KINDS)})@{_PLACE.pattern}:[0-9]{{1,10}}")


def process_name(kind: Kind, *, dyno: str = "", host: str | None = None, pid: int | None = None) -> str:
    """The name of this process. A `dyno` that is no plain name is passed over: what a label holds must be bounded."""
    if _PLACE.fullmatch(dyno):
        place = dyno
    else:
        # Of a long name the end is kept: that is where replicas differ.
        plain = re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname() if host is None else host)
        place = plain[-_MOST_CHARS:].lstrip("_.-") or "unknown"
    return f"{kind}@{place}:{os.getpid() if pid is None else pid}"


def kind_of(name: str) -> Kind | None:
    """The kind of the process of this name; None if no process can be called that."""
    found = _NAME.fullmatch(name)
    return next((kind for kind in KINDS if found and found[1] == kind), None)
