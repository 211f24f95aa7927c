"""Keeping voice agents in step with their templates: one step for one template, safe to repeat after any crash.

What a step may have left at the provider is found again there: agents by a tag, tools by their names. So a crash
between the provider's answer and our commit leaves nothing behind that the next step does not take over.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from relay.agents import spec
from relay.agents.clients import Clients
from relay.agents.tools import tool_prefix
from relay.agents.webhooks import WorkspaceWebhooks
from relay.agents.workspaces import Workspaces, put_tools
from relay.directory import Mirror
from relay.errors import (
    Forbidden,
    NotFound,
    ProviderFailed,
    ProviderNotConfigured,
    ProviderUnavailable,
    Unavailable,
)
from relay.sealing import KeyRing
from relay.settings import Settings
from relay.store import templates, voice_agents
from relay.store.database import Database
from relay.store.templates import Template
from relay.store.transfers import transferred_to
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
    """How far a template's agent has come. `code` says why it has not come further.

    `fields` are those of its body that the provider named when it refused them.
    """

    status: AgentStatus
    agent_id: str | None
    code: str | None
    fields: tuple[str, ...] = ()

    @property
    def bracketed(self) -> str:
        """The fields, to be put behind what was refused; nothing where there are none."""
        return f" ({', '.join(self.fields)})" if self.fields else ""


class Sync:
    """Brings agents to where their templates want them."""

    def __init__(self, settings: Settings, database: Database, ring: KeyRing, mirror: Mirror, clients: Clients) -> None:
        self._settings = settings
        self._database = database
        self._ring = ring
        self._mirror = mirror
        self._clients = clients
        self._webhooks = WorkspaceWebhooks(settings, database, ring, mirror)
        self._workspaces = Workspaces(database, ring, clients)
        self._turn = threading.Lock()
        # The accounts that upkeep has served since all others had their turn.
        self._served: set[str] = set()

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
        return AgentState(now.status, now.agent_id, now.code, tuple(now.refused_fields or ()))

    def due(self, limit: int) -> int:
        """Try those whose time has come, at most `limit` and for some ten seconds; how many were tried. For upkeep.

        Accounts take turns, so that none waits for another's long row of failures.
        """
        if not self._turn.acquire(blocking=False):
            return 0
        try:
            ends_at, tried = time.monotonic() + _TURN_SECONDS, 0
            while tried < limit and time.monotonic() < ends_at:
                taken = self._next()
                if taken is None:
                    break
                self._try(taken)
                tried += 1
            return tried
        finally:
            self._turn.release()

    def _next(self) -> VoiceAgent | None:
        with self._database.begin() as connection:
            found = voice_agents.due(connection, 1, passing_over=self._served)
            if not found and self._served:
                self._served.clear()
                found = voice_agents.due(connection, 1)
        if not found:
            return None
        self._served.add(found[0].account_id)
        return found[0]

    def _try(self, taken: VoiceAgent) -> VoiceAgent | None:
        """One try, and what became of it; None if the lease was lost."""
        try:
            return self._step(taken)
        except ProviderUnavailable as error:
            return self._postponed(taken, error.code)
        except ProviderFailed as error:
            return self._refused(taken, error.code, error.fields)
        except (ProviderNotConfigured, Forbidden) as error:
            return self._refused(taken, error.code)
        except Unavailable:
            raise  # Postgres is away: nothing can be noted now, and the lease runs out
        except Exception as error:
            logs.failure("voice_agent_failed", error, account_id=taken.account_id, template_id=taken.template_id)
            return self._postponed(taken, "internal_error")

    def _step(self, taken: VoiceAgent) -> VoiceAgent | None:
        template = self._template(taken)
        if template is None or not taken.created_here:
            self._workspaces.clear(self._workspaces.of(taken), taken)
            with self._database.begin() as connection:
                return voice_agents.cleared(connection, taken, is_gone=template is None)
        api, key = self._clients.elevenlabs_keyed(taken.account_id, about=transferred_to(template.config))
        webhook_id = self._webhooks.ensure(taken.account_id, api, template_id=taken.template_id)
        existing = api.find_tools(tool_prefix(taken.account_id, taken.template_id))
        entered = self._workspaces.entered(api, taken, key)
        if entered is None:
            return None
        taken = entered
        tool_ids = put_tools(api, existing, template, self._settings.public_url)
        retention = self._settings.retention
        marker = self._workspaces.marker(taken)
        body = spec.agent(template, marker=marker, webhook_id=webhook_id, tool_ids=tool_ids, retention=retention)
        agent_id = self._workspaces.put_agent(api, taken, body)
        for tool in existing:
            if tool.id not in tool_ids:
                api.delete_tool(tool.id)
        self._workspaces.drop_leftover(api, taken, agent_id)
        return self._synced(taken, agent_id, is_mirrored=not template.hidden)

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

    def _synced(self, taken: VoiceAgent, agent_id: str, *, is_mirrored: bool) -> VoiceAgent | None:
        with self._database.begin() as connection:
            after = voice_agents.synced(connection, taken, agent_id=agent_id)
            if after is None:
                voice_agents.strand(connection, taken, agent_id=agent_id)
        if not is_mirrored:
            return after
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

    def _refused(self, taken: VoiceAgent, code: str, fields: Sequence[str] = ()) -> VoiceAgent | None:
        if taken.status == "removing":
            return self._postponed(taken, code)
        _tell(taken, code)
        with self._database.begin() as connection:
            return voice_agents.failed(connection, taken, code=code, fields=fields)


def wait(attempts: int) -> timedelta:
    """How long to wait after so many tries in a row that failed: 15 s, doubled each time, at most an hour. Pure."""
    return min(_FIRST_WAIT * (1 << min(attempts - 1, 16)), _LONGEST_WAIT)


def _tell(taken: VoiceAgent, code: str) -> None:
    tell = logs.warning if taken.attempts % _ALARM_EVERY else logs.alarm
    event = "voice_agent_not_removed" if taken.status == "removing" else "voice_agent_not_synced"
    tell(event, account_id=taken.account_id, template_id=taken.template_id, code=code, attempt=taken.attempts)
