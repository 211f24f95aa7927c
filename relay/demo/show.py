"""The demo: the whole path of a call on one machine, shown step by step."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import Final

from relay.demo.interruption import Interruption
from relay.demo.processes import ProcessFailed
from relay.demo.rounds import Played, play
from relay.demo.screen import Row, Screen, milliseconds
from relay.demo.stage import Stage, stage
from relay.demo.verdict import judged

_WATCH_SECONDS: Final = 0.5
# What a shell reports for a command that a signal ended.
_SIGNALLED: Final = 128


def run(*, once: bool, port: int | None) -> int:
    """Play a round and, unless `once`, stay up until Ctrl-C; return the exit code.

    0: everything was accounted for; 1: something was not, and was told; 128 + n: interrupted by signal n before it
    was known. Web listens on `port`, None: a free one. With `once` the last line on standard output is the tally.
    Raises SettingsError if the port is taken, EmbeddedUnavailable or ServerFailed if Redis or Postgres cannot be
    started, ProcessFailed if a process ends.
    """
    screen = Screen.of_process()
    screen.title()
    with Interruption() as interruption:
        try:
            return _run(screen, interruption, once=once, port=port)
        except ProcessFailed as failed:
            screen.failure((), {failed.name: failed.tail})
            raise
        except KeyboardInterrupt:
            screen.say("\nstopped")
            return _SIGNALLED + (interruption.number or 0)


def _run(screen: Screen, interruption: Interruption, *, once: bool, port: int | None) -> int:
    with stage(screen, interruption, port=port) as up:
        played = play(up, screen)
        screen.table([_row(one) for one in played.played])
        verdict = judged(played.tally, events=len(played.played), calls=played.calls)
        if verdict.shortcomings:
            screen.failure(verdict.shortcomings, up.processes.tails())
        if not once:
            screen.say(f"{verdict.line}\n")
            _tell_where(up, screen)
            _stay(up, screen)
    if once:
        # After everything has stopped: nothing may come behind it.
        screen.say(verdict.line)
    return verdict.exit_code


def _stay(up: Stage, screen: Screen) -> None:
    """Until Ctrl-C. Raises ProcessFailed if a process ends meanwhile."""
    screen.say(f"Ctrl-C stops everything and removes {up.directory}.")
    try:
        while True:
            up.processes.check()
            time.sleep(_WATCH_SECONDS)
    except KeyboardInterrupt:
        screen.say("\nstopping; a second Ctrl-C hurries")


def _row(one: Played) -> Row:
    charged = ", ".join(f"{charge.amount} {charge.currency}" for charge in one.charges)
    return (
        one.webhook.name,
        milliseconds(one.answer.duration_ms) if one.answer.event_id else f"no ({one.answer.status})",
        milliseconds(one.delivered_ms),
        "-" if one.delivered_ms is None else "verified",
        charged or "-",
    )


def _tell_where(up: Stage, screen: Screen) -> None:
    urls = [source.url for source in up.customer.sources.values()]
    counts = up.receiver.counts
    screen.facts(
        "Where it is",
        [
            ("web", up.web.url),
            ("metrics", f"{up.web.url}/metrics"),
            ("webhooks", urls[0]),
            *(("", url) for url in urls[1:]),
            ("receiver", f"{up.receiver.url} ({counts.verified} verified, {counts.refused} refused)"),
            ("logs", str(up.processes.logs)),
        ],
    )
    command = _command()
    screen.facts(
        "Look inside, in another terminal",
        [
            ("first", f". {up.environment}"),
            ("then", f"{command} deliveries"),
            ("", f"{command} charges"),
            ("", f"curl {up.web.url}/metrics"),
        ],
    )


def _command() -> str:
    """How the command line is called from where the demo was started."""
    script = Path(sys.executable).with_name("switchhook")
    if not script.exists():
        return f"{shlex.quote(sys.executable)} -m relay"
    here = Path.cwd()
    return shlex.quote(str(script.relative_to(here) if script.is_relative_to(here) else script))
