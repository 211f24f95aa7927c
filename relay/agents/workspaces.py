"""What is at ElevenLabs for a template, and in whose workspace: put there, found again after a crash, and cleared.

Accounts share the operator's workspace. So what is found there is known by a mark that nobody can guess, and what
another template has is never touched. What was made with one key is deleted with that key.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from relay.agents import spec
from relay.agents.clients import Clients
from relay.agents.tools import markers, tool_prefix, tools
from relay.errors import ProviderFailed, ProviderNotConfigured
from relay.providers.rest.elevenlabs import ElevenLabs, Tool
from relay.sealing import KeyRing
from relay.store import ownership, voice_agents
from relay.store.database import Database
from relay.store.templates import Template
from relay.store.voice_agents import VoiceAgent
from relay.telemetry import logs

_KEY_GONE: Final = "provider_key_gone"


class Workspaces:
    """Does what a step needs. Every method raises ProviderFailed, ProviderUnavailable and Unavailable."""

    def __init__(self, database: Database, ring: KeyRing, clients: Clients) -> None:
        self._database = database
        self._ring = ring
        self._clients = clients

    def of(self, taken: VoiceAgent) -> ElevenLabs:
        """Where the agent was made. Raises ProviderNotConfigured `provider_key_gone`.

        A new key of the same workspace opens it, too: it sees the agent.
        """
        api = self._clients.elevenlabs_by(taken.account_id, taken.made_with)
        if api is None:
            with suppress(ProviderNotConfigured):
                now = self._clients.elevenlabs(taken.account_id)
                api = now if _sees(now, taken) else None
        if api is None:
            raise ProviderNotConfigured("the key that made this agent is gone", code=_KEY_GONE)
        return api

    def entered(self, api: ElevenLabs, taken: VoiceAgent, key: bytes | None) -> VoiceAgent | None:
        """Note that what follows is made with this key, before anything is; None if the lease was lost.

        What was made in the workspace of another key is cleared first.
        """
        if taken.made_with == key:
            return taken
        is_left = bool(taken.known_ids or taken.attempts > 1) and not _sees(api, taken)
        if is_left:
            self._clear_former(taken)
        with self._database.begin() as connection:
            return voice_agents.keyed(connection, taken, made_with=key, forgets=is_left)

    def put_agent(self, api: ElevenLabs, taken: VoiceAgent, body: spec.Json) -> str:
        """The agent as the body says: the one that is known, else one that an earlier try left, else a new one."""
        if taken.agent_id is not None and _has_updated(api, taken.agent_id, body):
            return taken.agent_id
        is_first = taken.agent_id is None and taken.attempts == 1
        found = [] if is_first else self._free(taken, self._marked(api, taken))
        adopted = next((agent_id for agent_id in found if _has_updated(api, agent_id, body)), None)
        for agent_id in found:
            if agent_id != adopted:
                api.delete_agent(agent_id)
        return api.create_agent(body) if adopted is None else adopted

    def drop_leftover(self, api: ElevenLabs, taken: VoiceAgent, agent_id: str) -> None:
        """Delete an agent of ours that is wanted no more, now that there is `agent_id`."""
        if taken.leftover_id not in (None, agent_id):
            for leftover_id in self._free(taken, [taken.leftover_id]):
                api.delete_agent(leftover_id)

    def clear(self, api: ElevenLabs, taken: VoiceAgent) -> None:
        """Delete everything that was made for the template; what the customer brought stays."""
        for agent_id in self._free(taken, [*taken.known_ids, *self._marked(api, taken)]):
            api.delete_agent(agent_id)
        for tool in api.find_tools(tool_prefix(taken.account_id, taken.template_id)):
            api.delete_tool(tool.id)

    def marker(self, taken: VoiceAgent) -> str:
        """The tag that the agent is to have."""
        return markers(self._ring, taken.account_id, taken.template_id)[0]

    def _clear_former(self, taken: VoiceAgent) -> None:
        former = self._clients.elevenlabs_by(taken.account_id, taken.made_with)
        if former is not None:
            try:
                self.clear(former, taken)
            except ProviderFailed:
                if taken.known_ids:
                    raise  # else it is not even known that there is anything
        elif taken.known_ids:
            ids = {"account_id": taken.account_id, "template_id": taken.template_id}
            logs.alarm("voice_agent_not_removed", **ids, code=_KEY_GONE, attempt=taken.attempts)

    def _marked(self, api: ElevenLabs, taken: VoiceAgent) -> list[str]:
        tags = markers(self._ring, taken.account_id, taken.template_id)
        return [agent_id for tag in tags for agent_id in api.find_agents(tag)]

    def _free(self, taken: VoiceAgent, agent_ids: list[str]) -> list[str]:
        """Each of these once, but for those that another template has."""
        with self._database.begin() as connection:
            held = ownership.held_by_others(
                connection,
                account_id=taken.account_id,
                template_id=taken.template_id,
                provider=taken.provider,
                agent_ids=agent_ids,
            )
        return [agent_id for agent_id in dict.fromkeys(agent_ids) if agent_id not in held]


def put_tools(api: ElevenLabs, existing: list[Tool], template: Template, public_url: str) -> list[str]:
    """The ids of the template's tools, which are now as it wants them."""
    known = {tool.name: tool.id for tool in existing}
    ids = []
    for config in tools(template, public_url=public_url):
        tool_id = known.get(config["name"])
        if tool_id is None:
            tool_id = api.create_tool(config)
        else:
            api.update_tool(tool_id, config)
        ids.append(tool_id)
    return ids


def _sees(api: ElevenLabs, taken: VoiceAgent) -> bool:
    return any(api.has_agent(agent_id) for agent_id in taken.known_ids)


def _has_updated(api: ElevenLabs, agent_id: str, body: spec.Json) -> bool:
    """Whether the agent is still there, and is now as the body says."""
    try:
        api.update_agent(agent_id, body)
    except ProviderFailed as error:
        # A webhook or a tool that it names may be what was not found: then the agent must not be taken for gone.
        if error.provider_status != 404 or api.has_agent(agent_id):
            raise
        return False
    return True
