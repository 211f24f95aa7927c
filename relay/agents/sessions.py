"""Starting conversations: a session of ours first, then what a client needs to join it at the provider.

The session is there, and known to the ingress, before the provider is asked: a webhook may come before its answer. If
the provider does not take it, the session has failed with the error's code, and nothing is charged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from billing import reservations
from relay.agents.agora import AgoraAgents
from relay.agents.clients import Clients
from relay.agents.prompting import prompted
from relay.agents.signed_urls import agents_of
from relay.agents.sync import Sync
from relay.agents.tools import SESSION_VARIABLE
from relay.directory import Mirror
from relay.errors import BadRequest, Conflict, NotFound, SwitchhookError, Unavailable
from relay.providers.rest import agora
from relay.providers.rest.retell import WebCall, WebCallVersion
from relay.sealing import KeyRing
from relay.store import sessions, signed_urls, templates, voice_agents
from relay.store.database import Database
from relay.store.sessions import AWAITED, Session
from relay.store.templates import Template
from relay.telemetry import logs


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """Where an agent of Agora is to join: the project, the agent's name, its properties, and what goes beside them."""

    appid: str
    name: str
    properties: Mapping[str, Any] = field(repr=False)
    more: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebCallWish:
    """What goes to Retell beside the agent when a web call is begun, and for which of its web clients."""

    metadata: Mapping[str, Any] | None = field(default=None, repr=False)
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    more: Mapping[str, Any] = field(default_factory=dict, repr=False)
    version: WebCallVersion = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A pending session, and what opens it: by provider a signed URL, a Retell web call, or an agent that joined."""

    session: Session
    signed_url: str | None = field(default=None, repr=False)
    web_call: WebCall | None = None
    agent: agora.Started | None = None

    @property
    def variables(self) -> dict[str, str]:
        """The dynamic variables that the client has to pass on, so that webhooks name this session."""
        return {SESSION_VARIABLE: str(self.session.id)}


class Sessions:
    """Starts sessions. Every method raises NotFound, Conflict, BudgetExceeded, ProviderFailed and Unavailable.

    And Forbidden, where it is the operator's key that is used, for agents and projects that the account may not use.
    """

    def __init__(self, database: Database, ring: KeyRing, mirror: Mirror, clients: Clients, sync: Sync) -> None:
        self._database = database
        self._ring = ring
        self._mirror = mirror
        self._clients = clients
        self._sync = sync

    def start(
        self,
        *,
        account_id: str,
        template_id: int,
        metadata: Mapping[str, Any] | None = None,
        text_only: bool = False,
        channel: Channel | None = None,
    ) -> Started:
        """Start a session of a template; `channel` is for Agora's, and only for them.

        An agent that its provider does not have yet gets one more try: Unavailable `agent_not_ready` if that does not
        help, Conflict `agent_refused` if the provider will not have it.
        """
        with self._database.begin() as connection:
            template = templates.get(connection, self._ring, account_id=account_id, template_id=template_id)
        if (template.provider == "agora") != (channel is not None):
            raise BadRequest("templates for Agora, and no others, are started with agora", field="agora")
        if channel is not None:
            return self._join(template, channel, metadata=metadata)
        if template.provider == "retell":
            session, call = self._call(template, WebCallWish(), metadata=metadata, text_only=text_only)
            return Started(session=session, web_call=call)
        agent_id = _present(self._ready_agent(template))
        client, key = self._clients.elevenlabs_keyed(account_id, about=agents_of(template, agent_id))
        session = self._new(template, agent_id, own_key=key is not None, metadata=metadata, text_only=text_only)
        with self._beginning(session):
            signed_url = client.signed_url(agent_id)
            if session.reserved is not None:  # the next one waits until this one has expired
                with self._database.begin() as connection:
                    signed_urls.given(connection, account_id=account_id, session_id=session.id)
        return Started(session=session, signed_url=signed_url)

    def start_web_call(self, *, account_id: str, agent_id: str, wish: WebCallWish) -> tuple[Session, WebCall]:
        """Start a session of the template that has this agent at Retell, with the call's metadata as its own.

        Raises NotFound for every other agent.
        """
        with self._database.begin() as connection:
            template_id = templates.id_of_agent(connection, account_id=account_id, provider="retell", agent_id=agent_id)
            if template_id is None:
                raise NotFound("this account has no agent by this id")
            template = templates.get(connection, self._ring, account_id=account_id, template_id=template_id)
        return self._call(template, wish, metadata=wish.metadata)

    def _ready_agent(self, template: Template) -> str | None:
        """The agent as the template wants it, tried once more if it is not there yet, or is where another key leads."""
        _, key = self._clients.elevenlabs_keyed(template.account_id)
        with self._database.begin() as connection:
            known = voice_agents.get(connection, account_id=template.account_id, template_id=template.id)
            is_brought = not known.created_here if known else template.agent_id is not None
            if is_brought or (known and known.status == "synced" and known.made_with == key):
                return template.agent_id
            if known is None or known.status == "synced":
                voice_agents.want(
                    connection, account_id=template.account_id, template_id=template.id, provider=template.provider
                )
        state = self._sync.template(template.account_id, template.id)
        if state.status == "failed":
            raise Conflict(
                f"the provider refused this template's agent{state.bracketed}; its syncCode says more, and changing "
                "the template tries again", code="agent_refused"
            )  # fmt: skip
        if state.status != "synced":
            raise Unavailable("the provider does not have this template's agent yet", code="agent_not_ready")
        return state.agent_id

    def _call(
        self, template: Template, wish: WebCallWish, *, metadata: Mapping[str, Any] | None, text_only: bool = False
    ) -> tuple[Session, WebCall]:
        agent_id = _present(template.agent_id)
        client, key = self._clients.retell_keyed(template.account_id, about=(agent_id,))
        session = self._new(
            template, agent_id, own_key=key is not None, key_taken=False, metadata=metadata, text_only=text_only
        )
        named = Started(session=session).variables
        with self._beginning(session):
            call = client.create_web_call(
                agent_id,
                metadata={**(wish.metadata or {}), **named},
                dynamic_variables={**wish.variables, **named},
                more=wish.more,
                version=wish.version,
            )
        self._note(session, call, own_key=key is not None)
        return session, call

    def _note(self, session: Session, call: WebCall, *, own_key: bool) -> None:
        """Keep the call's id, and whose key began it: nobody joins before that.

        If that fails the call is there all the same: its webhooks name the session.
        """
        try:
            with self._database.begin() as connection:
                sessions.begun(
                    connection,
                    account_id=session.account_id,
                    session_id=session.id,
                    conversation_id=call.call_id,
                    status="pending",
                    own_key=own_key,
                )
        except Unavailable as error:
            logs.alarm("call_not_recorded", account_id=session.account_id, session_id=session.id, error=error)

    def _join(self, template: Template, channel: Channel, *, metadata: Mapping[str, Any] | None) -> Started:
        joined = AgoraAgents(self._database, self._mirror, self._clients).join(
            template.account_id,
            channel.appid,
            channel.name,
            prompted(template, channel.properties),
            more=channel.more,
            template_id=template.id,
            metadata=metadata,
        )
        return Started(session=joined.session, agent=joined.started)

    def _new(
        self,
        template: Template,
        agent_id: str,
        *,
        own_key: bool,
        key_taken: bool = True,
        metadata: Mapping[str, Any] | None,
        text_only: bool,
    ) -> Session:
        with self._database.begin() as connection:
            return reservations.open_session(
                connection,
                account_id=template.account_id,
                provider=template.provider,
                template_id=template.id,
                agent_id=agent_id,
                own_key=own_key,
                key_taken=key_taken,
                metadata=metadata,
                text_only=text_only,
            )

    @contextmanager
    def _beginning(self, session: Session) -> Iterator[None]:
        """Have the ingress know the session; what keeps it from beginning ends it."""
        try:
            self._mirror.remember_session(session.account_id, session.id, session.template_id, lifetime=AWAITED)
            yield
        except SwitchhookError as error:
            with self._database.begin() as connection:
                sessions.fail(connection, account_id=session.account_id, session_id=session.id, code=error.code)
            raise


def _present(agent_id: str | None) -> str:
    if agent_id is None:
        raise Conflict("this template has no agent", code="agent_missing")
    return agent_id
