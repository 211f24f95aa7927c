"""Who may read metrics: the bearer of METRICS_TOKEN; without one set, anybody, and only where http is allowed."""

from __future__ import annotations

import hmac

from relay.errors import Unauthorized
from relay.settings import Settings


def require_token(settings: Settings, authorization: str) -> None:
    """Judge the value of an Authorization header. Raises Unauthorized."""
    if not settings.metrics_token:
        if not settings.allow_http:
            raise Unauthorized("set METRICS_TOKEN and give it as a bearer token", code="metrics_token_unset")
        return
    given = authorization.removeprefix("Bearer ").encode("utf-8", "replace")
    if not hmac.compare_digest(given, settings.metrics_token.encode()):
        raise Unauthorized("give METRICS_TOKEN as a bearer token", code="metrics_token_invalid")
