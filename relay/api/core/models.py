"""The base of what comes in and what goes out: camelCase outside, unknown fields refused, every mistake named."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, Final, TypeVar

import pydantic
from pydantic import BaseModel, ConfigDict, field_validator
from pydantic.alias_generators import to_camel

from relay.errors import Issue, ValidationFailed

M = TypeVar("M", bound=BaseModel)

# Of any string that has no limit of its own.
MAX_CHARS: Final = 100_000
_MOST_ISSUES: Final = 20
# NUL cannot be stored by Postgres; lone surrogates cannot be encoded by anything.
_UNKEEPABLE: Final = re.compile("[\x00\ud800-\udfff]")
_UNKEEPABLE_TEXT: Final = "must hold neither NUL nor a lone surrogate"
# What pydantic says to programmers, said to callers. It never quotes the input.
_MESSAGES: Final = {
    "extra_forbidden": "unknown field",
    "missing": "is required",
    "union_tag_not_found": "is required",
    "json_invalid": "the body is not valid JSON",
    "model_type": "must be a JSON object",
    "model_attributes_type": "must be a JSON object",
    "dict_type": "must be a JSON object",
    "string_type": "must be a string",
    "list_type": "must be a list",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "decimal_type": "must be a number",
    "decimal_parsing": "must be a number",
    "finite_number": "must be a number that JSON has",
    "timezone_aware": "must say its offset from UTC: 2026-02-11T12:05:00Z",
    "datetime_type": "must be a moment in ISO 8601: 2026-02-11T12:05:00Z",
    "datetime_parsing": "must be a moment in ISO 8601: 2026-02-11T12:05:00Z",
    "datetime_from_date_parsing": "must be a moment in ISO 8601: 2026-02-11T12:05:00Z",
    "date_type": "must be a day: 2026-10-31",
    "date_parsing": "must be a day: 2026-10-31",
    "date_from_datetime_parsing": "must be a day: 2026-10-31",
    "date_from_datetime_inexact": "must be a day: 2026-10-31",
}
# Which of several models an object is read as: by one of its fields, which is wrong or not there.
_TAGS: Final = frozenset({"union_tag_invalid", "union_tag_not_found"})
# And the rest in the same manner: "String should have at least 1 character".
_SHOULD: Final = re.compile(r"^(?:\w+ )?\w+ should (?=\w)")
_COUNTED: Final = re.compile(r" after validation, not .*$")


class Input(BaseModel):
    """A body or query. Numbers are not read from strings, nor booleans from numbers."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        str_max_length=MAX_CHARS,
        hide_input_in_errors=True,
    )

    def given(self) -> dict[str, Any]:
        """The fields that the caller gave, by their names in Python: what a change is about."""
        return {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}

    @field_validator("*", mode="after")
    @classmethod
    def _keepable(cls, value: Any) -> Any:
        for inner in _scalars(value):
            if isinstance(inner, str) and _UNKEEPABLE.search(inner):
                raise ValueError(_UNKEEPABLE_TEXT)
            # What a field without a type of its own may hold: JSON has no name for it, and an answer could not say it.
            if isinstance(inner, float) and not math.isfinite(inner):
                raise ValueError("must hold only numbers that JSON has")
        return value


class Query(Input):
    """What a query string says: all of it text, read as what each field is."""

    model_config = ConfigDict(strict=False)


class Output(BaseModel):
    """What goes out: all of its fields, always, and described so."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        json_schema_serialization_defaults_required=True,
    )


def parsed_body(model: type[M], raw: bytes) -> M:
    """A body as its model; none at all is an empty object. Raises ValidationFailed with what is wrong in each field."""
    try:
        return model.model_validate_json(raw or b"{}")
    except pydantic.ValidationError as error:
        raise _with_surrogates_named(_failed(error, _read(raw)), raw) from None


def parsed_query(model: type[M], pairs: dict[str, str]) -> M:
    """A query string as its model. Raises ValidationFailed."""
    try:
        return model.model_validate(pairs)
    except pydantic.ValidationError as error:
        raise _failed(error, pairs) from None


def _failed(error: pydantic.ValidationError, given: Any) -> ValidationFailed:
    found = error.errors(include_url=False, include_input=False)
    return ValidationFailed([_issue(one, given) for one in found[:_MOST_ISSUES]])


def _read(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def _with_surrogates_named(failed: ValidationFailed, raw: bytes) -> ValidationFailed:
    """The same, or the field whose text ends in the middle of a character: to pydantic that is no JSON at all."""
    if [issue.code for issue in failed.issues] != ["json_invalid"]:
        return failed
    fields = _read(raw)
    if not isinstance(fields, dict):
        return failed
    wrong = [
        name
        for name, value in fields.items()
        if any(isinstance(inner, str) and _UNKEEPABLE.search(inner) for inner in (name, *_scalars(value)))
    ]
    issues = [Issue(path=_shown(name), message=_UNKEEPABLE_TEXT, code="value_error") for name in wrong[:_MOST_ISSUES]]
    return ValidationFailed(issues) if issues else failed


def _issue(found: Any, given: Any) -> Issue:
    # Names that the caller chose may be anything: what is shown of them is short and printable.
    path = ".".join(_shown(part) for part in _written(found["loc"], given))
    if found["type"] in _TAGS and found["ctx"]["discriminator"].startswith("'"):
        path = f"{path}.{found['ctx']['discriminator'][1:-1]}"
    message = _MESSAGES.get(found["type"]) or _COUNTED.sub("", _SHOULD.sub("must ", found["msg"]))
    if found["type"] == "union_tag_invalid":
        message = f"must be one of {found['ctx']['expected_tags']}"
    message = message.removeprefix("Value error, ")
    return Issue(path=path, message=message[:200], code=found["type"])


def _written(loc: tuple[str | int, ...], given: Any) -> Iterator[str | int]:
    """A place as the caller wrote it: pydantic names in it, besides, which of several models an object was read as."""
    for place, part in enumerate(loc):
        if isinstance(given, dict) and part not in given and place < len(loc) - 1:
            continue
        yield part
        if isinstance(given, dict):
            given = given.get(part)
        elif isinstance(given, list) and isinstance(part, int):
            given = given[part] if part < len(given) else None


def _shown(part: Any) -> str:
    text = str(part)[:64]
    return text if text.isprintable() else ascii(text)[1:-1]


def _scalars(value: Any) -> Iterator[str | float]:
    """Every text and number in a value, names too."""
    if isinstance(value, str | int | float):
        yield value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _scalars(name)
            yield from _scalars(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _scalars(inner)
