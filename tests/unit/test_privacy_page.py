"""docs/privacy.md names every fact that is kept, and nothing that is not."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import msgspec

from relay.calls import MAX_FACT_CHARS, CallEvent, Ending, Facts
from workers.upkeep import RECORDS_KEPT

PAGE = (Path(__file__).parents[2] / "docs" / "privacy.md").read_text()
# The structs within structs.
NESTED = {"call", "ending"}


def test_names_every_fact() -> None:
    """A new one is a conscious decision, told to whoever runs this."""
    fields = {field.name for struct in (Facts, CallEvent, Ending) for field in msgspec.structs.fields(struct)}
    listed = re.findall(r"^\* of .*(?:\n  .*)*", PAGE, re.MULTILINE)
    assert set(re.findall(r"`([a-z_]+)`", "\n".join(listed))) == fields - NESTED


def test_says_how_long_and_how_much() -> None:
    """The numbers of the code."""
    assert timedelta(days=30) == RECORDS_KEPT
    assert "| events, deliveries, attempts | Postgres | 30 days |" in PAGE
    assert f"Names have at most {MAX_FACT_CHARS} characters" in PAGE
