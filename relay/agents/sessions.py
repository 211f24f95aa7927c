"""Starting conversations: a session of ours first, then what a client needs to join it at the provider.

The session is there, and known to the ingress, before the provider is asked: a webhook may come before its answer. If
the provider does not take it, the session has failed with the error's code, and nothing is charged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from relay.agents.agora import AgoraAgents
from relay.agents.clients import Clients
from relay.agents.sync import Sync
from relay.agents.tools import SESSION_VARIABLE
from relay.directory import Mirror
from relay.errors import BadRequest, Conflict, NotFound, SwitchhookError, Unavailable
from relay.providers.rest import agora
from relay.sealing import KeyRing
from relay.store import sessions, templates, voice_agents
from relay.store.database import Database
from relay.store.sessions import AWAITED, Session
from relay.store.templates import Template

# A signed URL of ElevenLabs opens one conversation within this time (ElevenLabs docs, "Signed URLs").
SIGNED_URL_SECONDS: Final = 900


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """Where an agent of Agora is to join: the project, the agent's name, its properties, and what goes beside them."""

    appid: str
    name: str
    properties: Mapping[str, Any] = field(repr=False)
    more: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A pending session, and what opens it: by provider a signed URL, a Retell web call, or an agent that joined."""

    session: Session
    signed_url: str | None = field(default=None, repr=False)
    call_id: str | None = None
    access_token: str | None = field(default=None, repr=False)
    agent: agora.Started | None = None

    @property
    def variables(self) -> dict[str, str]:
        """The dynamic variables that the client has to pass on, so that webhooks name this session."""
        return {SESSION_VARIABLE: str(self.session.id)}


class Sessions:
    """Starts sessions. Every method raises NotFound, Conflict, ProviderFailed and Unavailable."""

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
        agent_id = template.agent_id if template.provider == "retell" else self._ready_agent(template)
        if agent_id is None:
            raise Conflict("this template has no agent", code="agent_missing")
        with self._database.begin() as connection:
            session = sessions.create(
                connection,
                account_id=account_id,
                provider=template.provider,
                template_id=template.id,
                agent_id=agent_id,
                metadata=metadata,
                text_only=text_only,
            )
        try:
            self._mirror.remember_session(account_id, session.id, template.id, lifetime=AWAITED)
            if template.provider == "retell":
                return self._call(session, agent_id)
            return Started(session=session, signed_url=self._clients.elevenlabs(account_id).signed_url(agent_id))
        except SwitchhookError as error:
            self._fail(session, error)

    def signed_url(self, *, account_id: str, agent_id: str, session_id: int | None = None) -> str:
        """A URL that opens a conversation with an agent of one of the account's templates at ElevenLabs.

        Raises NotFound for every other agent, and for a session that is not this account's.
        """
        with self._database.begin() as connection:
            if session_id is not None:
                sessions.get(connection, account_id=account_id, session_id=session_id)
            if not templates.has_agent(connection, account_id=account_id, provider="elevenlabs", agent_id=agent_id):
                raise NotFound("this account has no agent by this id")
        return self._clients.elevenlabs(account_id).signed_url(agent_id)

    def _ready_agent(self, template: Template) -> str | None:
        """The agent as the template wants it, tried once more if it is not there yet."""
        with self._database.begin() as connection:
            known = voice_agents.get(connection, account_id=template.account_id, template_id=template.id)
            if known is None and template.agent_id is None:
                voice_agents.want(
                    connection, account_id=template.account_id, template_id=template.id, provider=template.provider
                )
            elif known is None or known.status == "synced":
                return template.agent_id
        state = self._sync.template(template.account_id, template.id)
        if state.status == "failed":
            raise Conflict(
                "the provider refused this template's agent; its syncCode says more, and changing the template tries "
                "again", code="agent_refused"
            )  # fmt: skip
        if state.status != "synced":
            raise Unavailable("the provider does not have this template's agent yet", code="agent_not_ready")
        return state.agent_id

    def _call(self, session: Session, agent_id: str) -> Started:
        variables = Started(session=session).variables
        client = self._clients.retell(session.account_id)
        call = client.create_web_call(agent_id, metadata=variables, dynamic_variables=variables)
        with self._database.begin() as connection:
            sessions.begun(
                connection,
                account_id=session.account_id,
                session_id=session.id,
                conversation_id=call.call_id,
                status="pending",
            )
        return Started(session=session, call_id=call.call_id, access_token=call.access_token)

    def _join(self, template: Template, channel: Channel, *, metadata: Mapping[str, Any] | None) -> Started:
        joined = AgoraAgents(self._database, self._mirror, self._clients).join(
            template.account_id,
            channel.appid,
            channel.name,
            channel.properties,
            more=channel.more,
            template_id=template.id,
            metadata=metadata,
        )
        with self._database.begin() as connection:
            session = sessions.get(connection, account_id=template.account_id, session_id=joined.session_id)
        return Started(session=session, agent=joined.started)

    def _fail(self, session: Session, error: SwitchhookError) -> NoReturn:
        with self._database.begin() as connection:
            sessions.fail(connection, account_id=session.account_id, session_id=session.id, code=error.code)
        raise error
