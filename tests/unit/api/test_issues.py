"""What is said of a field that is wrong: to callers, in one manner, whichever check it was."""

from __future__ import annotations

import json
from typing import Annotated, Any

import pytest
from pydantic import AwareDatetime, Field

from relay.api.canary.signed_urls import AgentWanted
from relay.api.core.models import Input, Query, parsed_body, parsed_query
from relay.api.core.objects import Metadata
from relay.api.core.refusals import canonical_refusal, elevenlabs_refusal
from relay.errors import BadRequest, SwitchhookError, ValidationFailed

MOMENT = "2026-02-11T12:05:00Z"


class Body(Input):
    """One field of every kind."""

    text: Annotated[str, Field(min_length=2, pattern="^a")] = "aa"
    number: Annotated[int, Field(ge=1)] = 1
    share: float = 0.5
    flag: bool = False
    names: Annotated[list[str], Field(min_length=1, max_length=2)] = Field(default=["a"])
    moment: AwareDatetime | None = None
    metadata: Metadata | None = None


class Asked(Query):
    """A query."""

    limit: int = 1
    since: AwareDatetime | None = None


def _told(raw: bytes, model: type[Input] = Body) -> str:
    with pytest.raises(ValidationFailed) as failed:
        parsed_body(model, raw)
    return failed.value.detail


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("text", 1, "must be a string"),
        ("text", "a", "must have at least 2 characters"),
        ("text", "bb", "must match pattern '^a'"),
        ("number", "1", "must be a whole number"),
        ("number", 0, "must be greater than or equal to 1"),
        ("share", "x", "must be a number"),
        ("flag", 1, "must be true or false"),
        ("names", "a", "must be a list"),
        ("names", [], "must have at least 1 item"),
        ("names", ["a", "b", "c"], "must have at most 2 items"),
        ("moment", "2026-02-11T12:05:00", f"must say its offset from UTC: {MOMENT}"),
        ("moment", "yesterday", f"must be a moment in ISO 8601: {MOMENT}"),
        ("metadata", {"k": 2**63}, "numbers must lie within 64 bits"),
        ("metadata", [], "must be a JSON object"),
    ],
)
def test_says_what_must_be(field: str, value: Any, message: str) -> None:
    """In Switchhook's own words, without the value."""
    assert _told(json.dumps({field: value}).encode()) == f"{field}: {message}"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_a_number_that_json_has_not_is_called_so(number: str) -> None:
    """And not one that is too large."""
    assert _told(f'{{"metadata":{{"k":{number}}}}}'.encode()) in {
        "metadata: must hold only numbers that JSON has",
        "the body is not valid JSON",
    }


@pytest.mark.parametrize(("name", "value"), [("limit", "x"), ("since", "x"), ("since", "2026-02-11T12:05:00")])
def test_a_query_is_told_of_in_the_same_manner(name: str, value: str) -> None:
    """What it must be."""
    with pytest.raises(ValidationFailed) as failed:
        parsed_query(Asked, {name: value})
    assert failed.value.detail.startswith(f"{name}: must ")


@pytest.mark.parametrize("value", [0, "x", [], True, 10**16, "0", "1" * 5000, 1.5])
def test_a_field_of_two_types_is_told_once(value: Any) -> None:
    """By its own name."""
    raw = json.dumps({"agentId": "a", "sessionId": value}).encode()
    assert _told(raw, AgentWanted) == "sessionId: must be a session's number, or its digits"
    for good in (1, "9" * 16, None):
        wanted = parsed_body(AgentWanted, json.dumps({"agentId": "a", "sessionId": good}).encode())
        assert wanted.session_id == good


def test_a_family_without_a_place_for_the_field_names_it_in_the_text() -> None:
    """Once."""
    error: SwitchhookError = BadRequest("must be public", code="target_refused", field="location")
    assert json.loads(canonical_refusal(error)[0])["error"] == "location: must be public"
    assert json.loads(elevenlabs_refusal(error)[0])["detail"]["message"] == "location: must be public"
    named = BadRequest("location must be public", field="location")
    assert json.loads(canonical_refusal(named)[0])["error"] == "location must be public"
