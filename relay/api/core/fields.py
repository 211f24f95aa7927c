"""Kinds of fields that several resources have."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    StringConstraints,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from relay.provisioning.checks import MAX_NAME_CHARS, MAX_SECRET_CHARS

_FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(9999, 1, 1, tzinfo=UTC)
# What pydantic takes for seconds since 1970. Who writes 20261120 or 2026 means a day, or a year.
_NUMBER: Final = re.compile(r"[+-]?[0-9.]+")


def absent() -> Any:
    """The default of a field of a change that may be left out and not be null."""
    return Field(default=None, json_schema_extra=_without_default)


def left_out(description: str | None = None) -> Any:
    """The default of a field of an answer that is not there at all where it has no value."""
    return Field(default=None, exclude_if=_is_none, description=description)


def _is_none(value: object) -> bool:
    return value is None


def _without_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)


def _printable(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError("must be printable, and not blank")
    return text


@dataclass(frozen=True, slots=True)
class Shaped:
    """What a text must be like, and how that is said where it is not: an expression tells most people nothing."""

    pattern: str
    said: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The text's own checks, and then this one."""
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The text's own schema with the pattern."""
        return {**handler(schema), "pattern": self.pattern}

    def _checked(self, text: str) -> str:
        if not re.fullmatch(self.pattern, text):
            raise PydanticCustomError("string_pattern_mismatch", self.said)
        return text


@dataclass(frozen=True, slots=True)
class _Written:
    """Refuses numbers in place of a moment or a day, as text too. `models` has the words for it."""

    kind: Literal["datetime", "date"]

    def __call__(self, given: Any) -> Any:
        if isinstance(given, date):
            return given
        if not isinstance(given, str):
            raise PydanticCustomError(f"{self.kind}_type", "must be text")
        if _NUMBER.fullmatch(given):
            raise PydanticCustomError(f"{self.kind}_parsing", "must not be a number")
        return given


def _in_range(at: datetime) -> datetime:
    if not _FIRST <= at <= _LAST:
        raise ValueError("must be from 1970 to 9999")
    return at


Name = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MAX_NAME_CHARS),
    AfterValidator(_printable),
    Field(examples=["Acme"]),
]
Secret = Annotated[str, StringConstraints(min_length=1, max_length=MAX_SECRET_CHARS), AfterValidator(_printable)]
Url = Annotated[
    str,
    StringConstraints(min_length=1, max_length=2048),
    AfterValidator(_printable),
    Field(examples=["https://customer.example/hook"]),
]

AccountId = Annotated[str, Field(examples=["acc_6zypow4u7uzcgzocuucyckldte"])]
KeyId = Annotated[str, Field(examples=["key_4t3cq5xw2nd7m6s3nfvhzb5fne"])]
SourceId = Annotated[str, Field(examples=["src_aniixpjmh4cus6ekhjz3cdht4a"])]
EndpointId = Annotated[str, Field(examples=["ep_dg6uwlgwynv4k5nmcg7f5sejuy"])]
EventId = Annotated[str, Field(examples=["evt_ks6a2hrebo24apa4az75on62ym"])]
RateCardId = Annotated[str, Field(examples=["rc_j3pelm3enmc3fumnrm5kmxkf54"])]
"""Ids, out."""

ShownName = Annotated[str, Field(examples=["Acme"])]
ProviderName = Annotated[str, Field(examples=["elevenlabs"])]
ShownUrl = Annotated[str, Field(examples=["https://customer.example/hook"])]
ShownMoney = Annotated[str, Field(examples=["0.10"])]
NewApiKey = Annotated[str, Field(examples=["sk_live_1HT4..."])]
NewSigningSecret = Annotated[str, Field(examples=["whsec_8fPv..."])]
NewWebhookSecret = Annotated[str, Field(examples=["L-es..."])]
"""Other texts, out."""

GivenEndpointId = Annotated[str, StringConstraints(pattern=r"^ep_[a-z2-7]{26}$")]
GivenEventId = Annotated[str, StringConstraints(pattern=r"^evt_[a-z2-7]{26}$")]
GivenRateCardId = Annotated[str, StringConstraints(pattern=r"^rc_[a-z2-7]{26}$")]
"""Ids, in: what is not shaped like one is refused."""

RowNumber = Annotated[int, Field(ge=1, le=9_999_999_999_999_999)]
"""The number of a session or template: exact in JSON, and in Postgres."""

GivenMoment = Annotated[
    AwareDatetime, Field(strict=False), BeforeValidator(_Written("datetime")), AfterValidator(_in_range)
]
"""ISO 8601 with an offset, in; digits alone are none."""

GivenDay = Annotated[
    date,
    Field(strict=False, ge=_FIRST.date(), lt=_LAST.date(), examples=["2026-10-31"]),
    BeforeValidator(_Written("date")),
]
"""A day in ISO 8601, in."""

ShownMoment = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
"""ISO 8601 in UTC, out."""
