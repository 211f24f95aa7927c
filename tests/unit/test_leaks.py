"""The watch over Content that every test runs under: it sees what code swallows, and fails the test for it."""

from __future__ import annotations

import copy
import io
import json
import logging
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from relay.content import Content
from tests.leaks import Leaks

ROOT = Path(__file__).parents[2]
CONTENT = Content(b"words-of-a-caller")

PLANTED = """
import threading
from contextlib import suppress
from relay.content import Content
from tests.leaks import content_leaks, nothing_leaks

def swallow():
    with suppress(Exception):
        f"{Content(b'words-of-a-caller')}"

def test_it_swallows():
    swallow()

def test_a_thread_swallows():
    thread = threading.Thread(target=swallow)
    thread.start()
    thread.join()

def test_it_does_nothing():
    assert Content(b"said").reveal() == b"said"
"""


def a_logger() -> logging.Logger:
    """A library's, as logging sets it up."""
    logger = logging.Logger("a.library")
    logger.addHandler(logging.StreamHandler(io.StringIO()))
    return logger


@pytest.mark.parametrize(
    "way_out",
    [
        pytest.param(repr, id="repr"),
        pytest.param(str, id="str"),
        pytest.param(lambda c: f"{c}", id="format"),
        pytest.param(lambda c: f"{[c]}", id="a container"),
        pytest.param(bytes, id="bytes"),
        pytest.param(pickle.dumps, id="pickle"),
        pytest.param(copy.copy, id="copy"),
        pytest.param(copy.deepcopy, id="deepcopy"),
        pytest.param(json.dumps, id="json"),
        pytest.param(lambda c: json.dumps([c], default=lambda _: "?"), id="json with a default"),
        pytest.param(lambda c: json.dumps({"c": c}, cls=json.JSONEncoder, indent=1), id="json with an encoder"),
        pytest.param(lambda c: a_logger().warning("got %s", c), id="log"),
        pytest.param(lambda c: c == c, id="equal"),  # noqa: PLR0124
        pytest.param(hash, id="hash"),
    ],
)
def test_notes_what_is_swallowed(way_out: Callable[[Any], object], content_leaks: Leaks) -> None:
    """Once for each attempt at least, with the place it came from."""
    with suppress(Exception):
        way_out(CONTENT)
    assert any("test_leaks.py" in attempt for attempt in content_leaks.taken())


def test_notes_the_thread(content_leaks: Leaks) -> None:
    """Most of the code under test runs in threads of its own."""

    def swallow() -> None:
        with suppress(Exception):
            str(CONTENT)

    thread = threading.Thread(target=swallow, name="courier")
    thread.start()
    thread.join()
    (attempt,) = content_leaks.taken()
    assert attempt.startswith("__str__ in thread courier: test_leaks.py:")


def test_says_nothing_of_the_content_itself(content_leaks: Leaks) -> None:
    """A report of a leak must not be one."""
    with suppress(Exception):
        str(CONTENT)
    assert "words-of-a-caller" not in "".join(content_leaks.taken())


def test_lets_alone_what_is_allowed(content_leaks: Leaks) -> None:
    """Revealing, measuring and passing it on."""
    holder = [CONTENT]
    assert (holder[0].reveal(), len(CONTENT), bool(CONTENT)) == (b"words-of-a-caller", 17, True)
    assert json.dumps({"a": 1}, default=str)
    assert content_leaks.taken() == []


def test_a_test_that_swallows_a_refusal_fails(tmp_path: Path) -> None:
    """The same fixtures over planted tests, in a run of their own."""
    planted = tmp_path / "test_planted.py"
    planted.write_text(PLANTED)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", str(tmp_path), str(planted)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 1, run.stdout + run.stderr
    assert "3 passed, 2 errors" in run.stdout
    assert {
        name
        for name in ("test_it_swallows", "test_a_thread_swallows")
        if f"ERROR test_planted.py::{name}" in run.stdout
    } == {
        "test_it_swallows",
        "test_a_thread_swallows",
    }
