"""Signed URLs for agents, without a session of their own."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import Field, PlainValidator, WithJsonSchema

from relay.agents.signed_urls import SIGNED_URL_SECONDS
from relay.api.core.access import Access
from relay.api.core.families import CANARY
from relay.api.core.fields import left_out
from relay.api.core.models import Input, Output
from relay.api.core.operations import Call, Group

group = Group(CANARY, tag="CanaryLLM: sessions")

_NUMBER: Final = re.compile("[1-9][0-9]{0,15}")


def _checked_number(value: Any) -> int | str:
    is_number = isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**16
    if not (is_number or (isinstance(value, str) and _NUMBER.fullmatch(value))):
        raise ValueError("must be a session's number, or its digits")
    number: int | str = value
    return number


# One check and not a union of two types: its mistakes would be told by the names of both.
SessionId = Annotated[
    int | str,
    PlainValidator(_checked_number),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": 9_999_999_999_999_999},
                {"type": "string", "pattern": "^[1-9][0-9]{0,15}$"},
            ]
        }
    ),
]


class AgentWanted(Input):
    """An agent of one of the account's templates, and perhaps a session that the conversation is to be."""

    agent_id: Annotated[str, Field(min_length=1, max_length=256)]
    session_id: SessionId | None = None


class SignedUrl(Output):
    """A URL that opens one conversation, for `expiresIn` seconds."""

    signed_url: str
    expires_in: int
    session_id: SessionId | None = left_out()


@group.operation(
    "POST",
    "/api/agents/signed-url",
    access=Access.WRITE,
    body=AgentWanted,
    answers={200: SignedUrl},
    errors=(402, 404, 409, 502),
    is_slow=True,
)
def sign_url(call: Call[AgentWanted, None]) -> SignedUrl:
    """Get a signed URL for an agent.

    An agent that none of the account's templates has is not found, nor is a session of another agent; one that is over
    is 409. Under a hard limit of the account a session gives one at a time: 409, until the last has expired.
    """
    body = call.body
    url = call.services.signed_urls.give(
        account_id=call.account_id,
        agent_id=body.agent_id,
        session_id=None if body.session_id is None else int(body.session_id),
    )
    return SignedUrl(signed_url=url, expires_in=SIGNED_URL_SECONDS, session_id=body.session_id)
