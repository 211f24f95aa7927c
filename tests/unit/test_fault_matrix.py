"""docs/faults.md names tests that exist, for every fault, abuse and leak, and says rightly what runs them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "faults.md").read_text()
ROWS = [f"F{n}" for n in range(1, 28)] + [f"A{n}" for n in range(1, 23)] + [f"P{n}" for n in range(1, 9)]
NOT_SHOWN = "not yet shown"
# Which numbers a test's docstring says that it shows: `F27, F6: what waits ...`
_NUMBERS = re.compile(r"((?:[FAP][0-9]{1,2}(?:, )?)+): ")


def _cells() -> dict[str, list[str]]:
    """The cells of each row, by its number."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE.splitlines() if line.startswith("| ")]
    return {row[0]: row for row in rows if re.fullmatch(r"[FAP][0-9]+", row[0])}


def _tests(row: list[str]) -> list[str]:
    return re.findall(r"`(tests/[^`]+\.py::[^`]+)`", row[3])


@cache
def _functions(path: Path) -> dict[str, ast.FunctionDef]:
    """The tests of a file, by name."""
    tree = ast.parse(path.read_text())
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name[:5] == "test_"}


def _function(test: str) -> ast.FunctionDef | None:
    path, _, name = test.partition("::")
    return _functions(ROOT / path).get(name) if (ROOT / path).is_file() else None


def _runs(function: ast.FunctionDef) -> set[str]:
    """What runs a test: a heavy one, one with a heavy case among others, or an ordinary one."""
    marks = [ast.unparse(decorator) for decorator in function.decorator_list]
    if "pytest.mark.heavy" in marks:
        return {"make faults"}
    return {"make test", "make faults"} if any("pytest.mark.heavy" in mark for mark in marks) else {"make test"}


def _told() -> Iterator[tuple[str, str]]:
    """Each number that a test says it shows, and the test."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for name, function in _functions(path).items():
            for match in _NUMBERS.findall(ast.get_docstring(function) or ""):
                for number in match.split(", "):
                    yield number, f"{path.relative_to(ROOT)}::{name}"


def test_every_row_is_there_once() -> None:
    """In order, each with what is done and what must hold."""
    numbers = re.findall(r"^\| ([FAP][0-9]+) \|", PAGE, re.MULTILINE)
    assert numbers == ROWS
    assert [row[0] for row in _cells().values() if len(row) != 5 or not row[1] or not row[2]] == []


@pytest.mark.parametrize("number", ROWS)
def test_a_row_names_tests_that_exist_and_what_runs_them(number: str) -> None:
    """Whoever renames a test, or makes it heavy, finds the page out of date."""
    row = _cells()[number]
    functions = {test: _function(test) for test in _tests(row)}
    assert [test for test, function in functions.items() if function is None] == []
    runs = {run for function in functions.values() if function is not None for run in _runs(function)}
    told = {"both": {"make test", "make faults"}, NOT_SHOWN: set()}.get(row[4], {row[4]})
    assert told == runs


def test_what_is_not_shown_is_told_again_at_the_end() -> None:
    """With the reason."""
    _, _, end = PAGE.partition("## Not shown, or in part only")
    told = set(re.findall(r"[FAP][0-9]+", " ".join(re.findall(r"^\* \*\*([^*]+)\*\*", end, re.MULTILINE))))
    assert {number for number, row in _cells().items() if row[4] == NOT_SHOWN} <= told


def test_a_test_that_says_what_it_shows_is_in_its_row() -> None:
    """A docstring that begins with a number is a promise to the reader of the page."""
    rows = {number: _tests(row) for number, row in _cells().items()}
    assert [(number, test) for number, test in _told() if test not in rows.get(number, [])] == []
