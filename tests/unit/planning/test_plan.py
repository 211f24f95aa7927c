"""The plan: arithmetic on measured figures, and the command that prints it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from relay.cli import main
from relay.delivery import load as courier_load
from relay.ingress import commit, pressure
from relay.planning import Allocator, Load, estimate, explained, footprint, plan
from relay.planning.allocators import allocated
from relay.planning.report import size
from relay.settings import MIB
from workers import charge, lane

PRELUDE = Path(estimate.__file__).parents[1] / "outbox" / "prelude.lua"
LOAD = Load(
    rate_per_second=100,
    payload_bytes=4096,
    outage=timedelta(hours=6),
    retention=timedelta(hours=96),
    quota_bytes=512 * MIB,
)


def changed(**changes: Any) -> Load:
    """The load above with some of it otherwise."""
    fields = {name: getattr(LOAD, name) for name in Load.__slots__}
    return Load(**fields | changes)


@pytest.mark.parametrize(
    ("asked", "allocator", "taken"),
    [
        (1, "jemalloc", 16),
        (16, "jemalloc", 16),
        (17, "jemalloc", 32),
        (128, "jemalloc", 128),
        (129, "jemalloc", 160),
        (160, "jemalloc", 160),
        (161, "jemalloc", 192),
        (256, "jemalloc", 256),
        (257, "jemalloc", 320),
        (4096, "jemalloc", 4096),
        (4097, "jemalloc", 5120),  # a payload of 4 KiB, sealed: a quarter more
        (5121, "jemalloc", 6144),
        (65_536, "jemalloc", 65_536),
        (65_575, "jemalloc", 81_920),
        (1, "libc", 8),
        (8, "libc", 8),
        (9, "libc", 24),
        (24, "libc", 24),
        (4133, "libc", 4136),
    ],
)
def test_allocators_round_up(asked: int, allocator: Allocator, taken: int) -> None:
    """To jemalloc's size classes (its manual, table 1), and to glibc's chunks less their header."""
    assert allocated(asked, allocator) == taken


@pytest.mark.parametrize(
    ("changes", "name", "figure"),
    [
        ({}, "events_waiting", 100 * 6 * 3600),
        ({"outage": timedelta(seconds=0.5), "rate_per_second": 1}, "events_waiting", 1),  # never rounded to nothing
        ({"outage": timedelta(hours=200)}, "events_waiting", 100 * 96 * 3600),  # the rest has ended as dead
        ({}, "redis_event_bytes", 5120 + 885 + 171),
        ({"endpoints": 3}, "redis_event_bytes", 5120 + 885 + 3 * 171),
        ({"allocator": "libc"}, "redis_event_bytes", 4152 + 885 + 171),
        ({}, "redis_waiting_bytes", 2_160_000 * 6176),
        ({}, "redis_markers_bytes", 100 * 18 * 3600 * 155),  # those of the 18 h before
        ({"outage": timedelta(hours=24)}, "redis_markers_bytes", 0),
        ({"outage": timedelta(hours=30)}, "redis_markers_bytes", 0),
        ({}, "redis_unrecorded_bytes", 2_160_000 * (175 + 325 + 31 + 170)),
        ({}, "redis_charged_bytes", 100 * 72 * 3600 * 139),  # 5 at once: (87 + 195 / 5) x 1.1
        ({"recharge": timedelta()}, "redis_charged_bytes", 0),
        ({"recharge": timedelta(hours=1), "allocator": "libc"}, "redis_charged_bytes", 100 * 3600 * 126),
        ({"rate_per_second": 0.01}, "redis_charged_bytes", 2592 * 311),  # each by itself
        ({"rate_per_second": 10_000}, "redis_charged_bytes", 10_000 * 72 * 3600 * 98),  # 7 workers, 143 at once
        ({}, "account_waiting_bytes", 2_160_000 * (4096 + 38)),
        ({"accounts": 7}, "account_waiting_bytes", 308_572 * (4096 + 38)),
        ({}, "is_quota_enough", False),
        ({"accounts": 17}, "is_quota_enough", True),
        ({"accounts": 16}, "is_quota_enough", False),
        ({}, "redis_appended_bytes_per_day", 8_640_000 * (4134 + 2300 + 1480 + 139)),
        ({}, "postgres_bytes_per_day", 8_640_000 * 2555),
        ({"endpoints": 2}, "postgres_bytes_per_day", 8_640_000 * (1635 + 2 * 920)),
        ({}, "postgres_kept_bytes_per_day", 8_640_000 * 1235),
        ({}, "postgres_log_bytes_per_day", 8_640_000 * 4820),
        ({"rate_per_second": 0.01}, "web_processes", 2),
        ({"rate_per_second": 4000}, "web_processes", 2),
        ({"rate_per_second": 4001}, "web_processes", 3),
        ({"rate_per_second": 1000}, "worker_processes", 2),
        ({"rate_per_second": 4000}, "worker_processes", 3),  # 4,000 x (1/8,000 + 1/5,000) / 0.5 = 2.6
        ({"rate_per_second": 4000, "endpoints": 4}, "worker_processes", 6),
        ({}, "drain_seconds", 138),  # 270 s of one worker's work, by two less what new events take
        ({}, "received_bits", 100 * (4096 + 1500) * 8),
        ({"endpoints": 2}, "sent_bits", 100 * 2 * (4096 + 2000) * 8),
    ],
)
def test_the_figures_follow_from_the_load(changes: dict[str, Any], name: str, figure: object) -> None:
    """Each figure by hand."""
    assert getattr(plan(changed(**changes)), name) == figure


def test_maxmemory_leaves_what_waits_below_the_share_at_which_web_refuses() -> None:
    """The sum of its parts, and a whole MiB above what 85 % of it must hold."""
    made = plan(LOAD)
    parts = made.redis_waiting_bytes + made.redis_markers_bytes + made.redis_unrecorded_bytes
    assert made.redis_used_bytes == parts + made.redis_charged_bytes + made.redis_other_bytes
    assert made.redis_maxmemory_bytes % MIB == 0
    info = {"maxmemory": made.redis_maxmemory_bytes, "used_memory": made.redis_used_bytes}
    assert pressure.refusal_of(info) is None
    assert pressure.refusal_of(info | {"maxmemory": made.redis_maxmemory_bytes - MIB}) == "memory_full"


def test_the_disk_holds_a_day_and_the_copy_of_a_rewrite() -> None:
    """What is appended, what the file began with, and the rewritten file beside it."""
    made = plan(LOAD)
    assert made.redis_disk_bytes == made.redis_appended_bytes_per_day + 2 * made.redis_used_bytes


def test_the_rules_are_those_of_the_code() -> None:
    """What the plan repeats, because it must not depend on it, is what the code says."""
    assert estimate.FULL_SHARE == pressure.FULL_SHARE
    assert estimate.CLAIM_EVENTS == courier_load._MOST_PER_CLAIM
    assert estimate.CLAIM_BYTES == courier_load._MOST_BYTES_PER_CLAIM
    assert estimate.COMMIT_BYTES == commit._GROUP_BYTES
    assert (estimate.CHARGE_SECONDS, estimate.CHARGE_MOST) == (lane._REST_SECONDS, charge._BATCH)
    [milliseconds] = re.findall(r"SPENT_TTL = ([0-9]+)", PRELUDE.read_text())
    assert timedelta(milliseconds=int(milliseconds)) == estimate._DAY


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (0, "0 B"),
        (1023, "1,023 B"),
        (1536, "1.5 KiB"),
        (99.9 * 1024, "99.9 KiB"),
        (512 * MIB, "512 MiB"),
        (1024**3, "1.0 GiB"),
        (1024**5, "1,024 TiB"),
    ],
)
def test_sizes_have_units(amount: float, shown: str) -> None:
    """Binary ones, as Redis and Postgres take them."""
    assert size(amount) == shown


def test_every_figure_is_explained() -> None:
    """A line for each, and nothing of it left out; some figures are part of another's explanation."""
    lines = explained(LOAD, plan(LOAD))
    assert len({line.name for line in lines}) == len(lines) >= 18
    assert all(line.amount and line.how for line in lines)


# The command


LIMITS = ("SWITCHHOOK_ACCOUNT_QUOTA", "SWITCHHOOK_RETENTION_HOURS", "SWITCHHOOK_RECHARGE_HOURS")


def run(*arguments: str, environ: Mapping[str, str] | None = None) -> Result:
    """`switchhook plan` for the load above, with further or other options."""
    given = ["plan", "--rate", "100", "--bytes", "4096", "--outage", "6h", *arguments]
    return CliRunner(env=dict.fromkeys(LIMITS)).invoke(main, given, env=environ)


def test_prints_the_plan_as_one_line_of_json() -> None:
    """In camelCase, with every figure; no server and no setting is needed for it."""
    done = run("--json")
    assert done.exit_code == 0
    [line] = done.stdout.splitlines()
    assert json.loads(line) == msgspec.to_builtins(plan(LOAD))
    assert {"redisMaxmemoryBytes", "isQuotaEnough", "webProcesses"} <= json.loads(line).keys()


def test_prints_the_plan_for_people() -> None:
    """With units, and what to do about a quota that is too small."""
    done = run()
    assert done.exit_code == 0
    assert "GiB" in done.stdout
    assert "TOO LITTLE" in done.stdout
    assert "--quota-bytes" in done.stdout.splitlines()[-1]


def test_counts_with_the_quota_and_the_retention_that_are_set() -> None:
    """As web would."""
    environ = {"SWITCHHOOK_ACCOUNT_QUOTA": str(1024**4), "SWITCHHOOK_RETENTION_HOURS": "2"}
    done = run("--json", environ=environ)
    made = json.loads(done.stdout)
    assert (made["accountQuotaBytes"], made["isQuotaEnough"], made["eventsWaiting"]) == (1024**4, True, 720_000)
    assert "SWITCHHOOK_RETENTION_HOURS" in run(environ=environ).stdout
    assert json.loads(run("--json", environ={"SWITCHHOOK_RECHARGE_HOURS": "0"}).stdout)["redisChargedBytes"] == 0


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("6h", 21_600), ("2d", 172_800), ("1h30m", 5400)]
)
def test_takes_durations_as_people_write_them(text: str, seconds: int) -> None:
    """One part or several."""
    done = run("--outage", text, "--rate", "1", "--json")
    assert json.loads(done.stdout)["eventsWaiting"] == seconds


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--rate", "0"),
        ("--rate", "-1"),
        ("--rate", "nan"),
        ("--rate", "inf"),
        ("--rate", "many"),
        ("--bytes", "0"),
        ("--bytes", "4k"),
        ("--bytes", str(65 * MIB)),
        ("--outage", "6"),
        ("--outage", "0h"),
        ("--outage", "-6h"),
        ("--outage", "31d"),
        ("--outage", "9999999d"),
        ("--outage", ""),
        ("--endpoints", "0"),
        ("--accounts", "0"),
        ("--allocator", "mimalloc"),
    ],
)
def test_refuses_nonsense_by_the_options_name(option: str, value: str) -> None:
    """In a line that says which option is wrong."""
    done = run(option, value)
    assert done.exit_code == 2
    assert f"'{option}'" in done.stderr.splitlines()[-1]


def test_refuses_a_setting_that_makes_no_sense() -> None:
    """By the variable's name."""
    done = run(environ={"SWITCHHOOK_ACCOUNT_QUOTA": "much"})
    assert done.exit_code == 1
    assert "SWITCHHOOK_ACCOUNT_QUOTA" in done.stderr


def test_an_event_with_more_endpoints_costs_more_everywhere() -> None:
    """No figure that depends on endpoints was forgotten."""
    for cost in (footprint.appended_bytes, footprint.sent_bytes, footprint.redis_wire_bytes):
        assert cost(4096, endpoints=2) > cost(4096, endpoints=1)
    for share in (footprint.unrecorded_bytes, footprint.row_bytes, footprint.logged_bytes):
        assert share(endpoints=2) > share(endpoints=1)


def test_the_readme_shows_what_the_command_prints() -> None:
    """The lines of its example, as far as it shows them."""
    readme = (PRELUDE.parents[2] / "README.md").read_text()
    _, _, shown = readme.partition("$ switchhook plan --rate 100 --bytes 4096 --outage 6h --accounts 20\n")
    lines = [line.strip() for line in shown.split("\n\n")[0].splitlines()]
    printed = run("--accounts", "20").stdout.splitlines()
    assert len(lines) > 5
    assert set(lines) - {"..."} <= set(printed)
