"""The base of what comes in and what goes out: camelCase outside, unknown fields refused, every mistake named."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, TypeVar

import pydantic
from pydantic import BaseModel, ConfigDict, field_validator
from pydantic.alias_generators import to_camel

from relay.errors import Issue, ValidationFailed

M = TypeVar("M", bound=BaseModel)

_MOST_ISSUES: Final = 20
# What pydantic says to programmers, said to callers; everything else it says well enough, and never quotes the input.
_MESSAGES: Final = {
    "extra_forbidden": "unknown field",
    "missing": "is required",
    "json_invalid": "the body is not valid JSON",
    "model_type": "must be a JSON object",
    "model_attributes_type": "must be a JSON object",
    "dict_type": "must be a JSON object",
}


class Input(BaseModel):
    """A body or query. Numbers are not read from strings, nor booleans from numbers."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        str_max_length=100_000,
        hide_input_in_errors=True,
    )

    @field_validator("*", mode="after")
    @classmethod
    def _keepable(cls, value: Any) -> Any:
        for text in _texts(value):
            if any("\ud800" <= char <= "\udfff" or char == "\x00" for char in text):
                raise ValueError("must hold neither NUL nor a lone surrogate")
        return value


class Query(Input):
    """What a query string says: all of it text, read as what each field is."""

    model_config = ConfigDict(strict=False)


class Output(BaseModel):
    """What goes out."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)


def read_body(model: type[M], raw: bytes) -> M:
    """A body as its model. Raises ValidationFailed with what is wrong in each field."""
    try:
        return model.model_validate_json(raw or b"null")
    except pydantic.ValidationError as error:
        raise _failed(error) from None


def read_query(model: type[M], pairs: dict[str, str]) -> M:
    """A query string as its model. Raises ValidationFailed."""
    try:
        return model.model_validate(pairs)
    except pydantic.ValidationError as error:
        raise _failed(error) from None


def _failed(error: pydantic.ValidationError) -> ValidationFailed:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return ValidationFailed([_issue(one) for one in found[:_MOST_ISSUES]])


def _issue(found: Any) -> Issue:
    # Names that the caller chose may be anything: what is shown of them is short and printable.
    path = ".".join(_shown(part) for part in found["loc"])
    message = _MESSAGES.get(found["type"], found["msg"].removeprefix("Value error, "))
    return Issue(path=path, message=message[:200], code=found["type"])


def _shown(part: Any) -> str:
    text = str(part)[:64]
    return text if text.isprintable() else ascii(text)[1:-1]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _texts(name)
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)
