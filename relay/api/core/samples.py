"""An example of what a JSON Schema describes, so that every description comes with one that is true. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from relay.api.core.schemas import Schema, Schemas, resolved

# Deep enough for every body of ours; what nests deeper is left empty.
_MOST_LEVELS: Final = 8
_BY_FORMAT: Final = {
    "date-time": "2026-02-11T12:00:00.000Z",
    "date": "2026-02-11",
    "uri": "https://customer.example/hook",
    "password": "a-secret",
}
# What texts of these names look like, in whichever dialect: in lower case and without lines.
_BY_NAME: Final = {
    "accesstoken": "eyJ...",
    "agentid": "agent_7",
    "callid": "Jabr9TXYYJHfvl6Syypi88rdAHYHmcq6",
    "channel": "channel_name",
    "clientwebhookurl": "https://customer.example/hook",
    "code": "http_500",
    "conversationid": "conv_1",
    "credential": "a-secret",
    "currency": "USD",
    "cursor": "WyIyMDI2...",
    "description": "Asks how the customer came to us.",
    "endpointid": "ep_dg6uwlgwynv4k5nmcg7f5sejuy",
    "failurecode": "unreachable",
    "firstmessage": "Hello! Thank you for joining.",
    "id": "evt_ks6a2hrebo24apa4az75on62ym",
    "keyprefix": "sk_live_1HT4",
    "language": "en",
    "llmmodel": "gemini-2.5-flash",
    "llmprovider": "gemini",
    "name": "Customer interview",
    "nextcursor": "WyIyMDI2...",
    "provider": "elevenlabs",
    "ratecard": "rc_j3pelm3enmc3fumnrm5kmxkf54",
    "signedurl": "wss://...",
    "signing": "standard",
    "signingsecret": "whsec_8fPv...",
    "status": "RUNNING",
    "synccode": "provider_failed",
    "systemprompt": "You are a friendly interviewer.",
    "tag": "my_project",
    "transport": "gateway",
    "unratedreason": "duration_missing",
    "urls": "stun:stun.example.com:3478",
    "voiceid": "JBFqnCBsd6RMkjVDRZzb",
    "voicemodel": "eleven_flash_v2",
    "webhooksecret": "L-es...",
}
_TEXT: Final = "text"


def sample(schema: Schema, schemas: Schemas, *, is_whole: bool = False) -> Any:
    """A value that the schema allows.

    The schema's own example, constant or default where it has one, else what its name suggests. Of an object: the
    fields that are required and those with an example of their own, or with `is_whole` all of them. Patterns are not
    understood: a field with one needs an example.
    """
    return _Sampler(schemas, is_whole).value(schema, 0)


@dataclass(frozen=True, slots=True)
class _Sampler:
    schemas: Schemas
    is_whole: bool

    def value(self, schema: Schema, level: int, name: str = "") -> Any:
        schema = resolved(schema, self.schemas)
        for given in _given(schema):
            return given
        for keyword in ("anyOf", "oneOf", "allOf"):
            if keyword in schema:
                return self.value(_preferred(schema[keyword]), level, name)
        match _kind(schema):
            case "object":
                return self._object(schema, level)
            case "array":
                return self._array(schema, level, name)
            case kind:
                return _plain(kind, schema, name)

    def _object(self, schema: Schema, level: int) -> dict[str, Any]:
        required = schema.get("required", ())
        return {
            name: self.value(field, level + 1, name)
            for name, field in schema.get("properties", {}).items()
            if level < _MOST_LEVELS and (self.is_whole or name in required or field.get("examples"))
        }

    def _array(self, schema: Schema, level: int, name: str) -> list[Any]:
        shows_one = self.is_whole and level < _MOST_LEVELS and schema.get("maxItems") != 0
        count = max(schema.get("minItems", 0), int(shows_one))
        return [self.value(schema.get("items", {}), level + 1, name) for _ in range(count)]


def _given(schema: Schema) -> Iterator[Any]:
    """What the schema itself names as a value, best first."""
    yield from schema.get("examples", ())[:1]
    yield from (schema[keyword] for keyword in ("example", "const") if keyword in schema)
    yield from schema.get("enum", ())[:1]
    if schema.get("default") is not None:
        yield schema["default"]


def _kind(schema: Schema) -> str:
    kind = schema.get("type", "null")
    return str(kind if isinstance(kind, str) else next((one for one in kind if one != "null"), "null"))


def _plain(kind: str, schema: Schema, name: str) -> Any:
    match kind:
        case "string":
            return _text(schema, name)
        case "integer":
            return int(_number(schema))
        case "number":
            return _number(schema)
        case "boolean":
            return True
        case _:
            return None


def _preferred(choices: list[Schema]) -> Schema:
    return next((choice for choice in choices if choice.get("type") != "null"), choices[0])


def _text(schema: Schema, name: str) -> str:
    suggested = _BY_NAME.get(name.replace("_", "").lower(), _TEXT)
    text = _BY_FORMAT.get(schema.get("format", ""), suggested)
    most: int = schema.get("maxLength", max(len(text), schema.get("minLength", 0)))
    return text.ljust(schema.get("minLength", 0), "x")[:most]


def _number(schema: Schema) -> float:
    if "minimum" in schema:
        return float(schema["minimum"])
    if "exclusiveMinimum" in schema:
        return float(schema["exclusiveMinimum"] + 1)
    return float(min(1, schema.get("maximum", 1)))
