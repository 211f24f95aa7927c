"""What the demo prints: calm, at most 100 columns, in colour on a terminal only. Never a word of a conversation."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import click

from relay.store.charges import Charge

Row = tuple[str, str, str, str, str]

_HEADINGS: Final = ("EVENT", "ACCEPTED", "DELIVERED", "SIGNATURE", "CHARGED")
_LABEL_COLUMNS: Final = 11
_NAMES: Final = {"elevenlabs": "ElevenLabs", "retell": "Retell", "canaryllm": "CanaryLLM"}


@dataclass(frozen=True, slots=True)
class Screen:
    """Standard output for what happens, standard error for what went wrong."""

    is_coloured: bool

    @classmethod
    def of_process(cls) -> Screen:
        """As standard output takes it: https://no-color.org is respected."""
        is_plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
        return cls(is_coloured=sys.stdout.isatty() and not is_plain)

    def title(self) -> None:
        """The first line."""
        self.say("\n" + self._bold("Switchhook demo") + ": six webhooks of three calls, on this machine\n")

    def up(self, what: str, seconds: float | None = None) -> None:
        """Something was started or made, in so many seconds."""
        self._step("up" if seconds is not None else "made", what if seconds is None else f"{what} ({seconds:.1f} s)")

    def webhook(self, provider: str, event: str) -> None:
        """A webhook is about to be sent."""
        self.say(f"\n{self._bold(_NAMES[provider])} {event}")

    def accepted(self, status: int, event_id: str | None, duration_ms: float) -> None:
        """The ingress answered; without an event id, it refused."""
        if event_id is None:
            self._problem("refused", f"{status or 'no answer'} after {_ms(duration_ms)}")
        else:
            self._step("accepted", f"{status} in {_ms(duration_ms)} as {event_id}")

    def delivered(self, after_ms: float | None) -> None:
        """The receiver verified it, so long after its acceptance; None: not yet."""
        if after_ms is None:
            self._problem("waiting", "the receiver has not verified it yet")
        else:
            self._step("delivered", f"{_ms(after_ms)} later; the receiver verified its signature")

    def charged(self, charges: Sequence[Charge], *, is_charged_already: bool) -> None:
        """What it added to the ledger, with the steps of the rating."""
        if not charges and is_charged_already:
            self._step("charged", "nothing more: this call has its charge")
        elif not charges:
            self._problem("waiting", "the ledger has no charge yet")
        for charge in charges:
            self._step("charged", f"{charge.amount} {charge.currency}")
            for step in charge.steps:
                self.say(" " * (_LABEL_COLUMNS + 2) + self._dim(step))

    def table(self, rows: Sequence[Row]) -> None:
        """All events of the round, one line each."""
        widths = [max(map(len, column)) for column in zip(_HEADINGS, *rows, strict=True)]
        self.say("")
        for place, row in enumerate((_HEADINGS, *rows)):
            line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            self.say("  " + (self._dim(line) if place == 0 else line))
        self.say("")

    def facts(self, title: str, lines: Iterable[tuple[str, str]]) -> None:
        """A titled list of names and values; an empty name continues the one above."""
        self.say(self._bold(title))
        for name, value in lines:
            self._step(name, value)
        self.say("")

    def say(self, line: str) -> None:
        """One line."""
        click.echo(line, color=self.is_coloured)

    def failure(self, shortcomings: Sequence[str], tails: Mapping[str, Sequence[str]]) -> None:
        """What went wrong, after the last lines of the processes' logs."""
        for name, lines in tails.items():
            click.echo(f"\nthe end of {name}'s log:", err=True)
            for line in lines or ("(nothing was logged)",):
                click.echo(f"  | {line}", err=True)
        click.echo("", err=True)
        for shortcoming in shortcomings:
            click.echo(f"not as promised: {shortcoming}", err=True)
        if shortcomings:
            click.echo("Run 'switchhook demo' again; if it repeats, report it with the lines above.", err=True)

    def _step(self, label: str, text: str) -> None:
        self.say(f"  {self._coloured(label.ljust(_LABEL_COLUMNS), 'green')}{text}")

    def _problem(self, label: str, text: str) -> None:
        self.say(f"  {self._coloured(label.ljust(_LABEL_COLUMNS), 'yellow')}{text}")

    def _bold(self, text: str) -> str:
        return click.style(text, bold=True) if self.is_coloured else text

    def _dim(self, text: str) -> str:
        return click.style(text, dim=True) if self.is_coloured else text

    def _coloured(self, text: str, colour: str) -> str:
        return click.style(text, fg=colour) if self.is_coloured else text


def milliseconds(duration_ms: float | None) -> str:
    """A duration for a column: `4.1 ms`, `-` for none."""
    return "-" if duration_ms is None else _ms(duration_ms)


def _ms(duration_ms: float) -> str:
    if duration_ms < 0.05:
        return "<0.1 ms"
    return f"{duration_ms:.1f} ms" if duration_ms < 100 else f"{duration_ms:,.0f} ms"
