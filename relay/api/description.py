"""The API's own description: OpenAPI for programs."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from relay.api.core.access import Access
from relay.api.core.families import OURS
from relay.api.core.openapi import described
from relay.api.core.operations import Call, Group

group = Group(OURS, tag="Description")


@group.operation("GET", "/openapi.json", access=Access.PUBLIC, answers={200: dict[str, Any]})
def openapi(call: Call[None, None]) -> dict[str, Any]:
    """This description, as OpenAPI 3.1."""
    from relay.api.routes import operations  # noqa: PLC0415  the routes list this module

    return described(operations(), version=version("switchhook"), url=call.services.settings.public_url)
