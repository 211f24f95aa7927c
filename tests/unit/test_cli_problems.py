"""How commands refuse, and how they read and write moments: each in one manner."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from relay.cli import main
from relay.cli.moments import Moment, Past, parsed_moment
from relay.cli.output import words

WRONG_CARD = ("price", "--seconds", "1", "--card", "0/6")


def run(*arguments: str) -> Result:
    """What a command does where no setting is there."""
    nothing = {"DATABASE_URL": None, "REDIS_URL": None, "SWITCHHOOK_KEYS": None}
    return CliRunner(env=nothing).invoke(main, list(arguments))


def test_an_error_ends_with_its_code() -> None:
    """On one line, with the field and the option that it was given by, where that is called something else."""
    refused = run(*WRONG_CARD)
    assert (refused.exit_code, refused.stdout, refused.stderr.count("\n")) == (1, "", 1)
    assert refused.stderr.startswith("Error: increments must be ")
    assert refused.stderr.endswith(" (increments) [rate_card_invalid, --card]\n")
    assert run("price", "--seconds", "-1").stderr.endswith(" (seconds) [billing_value_invalid]\n")
    assert run("price", "--seconds", "1", "--per-minute", "x").stderr.endswith(" (perMinute) [rate_card_invalid]\n")
    assert run("sessions").stderr.endswith(" [settings_invalid]\n")


def test_an_error_is_json_where_json_is_asked_for() -> None:
    """One line on standard error, the same code, and the field as the API has it."""
    refused = run(*WRONG_CARD, "--json")
    assert (refused.exit_code, refused.stdout, refused.stderr.count("\n")) == (1, "", 1)
    error = json.loads(refused.stderr)["error"]
    assert (set(error), error["code"], error["field"]) == (
        {"code", "message", "field"},
        "rate_card_invalid",
        "increments",
    )
    assert error["message"].startswith("increments must be ")


@pytest.mark.parametrize(
    "arguments", [("billing", "usage", "--account", "acc_\udcff"), ("price", "--seconds", "1", "--tag", "\udcff")]
)
def test_an_argument_that_is_no_text_is_refused(arguments: tuple[str, ...]) -> None:
    """Bytes that are not UTF-8 come as half characters, which nothing could store."""
    refused = run(*arguments, "--json")
    assert (refused.exit_code, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
    error = json.loads(refused.stderr)["error"]
    assert (error["code"], error["message"]) == (
        "usage",
        r"an argument is not UTF-8 text: "
        + "\\udcff".join(next(one for one in arguments if "\udcff" in one).split("\udcff")),
    )
    assert "not UTF-8" in run(*arguments).stderr


@pytest.mark.parametrize("number", ["0", "-1", "99999999999999999999"])
@pytest.mark.parametrize("command", [("rate-card", "create", "--account", "acc_1"), ("price", "--seconds", "1")])
def test_a_template_has_a_number_that_templates_can_have(command: tuple[str, ...], number: str) -> None:
    """Others are refused before any server is asked."""
    refused = run(*command, "--template", number)
    assert (refused.exit_code, "--template" in refused.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("price",), "give --seconds"),
        (("price", "--no-such"), "--no-such"),
        (("price", "--free-seconds", "x"), "--free-seconds"),
        (("no-such-command",), "no-such-command"),
    ],
)
def test_wrong_usage_is_json_too(arguments: tuple[str, ...], said: str) -> None:
    """With click's exit code; and as ever without --json."""
    refused = run(*arguments, "--json")
    error = json.loads(refused.stderr)["error"]
    assert (refused.exit_code, error["code"], error["field"], said in error["message"]) == (2, "usage", None, True)
    plain = run(*arguments)
    assert (plain.exit_code, said in plain.stderr, "Usage: " in plain.stderr) == (2, True, True)


def _options(command: click.Command, path: str = "switchhook") -> Iterator[tuple[str, click.Option]]:
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from _options(inner, f"{path} {name}")
    yield from ((path, option) for option in command.params if isinstance(option, click.Option))


@pytest.mark.parametrize(
    "text",
    ["2026", "20261120105", "2026112010", "20261120103000Z", "2026-11-20110", "2026-11-20x10:00", "2026-11-20+01:00",
     "20261120+0100", "2026-11-20-05:00", "2026-W47-5", "", "2026-11-20T", "2026-13-01"],
)  # fmt: skip
def test_no_digit_or_sign_stands_for_the_t_of_a_moment(text: str) -> None:
    """Python would take any for it, and read another time than who wrote it."""
    with pytest.raises(ValueError, match="ISO 8601"):
        parsed_moment(text)


@pytest.mark.parametrize(
    "text",
    ["2026-11-20", "20261120", "2026-11-20T00:00", "2026-11-20 00:00:00Z", "2026-11-20t01:00+01:00", "20261120T0000Z"],
)
def test_a_moment_is_a_day_or_a_day_and_a_time(text: str) -> None:
    """In UTC, unless it says otherwise."""
    assert parsed_moment(text) == datetime(2026, 11, 20, tzinfo=UTC)


def test_every_option_that_takes_a_moment_says_its_zone() -> None:
    """A time without one is in UTC, which nobody can guess."""
    taking = [(path, option) for path, option in _options(main) if isinstance(option.type, Moment | Past)]
    assert len(taking) > 8
    assert [(path, option.opts[0]) for path, option in taking if "UTC" not in (option.help or "")] == []


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, ""),
        (True, "yes"),
        (False, "no"),
        (7, "7"),
        ([50, 80], "50, 80"),
        ({"llm": "0.04", "platform": "0.06"}, "llm 0.04, platform 0.06"),
        ({"model": "volume", "tiers": [{"upTo": "9", "unitPrice": "2"}, {"upTo": None, "unitPrice": "1"}]},
         "model volume, tiers (upTo 9, unitPrice 2), (unitPrice 1)"),
        (datetime(2026, 6, 1, tzinfo=UTC), "2026-06-01 00:00:00Z"),
        (datetime(2026, 6, 1, 1, tzinfo=timezone(timedelta(hours=2))), "2026-05-31 23:00:00Z"),
    ],
)  # fmt: skip
def test_values_are_printed_in_words(value: Any, said: str) -> None:
    """None of them as Python writes it."""
    assert words(value) == said
