"""docs/api.md has every operation, every family, and what the description says of them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from relay.api.core.families import FAMILIES
from relay.api.core.operations import Operation
from relay.api.routes import operations
from tests.unit.test_docs import _codes, _spans

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "api.md").read_text()
# Of an error inside, and of single issues within `validation_error`, whose texts say all.
NEVER_ANSWERED = {"statement_refused", "missing", "value_error"}
HEADING = "| method | path | access | summary |\n|---|---|---|---|\n"


def _row(operation: Operation) -> str:
    path = re.sub(r"<(?:[a-z]+:)?([a-z_]+)>", r"{\1}", operation.path)
    return f"| {operation.method} | `{path}` | {operation.access.value} | {operation.summary} |\n"


def test_has_a_row_for_every_operation() -> None:
    """In the order of the description, and no other."""
    expected = "".join(map(_row, operations()))
    found = PAGE.partition(HEADING)[2].partition("\n\n")[0] + "\n"
    assert found == expected, f"the table of operations in docs/api.md should be:\n\n{HEADING}{expected}"


def test_every_code_that_the_api_answers_is_explained() -> None:
    """What its own modules raise, and those that they call."""
    parts = ("api", "agents", "provisioning", "refetch", "store", "erasure.py", "trial.py", "replay.py")
    found = {code for part in parts for path in _modules(part) for code in _codes(ast.parse(path.read_text()))}
    assert {"last_writing_key", "agent_not_ready", "rate_card_unknown"} <= found
    assert found - NEVER_ANSWERED <= set(_spans(PAGE))


def _modules(part: str) -> list[Path]:
    path = ROOT / "relay" / part
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


def test_says_where_each_family_has_its_key() -> None:
    """A header or scheme of every family that has operations is in the table of families."""
    table = PAGE.partition("| family | paths |")[2].partition("\n\n")[0]
    for family in {operation.family.name: operation.family for operation in operations()}.values():
        for scheme in family.schemes.values():
            shown = scheme.get("name") or f"Authorization: {scheme['scheme'].capitalize()}"
            assert shown in table, (family.name, shown)
    assert table.count("\n|") >= len(FAMILIES)
