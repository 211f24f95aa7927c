"""Conversations without a template: a hidden template and its agent first, the session once there is an agent.

There may be thousands a day: none of these changes touches the account's version, or what is mirrored of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from billing import reservations
from relay.errors import NotFound
from relay.provisioning.changes import Changes
from relay.store import conversations, sessions, shown, templates, voice_agents
from relay.store.conversations import PROVIDER, Conversation, ConversationTemplate
from relay.store.sessions import AWAITED
from relay.store.templates import Template
from relay.telemetry import logs


class ConversationChanges(Changes):
    """Makes and ends conversations."""

    def prepare_conversation(self, *, account_id: str, config: Mapping[str, Any]) -> Template:
        """A hidden template whose agent is wanted; its `session_id` is that of the session to be.

        Raises BudgetExceeded: no agent is made for what cannot begin.
        """
        with self._database.begin() as connection:
            reservations.check(connection, account_id=account_id, provider=PROVIDER)
        with self._locked(account_id) as connection:
            session_id = sessions.next_id(connection)
            made = templates.create(
                connection,
                self._ring,
                account_id=account_id,
                name=f"Conversation {session_id}",
                type="conversation",
                config=config,
                provider=PROVIDER,
                hidden=True,
                session_id=session_id,
            )
            voice_agents.want(connection, account_id=account_id, template_id=made.template.id, provider=PROVIDER)
            return made.template

    def open_conversation(self, template: Template, *, agent_id: str) -> Conversation:
        """The session of a prepared conversation, once the agent is there. Raises BudgetExceeded, Unavailable."""
        account_id, session_id = template.account_id, template.session_id
        if session_id is None:
            raise NotFound("this template is no conversation's")
        with self._database.begin() as connection:
            agent = voice_agents.get(connection, account_id=account_id, template_id=template.id)
            reservations.open_session(
                connection,
                account_id=account_id,
                provider=PROVIDER,
                own_key=agent is not None and agent.made_with is not None,
                template_id=template.id,
                agent_id=agent_id,
                session_id=session_id,
            )
            opened = conversations.get(connection, account_id=account_id, session_id=session_id)
            self._audit_conversation(connection, "conversation.created", after=opened)
            # Before the commit: a session that the ingress was not told of is never there.
            behind = ConversationTemplate(id=template.id, name=template.name, agent_id=agent_id, session_id=session_id)
            self._mirror.conversations.remember(account_id, behind, lifetime=AWAITED)
        return opened

    def drop_conversation(self, template: Template) -> None:
        """Have nothing left of a prepared conversation: its agent, if one was made after all, is removed."""
        self._retire(template.account_id, template.id)

    def end_conversation(self, *, account_id: str, session_id: int) -> Conversation:
        """Delete a conversation: its agent is due to be removed. Again: nothing more happens. Raises NotFound."""

        with self._locked(account_id) as connection:
            before = conversations.get(connection, account_id=account_id, session_id=session_id)
            if before.session.deleted_at is not None:
                return before
            conversations.end(connection, account_id=account_id, session_id=session_id)
            _give_up(connection, account_id, before.template_id)
            after = conversations.get(connection, account_id=account_id, session_id=session_id)
            self._audit_conversation(connection, "conversation.deleted", before=before, after=after)
            return after

    def conversation(self, *, account_id: str, session_id: int) -> Conversation:
        """Raises NotFound."""
        with self._database.begin() as connection:
            return conversations.get(connection, account_id=account_id, session_id=session_id)

    def retire_idle_conversations(self, limit: int) -> int:
        """Have the agents removed of conversations that nobody can continue, at most `limit`; how many there were.

        Safe to run in several processes at once. Raises Unavailable.
        """
        with self._database.begin() as connection:
            idle = conversations.idle(connection, limit=limit)
        for account_id, template_id in idle:
            self._retire(account_id, template_id)
        if idle:
            logs.info("conversations_retired", count=len(idle))
        return len(idle)

    def _retire(self, account_id: str, template_id: int) -> None:
        with self._locked(account_id) as connection:
            _give_up(connection, account_id, template_id)

    def _audit_conversation(
        self,
        connection: Connection,
        action: str,
        *,
        before: Conversation | None = None,
        after: Conversation | None = None,
    ) -> None:
        one = after or before
        if one is not None:
            session = one.session
            then, now = (None if each is None else shown.conversation(each) for each in (before, after))
            self._audit(connection, action, session.id, account_id=session.account_id, before=then, after=now)


def _give_up(connection: Connection, account_id: str, template_id: int) -> None:
    """Take the template out of service and have its agent removed; somebody may have done so already."""
    if conversations.retire(connection, account_id=account_id, template_id=template_id):
        voice_agents.remove(connection, account_id=account_id, template_id=template_id)
