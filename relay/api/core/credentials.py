"""Where a request carries its key: how each place is read, and how OpenAPI calls it."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, Final

from werkzeug import Request

Scheme = dict[str, Any]


_KEY: Final = "An API key of the account"

BEARER: Final[dict[str, Scheme]] = {"bearerKey": {"type": "http", "scheme": "bearer", "description": f"{_KEY}."}}
HEADER: Final[dict[str, Scheme]] = {
    "headerKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": f"{_KEY}."}
}
QUERY: Final[dict[str, Scheme]] = {
    "queryKey": {
        "type": "apiKey",
        "in": "query",
        "name": "apiKey",
        "description": f"{_KEY}. Never logged here; proxies may log it.",
    }
}
AGORA: Final[dict[str, Scheme]] = {
    "agoraBasic": {
        "type": "http",
        "scheme": "basic",
        "description": "The id of an API key of the account (`key_...`) as the name, the key as the password.",
    }
}
ELEVENLABS: Final[dict[str, Scheme]] = {
    "xiApiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "xi-api-key",
        "description": f"{_KEY}, where ElevenLabs expects its own.",
    }
}
CANONICAL: Final[dict[str, Scheme]] = {
    "canonicalKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Canonical-Api-Key",
        "description": f"{_KEY}, where Canonical.chat expects its own.",
    }
}


def bearer(request: Request) -> str | None:
    """The token of `Authorization: Bearer`."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def bearer_or_key(request: Request) -> str | None:
    """A bearer token, or `X-API-Key`."""
    return bearer(request) or request.headers.get("X-API-Key") or None


def bearer_or_key_or_query(request: Request) -> str | None:
    """CanaryLLM's three places; the query is never logged."""
    return bearer_or_key(request) or request.args.get("apiKey") or None


def header(name: str) -> Callable[[Request], str | None]:
    """A header that holds the key and nothing else."""
    return lambda request: request.headers.get(name) or None


def no_name(request: Request) -> str | None:  # noqa: ARG001
    """A key that comes without its id."""
    return None


def basic_name(request: Request) -> str | None:
    """The key's id in `Authorization: Basic <key id>:<key>`."""
    return _basic(request)[0]


def basic_password(request: Request) -> str | None:
    """The key in `Authorization: Basic <key id>:<key>`."""
    return _basic(request)[1]


def _basic(request: Request) -> tuple[str | None, str | None]:
    """Name and password, or neither."""
    scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None, None
    try:
        name, _, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except ValueError:
        return None, None
    return (name, password) if name and password else (None, None)
