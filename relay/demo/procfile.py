"""What the Procfile starts: the repository's own where it is at hand, else the same commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_LINE: Final = re.compile(r"([A-Za-z0-9_-]+):\s*(.+)")
_OURS: Final = ("python", "-m", "relay")
# Runs once before the others; the demo migrates by itself.
_RELEASE: Final = "release"
# An installed package has no Procfile beside it.
_BUILT_IN: Final = "web: python -m relay web\nworker: python -m relay worker\nbeat: python -m relay beat\n"
_ROOT: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of a Procfile: `worker: python -m relay worker --lanes billing`, without what starts Python."""

    name: str
    arguments: tuple[str, ...]

    @property
    def command(self) -> str:
        """Which of our commands it runs: `worker`."""
        return self.arguments[0]


def entries(directories: Iterable[Path] = ()) -> tuple[Entry, ...]:
    """The processes to start: of the first Procfile of ours in the directories or beside the package, else built in."""
    for directory in (*directories, _ROOT):
        path = directory / "Procfile"
        if path.is_file() and (found := parsed(path.read_text(encoding="utf-8", errors="replace"))):
            return found
    return parsed(_BUILT_IN)


def parsed(text: str) -> tuple[Entry, ...]:
    """The entries of a Procfile; none if any line is not `name: python -m relay ...`, for then it is not ours."""
    found = []
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        words = tuple(shlex.split(match.group(2))) if match else ()
        if match is None or words[:3] != _OURS or not words[3:]:
            return ()
        if match.group(1) != _RELEASE:
            found.append(Entry(match.group(1), words[3:]))
    return tuple(found)
