"""How commands refuse: one line that says what to do, with a stable code, or the same as one line of JSON."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import IO, Any, Final

import click
import msgspec

from relay.errors import SwitchhookError
from relay.store.database import StatementRefused

_ARGUMENTS: Final = "relay.cli.arguments"
_UNDEFINED_TABLE: Final = "42P01"
# Of what click refuses: an option that is unknown, missing, or makes no sense beside another.
_USAGE: Final = "usage"


class Refusal(click.ClickException):
    """An error on one line of JSON: `{"error": {"code", "message", "field"}}`."""

    def __init__(self, message: str, *, code: str, field: str | None = None) -> None:
        super().__init__(message)
        self._said = {"error": {"code": code, "message": message, "field": field}}

    def show(self, file: IO[Any] | None = None) -> None:
        """Print it on standard error."""
        click.echo(msgspec.json.encode(self._said).decode(), file=file, err=file is None)


class UsageRefusal(Refusal):
    """What click refuses, on one line of JSON."""

    exit_code = click.UsageError.exit_code


class PlainErrors(click.Group):
    """Prints our errors as one line that ends with their code, instead of a traceback; with --json as JSON."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments, and keep them as they are: errors are told by them."""
        ctx.meta[_ARGUMENTS] = tuple(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        arguments: tuple[str, ...] = ctx.meta[_ARGUMENTS]
        as_json = "--json" in arguments
        try:
            for argument in arguments:
                _check_text(argument)
            return super().invoke(ctx)
        except click.UsageError as error:
            if not as_json:
                raise
            raise UsageRefusal(error.format_message(), code=_USAGE) from None
        except SwitchhookError as error:
            if as_json:
                raise Refusal(_detail(error), code=error.code, field=error.field) from None
            field = "" if error.field is None else f" ({error.field})"
            told = _told(error, _option(self, arguments, error.field or ""))
            raise click.ClickException(f"{_detail(error)}{field}{told}") from None


def _check_text(argument: str) -> None:
    """Python passes bytes that are not UTF-8 as half characters, which neither Postgres nor JSON can take."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        shown = argument.encode(errors="backslashreplace").decode()
        raise click.UsageError(f"an argument is not UTF-8 text: {shown}") from None


def _detail(error: SwitchhookError) -> str:
    if isinstance(error, StatementRefused) and error.sqlstate == _UNDEFINED_TABLE:
        return "the database has no tables yet; run 'switchhook migrate'"
    return error.detail


def _told(error: SwitchhookError, option: str | None) -> str:
    """The stable code, and the option where it is called otherwise than the API's field. Pure."""
    code = None if error.code == SwitchhookError.code else error.code
    other = option if option != f"--{_words(error.field or '', '-')}" else None
    told = [one for one in (code, other) if one]
    return f" [{', '.join(told)}]" if told else ""


def _option(command: click.Command, arguments: Sequence[str], field: str) -> str | None:
    """By which option of the command that was asked for this field is given; None where by no option."""
    for word in arguments:
        if not isinstance(command, click.Group):
            break
        command = command.commands.get(word, command)
    name = _words(field.partition(".")[0], "_")
    options = [one for one in command.params if isinstance(one, click.Option) and one.name == name]
    return options[0].opts[0] if options else None


def _words(field: str, separator: str) -> str:
    return re.sub("[A-Z]", lambda found: f"{separator}{found[0].lower()}", field)
