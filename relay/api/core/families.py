"""The families of paths: where each expects its credentials, and what its answers and errors look like.

An existing client of another system must find what it knows, so that each family speaks its own dialect.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from werkzeug import Request

from relay.api.core import credentials, refusals
from relay.errors import SwitchhookError
from relay.problems import JSON, PROBLEM_JSON, problem


@dataclass(frozen=True, slots=True)
class Family:
    """One dialect, spoken on all paths with one of the `prefixes`.

    `credential` finds the key in a request, `key_id` the id that came with it, if one did; `wrap` makes a
    success what its clients unwrap; `schemes` are the places of the key as OpenAPI security schemes, any one of which
    will do; `refusal_schema` is the JSON Schema of an error.
    """

    name: str
    prefixes: tuple[str, ...]
    credential: Callable[[Request], str | None]
    schemes: dict[str, dict[str, Any]]
    refuse: Callable[[SwitchhookError], refusals.Refusal]
    refusal_type: str
    refusal_schema: dict[str, Any]
    key_id: Callable[[Request], str | None] = credentials.no_name
    wrap: Callable[[Any], Any] = lambda payload: payload
    wrap_schema: Callable[[dict[str, Any]], dict[str, Any]] = lambda schema: schema


OURS: Final = Family(
    name="ours",
    prefixes=("/",),
    credential=credentials.bearer_or_key,
    schemes=credentials.BEARER | credentials.HEADER,
    refuse=problem,
    refusal_type=PROBLEM_JSON,
    refusal_schema=refusals.PROBLEM,
)
CANARY: Final = Family(
    name="canaryllm",
    prefixes=("/api/convagents/", "/api/agents/", "/api/keys/", "/api/portal/", "/api/llm/"),
    credential=credentials.bearer_or_key_or_query,
    schemes=credentials.BEARER | credentials.HEADER | credentials.QUERY,
    refuse=refusals.canary_refusal,
    refusal_type=JSON,
    refusal_schema=refusals.CANARY,
    wrap=lambda payload: {"success": True, "data": payload},
    wrap_schema=lambda schema: refusals.object_of(success={"const": True}, data=schema),
)
AGORA: Final = Family(
    name="agora",
    prefixes=("/api/conversational-ai-agent/",),
    credential=credentials.basic_password,
    schemes=credentials.AGORA,
    refuse=refusals.agora_refusal,
    refusal_type=JSON,
    refusal_schema=refusals.AGORA,
    key_id=credentials.basic_name,
)
ELEVENLABS: Final = Family(
    name="elevenlabs",
    prefixes=("/v1/convai/",),
    credential=credentials.header("xi-api-key"),
    schemes=credentials.ELEVENLABS,
    refuse=refusals.elevenlabs_refusal,
    refusal_type=JSON,
    refusal_schema=refusals.ELEVENLABS,
)
CANONICAL: Final = Family(
    name="canonical",
    prefixes=("/api/v1/call",),
    credential=credentials.header("X-Canonical-Api-Key"),
    schemes=credentials.CANONICAL,
    refuse=refusals.canonical_refusal,
    refusal_type=JSON,
    refusal_schema=refusals.CANONICAL,
)
CONVERSATIONS: Final = Family(
    name="conversations",
    prefixes=("/v1/conversations/",),
    credential=credentials.bearer,
    schemes=credentials.BEARER,
    refuse=problem,
    refusal_type=PROBLEM_JSON,
    refusal_schema=refusals.PROBLEM,
)
RETELL: Final = Family(
    name="retell",
    prefixes=("/v2/", "/v3/"),
    credential=credentials.bearer,
    schemes=credentials.BEARER,
    refuse=refusals.retell_refusal,
    refusal_type=JSON,
    refusal_schema=refusals.RETELL,
)
FAMILIES: Final = (OURS, CANARY, AGORA, ELEVENLABS, CANONICAL, CONVERSATIONS, RETELL)


def family_of(path: str) -> Family:
    """Whose dialect is spoken on a path, also where there is no operation."""
    others = (family for family in FAMILIES if family is not OURS)
    return next((family for family in others if any(_is_below(path, prefix) for prefix in family.prefixes)), OURS)


def _is_below(path: str, prefix: str) -> bool:
    """Whole segments count: `/api/v1/calls` is not below `/api/v1/call`."""
    return path == prefix or path.startswith(prefix if prefix.endswith("/") else f"{prefix}/")
