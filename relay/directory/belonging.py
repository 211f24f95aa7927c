"""The session that an event of an account belongs to, and its template. No id in a body leads to another account's."""

from __future__ import annotations

from relay.calls import DERIVED_SESSION_BASE, CallEvent, derived_session_id, unnamed_conversation
from relay.directory import Directory
from relay.directory.view import AccountView
from relay.store.conversations import ConversationTemplate
from relay.store.snapshot import TemplateConfig

AnyTemplate = TemplateConfig | ConversationTemplate


class Belonging:
    """Asks the directory. Every method raises Unavailable."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def of(
        self, view: AccountView, call: CallEvent, *, template: AnyTemplate | None = None
    ) -> tuple[int, AnyTemplate | None]:
        """The session's id and its template: that of the session, else of the agent. `template`: it is known."""
        hint = call.session_hint
        behind = self._behind(view, call) if template is None else template
        if isinstance(behind, ConversationTemplate):
            # Its agent was made for one session and serves no other: it names the session, whatever the client does.
            return behind.session_id, behind
        if hint is not None and template is None:
            owner = self.owner(view.account_id, hint)
            if owner is not None:
                return hint, view.templates.get(owner)
        if hint is not None and hint >= DERIVED_SESSION_BASE and call.conversation_id == unnamed_conversation(hint):
            # Nothing but a number that we once told a customer: the session that it was given to.
            return hint, template
        template = template or _labelled(view, call) or view.template_of_agent(call.provider, call.agent_id)
        return derived_session_id(view.account_id, call.provider, call.conversation_id), template

    def owner(self, account_id: str, session_id: int) -> int | None:
        """The template of a session that the API made for this account, 0 if it has none; None for another number."""
        owner = self._directory.template_of_session(account_id, session_id)
        return self._directory.template_of_lost_session(account_id, session_id) if owner is None else owner

    def _behind(self, view: AccountView, call: CallEvent) -> ConversationTemplate | None:
        """The template behind the conversation that an agent was made for, if it was made for one."""
        if view.template_of_agent(call.provider, call.agent_id) is not None:
            return None
        return self._directory.conversation_of_agent(view, call.provider, call.agent_id)


def _labelled(view: AccountView, call: CallEvent) -> TemplateConfig | None:
    """The account's template that a label names."""
    return None if call.template_hint is None else view.templates.get(call.template_hint)
