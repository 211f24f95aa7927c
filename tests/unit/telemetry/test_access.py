"""Who may read metrics."""

from __future__ import annotations

import pytest

from relay.errors import Unauthorized
from relay.settings import Settings
from relay.telemetry.access import require_token


@pytest.mark.parametrize(
    ("token", "allow_http", "header", "refusal"),
    [
        ("secret", False, "Bearer secret", None),
        ("secret", False, "Bearer wrong", "metrics_token_invalid"),
        ("secret", False, "Bearer sécret", "metrics_token_invalid"),
        ("secret", False, "Basic secret", "metrics_token_invalid"),
        ("secret", False, "", "metrics_token_invalid"),
        ("secret", True, "", "metrics_token_invalid"),  # a token that is set is asked for in development too
        ("", False, "Bearer ", "metrics_token_unset"),  # no token must not mean the empty one
        ("", True, "", None),
        ("", True, "Bearer left-over", None),
    ],
)
def test_the_token_decides(token: str, allow_http: bool, header: str, refusal: str | None) -> None:
    """Without one set, metrics are open only where http is allowed: for development."""
    settings = Settings(database_url="", redis_url="", keys="", metrics_token=token, allow_http=allow_http)
    if refusal is None:
        require_token(settings, header)
        return
    with pytest.raises(Unauthorized) as refused:
        require_token(settings, header)
    assert refused.value.code == refusal
