"""Canonical's intake for Retell: a route without a source, proved by an account's own API key.

Whoever forwards Retell's events to Canonical.chat can forward them here unchanged. As there, an event other than
`call_analyzed` is answered 200 with an `error`, and nothing is stored.
"""

from __future__ import annotations

from typing import Final

import msgspec
from flask import Blueprint, Response, request

from relay.content import Content
from relay.ingress.intake import Receipt
from relay.ingress.webhooks import answered, current_intake, ignored_or_problem

KEY_HEADER: Final = "X-Canonical-Api-Key"
_LABEL: Final = "canonical"

blueprint = Blueprint("canonical", __name__)


@blueprint.post("/api/v1/webhooks/retell")
def analyzed_call() -> Response:
    """Retell's `call_analyzed` from somebody with an API key."""
    key = request.headers.get(KEY_HEADER)

    def expect() -> None:
        current_intake().expects_keyed(key)

    def take(body: Content, content_type: str) -> Receipt:
        return current_intake().keyed(body, key=key, content_type=content_type)

    return answered(_LABEL, take, _answer, ignored_or_problem, expect=expect)


def _answer(receipt: Receipt) -> bytes:
    return msgspec.json.encode({"callId": receipt.conversation_id})
