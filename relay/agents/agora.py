"""Agents in Agora's channels: each is a session of its account, charged by what Agora tells of its end.

A session is there, and known to the ingress, before Agora is asked, and its agent carries the session's id and the
account's in labels, which come back in every notification. So if this process ends, or Postgres does, between Agora's
answer and its record, the agent is still whose it is: it becomes active and is charged. It can only not be steered.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NoReturn

from msgspec.structs import replace

from billing.reservations import open_session
from relay.agents.clients import Clients
from relay.directory import Mirror
from relay.errors import BadRequest, Conflict, NotFound, ProviderFailed, SwitchhookError
from relay.providers.agora import ACCOUNT_LABEL, NAME, SESSION_LABEL, TEMPLATE_LABEL
from relay.providers.rest.agora import Started, State, Told
from relay.store import agora_agents, sessions
from relay.store.agora_agents import STOPPED, AgoraPage
from relay.store.database import Database
from relay.store.sessions import AWAITED, Session
from relay.telemetry import logs

STATES: Final = {
    "IDLE": 0,
    "STARTING": 1,
    "RUNNING": 2,
    "STOPPING": 3,
    "STOPPED": STOPPED,
    "RECOVERING": 5,
    "FAILED": 6,
}
_OVER: Final = frozenset({"STOPPED", "FAILED"})
# What Agora answers where the request is wrong and not its sender's right or its state.
_CALLERS_MISTAKE: Final = frozenset({400, 422})
_OURS: Final = "switchhook_"
# What may stand in Agora's paths; anything else is nobody's.
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,256}")


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinedAgent:
    """An agent that joined, and the session that it is: as it will be recorded, if Postgres is away meanwhile."""

    session: Session
    started: Started

    @property
    def session_id(self) -> int:
        """The session's id."""
        return self.session.id


class AgoraAgents:
    """Starts and steers agents. Every method raises NotFound, Conflict, ProviderFailed and Unavailable.

    Calls are made with the account's own key where it has stored one, else with ours: ProviderNotConfigured without
    either, and with ours Forbidden `project_not_granted` for a project that is not granted to the account. Agents of
    other accounts, and other projects, are not found.
    """

    def __init__(self, database: Database, mirror: Mirror, clients: Clients) -> None:
        self._database = database
        self._mirror = mirror
        self._clients = clients

    def join(
        self,
        account_id: str,
        appid: str,
        name: str,
        properties: Mapping[str, Any],
        *,
        more: Mapping[str, Any] | None = None,
        template_id: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> JoinedAgent:
        """Have an agent join `properties["channel"]`. `more` goes beside the properties, as Agora documents it.

        Labels of ours that the caller gave are dropped. Raises Conflict `agent_name_taken` while an agent by this name
        is live in this account and project, BudgetExceeded, and BadRequest for what Agora refuses. If Agora does not
        take it, the session has failed, with the error's code, and nothing is charged.
        """
        _checked(appid)
        client, own_key = self._clients.agora_keyed(account_id, about=(appid,))
        channel = str(properties["channel"])
        with self._database.begin() as connection:
            session = open_session(
                connection,
                account_id=account_id,
                provider=NAME,
                own_key=own_key is not None,
                template_id=template_id,
                metadata=metadata,
            )
            session_id = session.id
            agora_agents.claim(
                connection, account_id=account_id, appid=appid, name=name, channel=channel, session_id=session_id
            )
        labels = _labelled(
            properties.get("labels"), account_id=account_id, session_id=session_id, template_id=template_id
        )
        body = {**(more or {}), "name": name, "properties": {**properties, "labels": labels}}
        try:
            self._mirror.remember_session(account_id, session_id, template_id, lifetime=AWAITED)
            with _told():
                started = client.join(appid, body)
        except SwitchhookError as error:
            self._fail(account_id, session_id, error)
        self._note(account_id, session_id, started)
        # Not read again: an agent that has joined is answered whether or not Postgres still is there.
        known = replace(session, conversation_id=started.agent_id, agent_id=started.agent_id)
        return JoinedAgent(session=known, started=started)

    def leave(self, account_id: str, appid: str, agent_id: str) -> None:
        """Have an agent leave; its session ends when Agora says that it has."""
        session_id = self._session_of(account_id, appid, agent_id)
        client = self._clients.agora(account_id)  # whatever is granted by now: what has begun must be able to end
        try:
            with _told():
                client.leave(appid, agent_id)
        except NotFound:
            self._release(account_id, session_id)  # it has left before
            raise
        self._release(account_id, session_id)

    def update(self, account_id: str, appid: str, agent_id: str, properties: Mapping[str, Any]) -> Started:
        """Change an agent's token and model parameters. Labels stay as they are."""
        self._session_of(account_id, appid, agent_id)
        kept = {name: value for name, value in properties.items() if name != "labels"}
        with _told():
            return self._clients.agora(account_id, about=(appid,)).update(appid, agent_id, kept)

    def interrupt(self, account_id: str, appid: str, agent_id: str) -> Told:
        """Stop an agent's speech and thought."""
        self._session_of(account_id, appid, agent_id)
        with _told():
            return self._clients.agora(account_id, about=(appid,)).interrupt(appid, agent_id)

    def speak(self, account_id: str, appid: str, agent_id: str, words: Mapping[str, Any]) -> Told:
        """Have an agent say something. What it is to say is content: it is passed on and not kept."""
        self._session_of(account_id, appid, agent_id)
        with _told():
            return self._clients.agora(account_id, about=(appid,)).speak(appid, agent_id, words)

    def status(self, account_id: str, appid: str, agent_id: str) -> State:
        """How an agent is, by Agora's word. The name of one that is over can be used again."""
        session_id = self._session_of(account_id, appid, agent_id)
        with _told():
            state = self._clients.agora(account_id, about=(appid,)).status(appid, agent_id)
        if state.status in _OVER:
            self._release(account_id, session_id)
        return state

    def listed(
        self,
        account_id: str,
        appid: str,
        *,
        states: frozenset[int],
        since: datetime,
        until: datetime,
        channel: str | None = None,
        before: int | None = None,
        limit: int = 20,
    ) -> AgoraPage:
        """The account's agents, by what is known here: Agora's own list has those of every account on one key."""
        _checked(appid)
        with self._database.begin() as connection:
            return agora_agents.page(
                connection,
                account_id=account_id,
                appid=appid,
                states=states,
                since=since,
                until=until,
                channel=channel,
                before=before,
                limit=limit,
            )

    def _session_of(self, account_id: str, appid: str, agent_id: str) -> int:
        _checked(appid)
        _checked(agent_id)
        with self._database.begin() as connection:
            return agora_agents.find(connection, account_id=account_id, appid=appid, agent_id=agent_id).session_id

    def _release(self, account_id: str, session_id: int) -> None:
        with self._database.begin() as connection:
            agora_agents.release(connection, account_id=account_id, session_id=session_id)

    def _fail(self, account_id: str, session_id: int, error: SwitchhookError) -> NoReturn:
        with self._database.begin() as connection:
            sessions.fail(connection, account_id=account_id, session_id=session_id, code=error.code)
        raise error

    def _note(self, account_id: str, session_id: int, started: Started) -> None:
        """Record what Agora answered. The agent has joined whether or not that succeeds."""
        agent_id = started.agent_id
        try:
            with self._database.begin() as connection:
                agora_agents.joined(connection, account_id=account_id, session_id=session_id, agent_id=agent_id)
                sessions.begun(
                    connection,
                    account_id=account_id,
                    session_id=session_id,
                    conversation_id=agent_id,
                    agent_id=agent_id,
                    status="pending",
                )
        except SwitchhookError as error:
            logs.alarm("agent_not_recorded", provider=NAME, account_id=account_id, session_id=session_id, error=error)


def _labelled(given: object, *, account_id: str, session_id: int, template_id: int | None) -> dict[str, str]:
    """The caller's labels, and ours, which nobody else may write: events are given to whom they name."""
    labels = dict(given) if isinstance(given, Mapping) else {}
    labels = {name: value for name, value in labels.items() if not str(name).lower().startswith(_OURS)}
    labels |= {ACCOUNT_LABEL: account_id, SESSION_LABEL: str(session_id)}
    return labels if template_id is None else labels | {TEMPLATE_LABEL: str(template_id)}


def _checked(part: str) -> None:
    if not _ID.fullmatch(part):
        raise NotFound("this account has no agent by this id in this project")


@contextmanager
def _told() -> Iterator[None]:
    """Agora's refusals as our callers know them: its statuses, in our words."""
    try:
        yield
    except ProviderFailed as error:
        if error.provider_status == 404:
            raise NotFound("Agora knows no such agent or project, or it has left", code=error.code) from None
        if error.provider_status == 409:
            raise Conflict("Agora has an agent by this name, or it is not ready for this", code=error.code) from None
        if error.provider_status in _CALLERS_MISTAKE:
            raise BadRequest("Agora refused the request; check its properties", code=error.code) from None
        raise
