"""Signed URLs for agents, without a session of their own."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from relay.agents.sessions import SIGNED_URL_SECONDS
from relay.api.canary.session_models import RowNumber
from relay.api.core.access import Access
from relay.api.core.families import CANARY
from relay.api.core.models import Input, Output
from relay.api.core.operations import Call, Group

group = Group(CANARY, tag="CanaryLLM: sessions")

SessionId = RowNumber | Annotated[str, Field(pattern="^[1-9][0-9]{0,15}$")]


class AgentWanted(Input):
    """An agent of one of the account's templates, and perhaps a session that the conversation is to be."""

    agent_id: Annotated[str, Field(min_length=1, max_length=256)]
    session_id: SessionId | None = None


class SignedUrl(Output):
    """A URL that opens one conversation, for `expiresIn` seconds."""

    signed_url: str
    expires_in: int
    session_id: SessionId | None = Field(default=None, exclude_if=lambda value: value is None)


@group.operation(
    "POST", "/api/agents/signed-url", access=Access.WRITE, body=AgentWanted, answers={200: SignedUrl}, errors=(404, 502)
)
def sign_url(call: Call[AgentWanted, None]) -> SignedUrl:
    """Get a signed URL for an agent.

    An agent that none of the account's templates has is not found.
    """
    body = call.body
    url = call.services.sessions.signed_url(
        account_id=call.account_id,
        agent_id=body.agent_id,
        session_id=None if body.session_id is None else int(body.session_id),
    )
    return SignedUrl(signed_url=url, expires_in=SIGNED_URL_SECONDS, session_id=body.session_id)
