"""Which types of events an endpoint may ask for: those that can ever come."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET

from relay.errors import BadRequest
from relay.provisioning.checks import EVENT_PROVIDERS, checked_delivery, checked_kinds

ROOT = Path(__file__).parents[2]


def _check(*filters: str) -> None:
    rest: dict[str, Any] = dict.fromkeys(("deadline_seconds", "retention_hours", "failure_when"), UNSET)
    checked_delivery(filters=filters, **rest)


def test_every_type_that_the_events_page_tells_may_be_asked_for() -> None:
    """But test events, which go where they are sent whatever the filter is."""
    types = set(re.findall(r"^\| `([a-z]+\.[a-z_]+)` \|", (ROOT / "docs" / "events.md").read_text(), re.MULTILINE))
    types -= {"switchhook.test"}
    assert {name.partition(".")[0] for name in types} == set(EVENT_PROVIDERS)
    _check("*", *sorted(types)[:20], *(f"{provider}.*" for provider in EVENT_PROVIDERS), "retell.call_*")


@pytest.mark.parametrize(
    "pattern",
    ["", " ", "bad filter", "nosuch.event", "nosuch.*", "retell", "retell.", "retell.a b", "retell*", "*.ended", "**",
     "Retell.x", "retell.\n", "retell.ä", "retell." + "x" * 250],
)  # fmt: skip
def test_what_can_never_match_is_refused(pattern: str) -> None:
    """A typing error is told, and not waited for."""
    with pytest.raises(BadRequest) as refused:
        _check("retell.*", pattern)
    assert refused.value.field == "events"


@pytest.mark.parametrize("operations", [False, True])
def test_our_own_events_are_for_operations_alone(operations: bool) -> None:
    """And an endpoint for operations gets no others; `*` is all that an endpoint may get."""
    allowed, refused_one = ("switchhook.*", "retell.*") if operations else ("retell.*", "switchhook.budget.alert")
    everything = "switchhook.*" if operations else "*"
    assert checked_kinds(["*", allowed], operations=operations) == (everything, allowed)
    _check("switchhook.*", "switchhook.budget.alert", "switchhook.statement.closed")
    with pytest.raises(BadRequest) as refused:
        checked_kinds(["*", refused_one], operations=operations)
    assert refused.value.field == "events"
