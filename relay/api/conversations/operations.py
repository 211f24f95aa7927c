"""`/v1/conversations`: create, read and delete; the stream itself is the provider's."""

from __future__ import annotations

from relay.api.conversations import models
from relay.api.conversations.models import ConversationView, NewConversation, OpenedConversation
from relay.api.conversations.opening import open_conversation
from relay.api.core.access import Access
from relay.api.core.families import CONVERSATIONS
from relay.api.core.operations import Call, Group
from relay.errors import NotImplementedYet

group = Group(CONVERSATIONS, tag="Conversations")


@group.operation(
    "POST",
    "/v1/conversations/create",
    access=Access.WRITE,
    body=NewConversation,
    answers={201: OpenedConversation},
    errors=(402, 502),
    is_slow=True,
)
def create_conversation(call: Call[NewConversation, None]) -> OpenedConversation:
    """Create a conversation and the voice agent that holds it.

    Connect to `signed_url` with a client of ElevenLabs within 15 minutes. While the provider does not answer this is
    503 and nothing is left behind: try again.
    """
    return open_conversation(call)


@group.operation("GET", "/v1/conversations/<session_id>", access=Access.READ, answers={200: ConversationView})
def get_conversation(call: Call[None, None], session_id: str) -> ConversationView:
    """Show a conversation: its configuration and how it stands.

    `turns` is always empty: what was said is not kept. A deleted one can be read for 30 days.
    """
    number = models.session_id_of(session_id)
    return models.view(call.services.provisioning.conversation(account_id=call.account_id, session_id=number))


@group.operation("DELETE", "/v1/conversations/<session_id>", access=Access.WRITE, answers={204: None}, is_slow=True)
def delete_conversation(call: Call[None, None], session_id: str) -> None:
    """Delete a conversation: no call can be begun any more.

    A call that is under way ends by itself, and is still delivered and charged. Doing it twice changes nothing.
    """
    number = models.session_id_of(session_id)
    ended = call.provisioning.end_conversation(account_id=call.account_id, session_id=number)
    call.services.sync.template(call.account_id, ended.template_id)


@group.operation(
    "GET", "/v1/conversations/<session_id>/stream", access=Access.READ, answers={}, errors=(501,), takes_websockets=True
)
def stream_conversation(call: Call[None, None], session_id: str) -> None:
    """Not built yet: the audio goes to the provider's own WebSocket, `signed_url`."""
    number = models.session_id_of(session_id)
    call.services.provisioning.conversation(account_id=call.account_id, session_id=number)
    raise NotImplementedYet(
        "audio does not pass through here yet: connect to the signed_url that creating the conversation answered"
    )
