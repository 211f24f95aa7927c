"""The API's own description: OpenAPI for programs, a page for people. Both are made once for a process."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import Any

import msgspec

from relay.api import page, webhooks
from relay.api.core.access import Access
from relay.api.core.families import OURS
from relay.api.core.openapi import described
from relay.api.core.operations import Answer, Call, Group, Raw

group = Group(OURS, tag="Description")


@group.operation("GET", "/openapi.json", access=Access.PUBLIC, answers={200: dict[str, Any]})
def openapi(call: Call[None, None]) -> Answer:
    """This description, as OpenAPI 3.1."""
    return Answer(_openapi(call.services.settings.public_url), 200)


@group.operation("GET", "/docs", access=Access.PUBLIC, answers={200: Raw("text/html; charset=utf-8")})
def docs(call: Call[None, None]) -> Answer:
    """This description, as a page to read."""
    html, headers = _page(call.services.settings.public_url)
    return Answer(html, 200, headers)


def document(url: str) -> dict[str, Any]:
    """The description as a JSON object."""
    from relay.api.routes import operations  # noqa: PLC0415  the routes list this module

    return described(
        operations(),
        version=version("switchhook"),
        url=url,
        more_paths=webhooks.PATHS,
        more_schemes=webhooks.SCHEMES,
    )


@cache
def _openapi(url: str) -> bytes:
    return msgspec.json.encode(document(url))


@cache
def _page(url: str) -> tuple[bytes, dict[str, str]]:
    return page.written(document(url))
