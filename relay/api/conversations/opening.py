"""Opening a conversation: template, agent, signed URL, session. What fails on the way leaves nothing behind."""

from __future__ import annotations

from relay.agents.sync import AgentState
from relay.api.conversations import models
from relay.api.conversations.models import NewConversation, OpenedConversation
from relay.api.core.operations import Call
from relay.errors import ProviderFailed, ProviderNotConfigured, ProviderUnavailable, SwitchhookError


def open_conversation(call: Call[NewConversation, None]) -> OpenedConversation:
    """Have an agent made, and a session for it.

    Raises ProviderUnavailable, ProviderFailed, ProviderNotConfigured, Unavailable.
    """
    services, account_id = call.services, call.account_id
    provisioning = call.provisioning
    template = provisioning.prepare_conversation(account_id=account_id, config=models.template_config(call.body))
    try:
        agent_id = _agent_of(services.sync.template(account_id, template.id))
        signed_url = services.clients.elevenlabs(account_id).signed_url(agent_id)
        conversation = provisioning.open_conversation(template, agent_id=agent_id)
    except SwitchhookError:
        provisioning.drop_conversation(template)
        services.sync.template(account_id, template.id)
        raise
    return models.opened(conversation, template, signed_url=signed_url)


def _agent_of(state: AgentState) -> str:
    """The agent, if the provider has it as it should be; else what is in its way."""
    if state.status == "synced" and state.agent_id is not None:
        return state.agent_id
    if state.code == ProviderNotConfigured.code:
        raise ProviderNotConfigured
    if state.code is None or state.status == "pending":
        raise ProviderUnavailable
    text = f"the provider refused to make this conversation's agent{state.bracketed}"
    raise ProviderFailed(text, code=state.code, fields=state.fields)
