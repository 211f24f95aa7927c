"""Keeping voice agents in step with their templates: one step for one template, safe to repeat after any crash.

What a step may have left at the provider is found again there: agents by a tag, tools by their names. So a crash
between the provider's answer and our commit leaves nothing behind that the next step does not take over.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from relay.agents import spec
from relay.agents.clients import Clients
from relay.agents.tools import marker, tool_prefix, tools
from relay.agents.webhooks import WorkspaceWebhooks
from relay.directory import Mirror
from relay.errors import NotFound, ProviderFailed, ProviderNotConfigured, ProviderUnavailable, Unavailable
from relay.providers.rest.elevenlabs import ElevenLabs, Tool
from relay.sealing import KeyRing
from relay.settings import Settings
from relay.store import templates, voice_agents
from relay.store.database import Database
from relay.store.templates import Template
from relay.store.voice_agents import AgentStatus, VoiceAgent
from relay.telemetry import logs

_FIRST_WAIT: Final = timedelta(seconds=15)
_LONGEST_WAIT: Final = timedelta(hours=1)
# Half an hour of trying; then again with every eighth try.
_ALARM_EVERY: Final = 8
# A template may change while its agent is on its way; whoever changes it that often waits for upkeep.
_ROUNDS: Final = 3
# Upkeep has other things to do: what is still due then is tried at its next bell.
_TURN_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class AgentState:
    """How far a template's agent has come. `code` says why it has not come further."""

    status: AgentStatus
    agent_id: str | None
    code: str | None


class Sync:
    """Brings agents to where their templates want them."""

    def __init__(self, settings: Settings, database: Database, ring: KeyRing, mirror: Mirror, clients: Clients) -> None:
        self._settings = settings
        self._database = database
        self._ring = ring
        self._mirror = mirror
        self._clients = clients
        self._webhooks = WorkspaceWebhooks(settings, database, ring, mirror)
        self._turn = threading.Lock()

    def template(self, account_id: str, template_id: int) -> AgentState:
        """One try for one template now, after the transaction that called `voice_agents.want` or `remove`.

        Never raises for trouble at the provider. While another process is at it, this only tells how things stand.
        Raises Unavailable when Postgres is away, NotFound for a template that never wanted an agent.
        """
        for _ in range(_ROUNDS):
            with self._database.begin() as connection:
                taken = voice_agents.take(connection, account_id=account_id, template_id=template_id)
            after = None if taken is None else self._try(taken)
            if taken is None or after is None or after.wanted == taken.wanted:
                break
        with self._database.begin() as connection:
            now = voice_agents.get(connection, account_id=account_id, template_id=template_id)
        if now is None:
            raise NotFound("this template has no agent")
        return AgentState(now.status, now.agent_id, now.code)

    def due(self, limit: int) -> int:
        """Try those whose time has come, at most `limit` and for some ten seconds; how many were tried. For upkeep."""
        if not self._turn.acquire(blocking=False):
            return 0
        try:
            ends_at, tried = time.monotonic() + _TURN_SECONDS, 0
            while tried < limit and time.monotonic() < ends_at:
                with self._database.begin() as connection:
                    taken = voice_agents.due(connection, 1)
                if not taken:
                    break
                self._try(taken[0])
                tried += 1
            return tried
        finally:
            self._turn.release()

    def _try(self, taken: VoiceAgent) -> VoiceAgent | None:
        """One try, and what became of it; None if the lease was lost."""
        try:
            return self._step(taken)
        except ProviderUnavailable as error:
            return self._postponed(taken, error.code)
        except (ProviderFailed, ProviderNotConfigured) as error:
            return self._refused(taken, error.code)
        except Unavailable:
            raise  # Postgres is away: nothing can be noted now, and the lease runs out
        except Exception as error:
            logs.failure("voice_agent_failed", error, account_id=taken.account_id, template_id=taken.template_id)
            return self._postponed(taken, "internal_error")

    def _step(self, taken: VoiceAgent) -> VoiceAgent | None:
        api = self._clients.elevenlabs(taken.account_id)
        template = self._template(taken)
        if template is None or not taken.created_here:
            _clear(api, taken)
            with self._database.begin() as connection:
                return voice_agents.cleared(connection, taken, is_gone=template is None)
        webhook_id = self._webhooks.ensure(taken.account_id, api)
        existing = api.find_tools(tool_prefix(taken.account_id, taken.template_id))
        tool_ids = _put_tools(api, existing, template, self._settings.public_url)
        retention = self._settings.retention
        body = spec.agent(template, webhook_id=webhook_id, tool_ids=tool_ids, retention=retention)
        agent_id = _put_agent(api, taken, body)
        for tool in existing:
            if tool.id not in tool_ids:
                api.delete_tool(tool.id)
        if taken.leftover_id is not None and taken.leftover_id != agent_id:
            api.delete_agent(taken.leftover_id)
        return self._synced(taken, agent_id)

    def _template(self, taken: VoiceAgent) -> Template | None:
        if taken.status == "removing":
            return None
        try:
            with self._database.begin() as connection:
                return templates.get(
                    connection,
                    self._ring,
                    account_id=taken.account_id,
                    template_id=taken.template_id,
                    with_hidden=True,
                )
        except NotFound:
            return None

    def _synced(self, taken: VoiceAgent, agent_id: str) -> VoiceAgent | None:
        with self._database.begin() as connection:
            after = voice_agents.synced(connection, taken, agent_id=agent_id)
            if after is None:
                voice_agents.strand(connection, taken, agent_id=agent_id)
        try:
            self._mirror.publish(self._database, taken.account_id)
        except Unavailable as error:
            # Upkeep mirrors it later; until then its events are the account's without being the template's.
            logs.warning("configuration_not_mirrored", account_id=taken.account_id, error=error)
        return after

    def _postponed(self, taken: VoiceAgent, code: str) -> VoiceAgent | None:
        _tell(taken, code)
        with self._database.begin() as connection:
            return voice_agents.postponed(connection, taken, code=code, wait=wait(taken.attempts))

    def _refused(self, taken: VoiceAgent, code: str) -> VoiceAgent | None:
        if taken.status == "removing":
            return self._postponed(taken, code)
        _tell(taken, code)
        with self._database.begin() as connection:
            return voice_agents.failed(connection, taken, code=code)


def wait(attempts: int) -> timedelta:
    """How long to wait after so many tries in a row that failed: 15 s, doubled each time, at most an hour. Pure."""
    return min(_FIRST_WAIT * (1 << min(attempts - 1, 16)), _LONGEST_WAIT)


def _put_agent(api: ElevenLabs, taken: VoiceAgent, body: spec.Json) -> str:
    """The agent as the body says: the one that is known, else one that an earlier try left behind, else a new one."""
    if taken.agent_id is not None and _has_updated(api, taken.agent_id, body):
        return taken.agent_id
    is_first = taken.agent_id is None and taken.attempts == 1
    found = [] if is_first else api.find_agents(marker(taken.account_id, taken.template_id))
    adopted = next((agent_id for agent_id in found if _has_updated(api, agent_id, body)), None)
    for agent_id in found:
        if agent_id != adopted:
            api.delete_agent(agent_id)
    return api.create_agent(body) if adopted is None else adopted


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


def _put_tools(api: ElevenLabs, existing: list[Tool], template: Template, public_url: str) -> list[str]:
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


def _clear(api: ElevenLabs, taken: VoiceAgent) -> None:
    """Delete everything that was made for the template; what the customer brought stays."""
    ours = [taken.leftover_id, taken.agent_id if taken.created_here else None]
    found = api.find_agents(marker(taken.account_id, taken.template_id))
    for agent_id in {one for one in (*ours, *found) if one is not None}:
        api.delete_agent(agent_id)
    for tool in api.find_tools(tool_prefix(taken.account_id, taken.template_id)):
        api.delete_tool(tool.id)


def _tell(taken: VoiceAgent, code: str) -> None:
    tell = logs.warning if taken.attempts % _ALARM_EVERY else logs.alarm
    event = "voice_agent_not_removed" if taken.status == "removing" else "voice_agent_not_synced"
    tell(event, account_id=taken.account_id, template_id=taken.template_id, code=code, attempt=taken.attempts)
