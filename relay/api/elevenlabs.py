"""ElevenLabs' own routes for signed URLs, for its own clients: with an API key of an account in `xi-api-key`."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field

from relay.api.core.access import Access
from relay.api.core.families import ELEVENLABS
from relay.api.core.models import Output, Query
from relay.api.core.operations import Call, Group

group = Group(ELEVENLABS, tag="ElevenLabs")

_PATH: Final = "/v1/convai/conversation"


class AgentQuery(Query):
    """The agent. What else ElevenLabs' clients may ask for is not available here."""

    model_config = ConfigDict(alias_generator=None)

    agent_id: Annotated[str, Field(min_length=1, max_length=256, description="The agent's id at ElevenLabs.")]
    include_conversation_id: Annotated[
        Literal["false"] | None, Field(description="Not to be had: the conversation has no id before it begins.")
    ] = None


class SignedUrl(Output):
    """A URL that opens one conversation within 15 minutes."""

    model_config = ConfigDict(alias_generator=None)

    signed_url: str


@group.operation(
    "GET",
    f"{_PATH}/get-signed-url",
    access=Access.WRITE,
    query=AgentQuery,
    answers={200: SignedUrl},
    errors=(402, 404, 409, 502),
    is_slow=True,
)
def get_signed_url(call: Call[None, AgentQuery]) -> SignedUrl:
    """Get a signed URL for an agent of one of the account's templates.

    Every other agent is not found.
    """
    agent_id = call.query.agent_id
    return SignedUrl(signed_url=call.services.signed_urls.give(account_id=call.account_id, agent_id=agent_id))


@group.operation(
    "GET",
    f"{_PATH}/get_signed_url",
    access=Access.WRITE,
    query=AgentQuery,
    answers={200: SignedUrl},
    errors=(402, 404, 409, 502),
    is_slow=True,
)
def get_signed_url_by_its_older_path(call: Call[None, AgentQuery]) -> SignedUrl:
    """Get a signed URL for an agent, by the path of older clients."""
    return get_signed_url(call)
