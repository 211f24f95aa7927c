"""Moments that callers give: ISO 8601 with an offset, and never a number that somebody may mean as a date."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from pydantic import BaseModel

from relay.api.core.fields import GivenMoment
from relay.api.core.models import Input, Query, parsed_body, parsed_query
from relay.api.routes import operations
from relay.errors import ValidationFailed

DIGITS = ("2026", "20261120", "0", "-0", "-1", "+5", "1.5", "1.", ".5", "1999999999", "1999999999.5")
SAID = "must be a moment in ISO 8601: 2026-02-11T12:05:00Z"


class Body(Input):
    """A body with a moment."""

    at: GivenMoment | None = None


class Asked(Query):
    """A query with one."""

    at: GivenMoment | None = None


@pytest.mark.parametrize("text", DIGITS)
def test_a_moment_of_digits_alone_is_refused(text: str) -> None:
    """In bodies and queries alike: "20261120" is a day to whoever writes it, and was 1970 as Unix seconds."""
    for refused in (
        lambda: parsed_body(Body, json.dumps({"at": text}).encode()),
        lambda: parsed_query(Asked, {"at": text}),
    ):
        with pytest.raises(ValidationFailed) as failed:
            refused()
        issue = failed.value.issues[0]
        assert (issue.path, issue.message, issue.code) == ("at", SAID, "datetime_parsing")


@pytest.mark.parametrize("text", ["2026-11-20T10:00:00Z", "2026-11-20T12:00:00.000+02:00", "2026-11-20 10:00Z"])
def test_iso_8601_with_an_offset_is_a_moment(text: str) -> None:
    """However it is punctuated."""
    body, query = parsed_body(Body, json.dumps({"at": text}).encode()), parsed_query(Asked, {"at": text})
    assert body.at is not None
    assert query.at is not None
    assert body.at.isoformat() in {"2026-11-20T10:00:00+00:00", "2026-11-20T12:00:00+02:00"}
    assert body.at == query.at


def _dated() -> Iterator[tuple[str, type[BaseModel], str]]:
    """Every field of a body or a query that is a moment or a day, as the description has it."""
    for operation in operations():
        for model in (operation.body, operation.query):
            if model is None:
                continue
            for name, schema in model.model_json_schema().get("properties", {}).items():
                if '"format": "date' in json.dumps(schema):
                    yield f"{operation.method} {operation.path} {name}", model, name


DATED = list(_dated())


@pytest.mark.parametrize("text", ["20261120", "864000"])
@pytest.mark.parametrize(("model", "name"), [one[1:] for one in DATED], ids=[one[0] for one in DATED])
def test_no_field_of_the_api_takes_digits_for_a_moment_or_a_day(model: type[BaseModel], name: str, text: str) -> None:
    """Whichever field is added next."""
    parse = (
        parsed_query if issubclass(model, Query) else lambda kind, given: parsed_body(kind, json.dumps(given).encode())
    )
    with pytest.raises(ValidationFailed) as failed:
        parse(model, {name: text})
    assert name in {issue.path for issue in failed.value.issues}


def test_there_are_such_fields() -> None:
    """Else the test above would test none."""
    assert len(DATED) >= 6
