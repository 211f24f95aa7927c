"""Who gives a command: a name for the audit trail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

NOBODY: Final = "cli"
_MOST_CHARS: Final = 100


class Name(click.ParamType[str]):
    """A person's name or address, as the audit trail has it: `cli:ann`."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Text to an actor."""
        if not value.strip() or not value.isprintable() or len(value) > _MOST_CHARS:
            self.fail(f"give 1 to {_MOST_CHARS} characters on one line", param, ctx)
        return f"{NOBODY}:{value.strip()}"


def by_option(command: Command) -> Command:
    """--by NAME, as `actor`; `cli` where nobody is named."""
    text = f"Who you are; the audit trail has it as {NOBODY}:NAME (default: {NOBODY})."
    return click.option("--by", "actor", type=Name(), metavar="NAME", help=text)(command)
