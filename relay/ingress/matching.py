"""Whose an event is: the sources and templates that a proof opens, the one that a body means, and the session.

Matching is always within the account that was proved: no id in a body reaches another account's session, template or
charge.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from relay.calls import TRUST_KEY, TRUST_PROVIDER, TRUST_SOURCE, CallEvent, Facts, event_id
from relay.content import Content
from relay.directory import AccountView, Directory, has_secret
from relay.directory.belonging import AnyTemplate, Belonging
from relay.errors import BadRequest, NotFound, PayloadError, Unauthorized
from relay.providers import agora, canaryllm, elevenlabs
from relay.store.conversations import ConversationTemplate
from relay.store.snapshot import SourceConfig, TemplateConfig

Candidates = Sequence[tuple[AccountView, AnyTemplate]]


@dataclass(frozen=True, slots=True)
class Proved:
    """An event whose sender is proved, with what it belongs to. `scope` keeps apart what may share dedupe keys.

    Where `template` is known, the session that the event names was looked for: `session_id`, None if there is none.
    `trust` is what the proof is worth against the account's own word: one of relay.calls.TRUST_...
    """

    view: AccountView
    call: CallEvent
    scope: str
    source_id: str | None = None
    template: AnyTemplate | None = None
    session_id: int | None = None
    trust: int = TRUST_KEY


class Matching:
    """Asks the directory. Every method raises SwitchhookErrors that say what to answer."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._belonging = Belonging(directory)

    def source(self, provider_name: str, source_id: str) -> tuple[AccountView, SourceConfig]:
        """A source of this provider, with its account. Raises NotFound."""
        view, source = self._directory.source(source_id)
        if source.provider != provider_name:
            raise NotFound("there is no source by this id")
        return view, source

    def handed_on(self, view: AccountView, call: CallEvent, source: SourceConfig) -> Proved:
        """Whose an event of a shared source is: the account's that our label names, else the source's own.

        Nothing of the source is the other account's business. Raises Unavailable.
        """
        call = self._with_label(call)
        try:
            owner = view if call.account_hint is None else self._directory.account(call.account_hint)
        except NotFound:
            owner = view
        source_id = source.id if owner.account_id == view.account_id else None
        return Proved(owner, call, source.id, source_id=source_id, trust=trust_of(source))

    def opened_by(self, secret: str | None) -> Candidates:
        """The templates that have this webhook secret: at least one. Raises Unauthorized."""
        if not secret:
            raise Unauthorized("X-Webhook-Secret is missing", code="secret_missing")
        return _some(self._directory.templates_of_secret(secret))

    def signed_by_elevenlabs(self, body: Content, signature: str) -> Candidates:
        """The templates of the agent that a body names, in accounts with a source whose secret proves the body.

        Raises Unauthorized: nobody is told what is wrong with a body that proves nothing.
        """
        try:
            agent_id = elevenlabs.read(body.reveal()).agent_id
        except PayloadError:
            agent_id = None
        claimed = [] if agent_id is None else self._directory.templates_of_agent(elevenlabs.NAME, agent_id)
        return _some([(view, template) for view, template in claimed if _is_proved(view, body, signature)])

    def canary(
        self,
        route: canaryllm.Route,
        body: Content,
        candidates: Candidates,
        *,
        secret: str | None,
        idempotency_key: str | None,
        trust: int = TRUST_KEY,
    ) -> Proved:
        """What a body of CanaryLLM's routes belongs to, among the templates that its proof opens.

        `secret`: that was the proof, None if it was a signature.
        """
        event = canaryllm.read(body.reveal(), route=route, idempotency_key=idempotency_key)
        hint = event.call.session_hint
        owners = {} if hint is None else self._owners(hint, candidates)
        view, template = _chosen(candidates, event, owners, secret=secret)
        scope = f"convagents/{route}/{template.id}"
        return Proved(view, event.call, scope, template=template, session_id=hint if owners else None, trust=trust)

    def facts(self, proved: Proved, *, content_type: str) -> Facts:
        """The facts of an event that is accepted now."""
        account_id, call = proved.view.account_id, proved.call
        session_id, template = proved.session_id, proved.template
        if session_id is None:
            session_id, template = self._belonging.of(proved.view, call, template=template)
        return Facts(
            event_id=event_id(account_id, call.provider, proved.scope, call.dedupe),
            account_id=account_id,
            call=call,
            session_id=session_id,
            accepted_at_ms=now_ms(),
            source_id=proved.source_id,
            template_id=None if template is None else template.id,
            template_name=None if template is None else template.name,
            content_type=content_type,
            trust=proved.trust,
        )

    def _with_label(self, call: CallEvent) -> CallEvent:
        """The same; where Agora sends no labels, with what those of the event's agent say."""
        if (call.provider, call.kind) != (agora.NAME, agora.KINDS[agora.EXPIRED]) or call.agent_id is None:
            return call
        owner = self._directory.owner_of_agent(call.agent_id)
        return call if owner is None else replace(call, account_hint=owner[0], session_hint=owner[1])

    def _owners(self, session_id: int, candidates: Candidates) -> dict[str, int]:
        """The template of this session in each of the accounts that has such a session."""
        owners = {
            view.account_id: template.id
            for view, template in candidates
            if isinstance(template, ConversationTemplate) and template.session_id == session_id
        }
        for account_id in {view.account_id for view, _ in candidates} - owners.keys():
            owner = self._belonging.owner(account_id, session_id)
            if owner is not None:
                owners[account_id] = owner
        return owners


def _chosen(
    candidates: Candidates, event: canaryllm.CanaryEvent, owners: dict[str, int], *, secret: str | None
) -> tuple[AccountView, AnyTemplate]:
    """The one template among those that the secret opens: by the owner of its session, agent id or templateId.

    Else the one that has the secret by now: one that had it is meant by what names its session, agent or id.
    """
    if owners:
        candidates = [(v, t) for v, t in candidates if owners.get(v.account_id) == t.id]
        if not candidates:
            raise NotFound("this session belongs to another template", code="session_not_found")
    else:
        # A deleted template is there for its own sessions only.
        candidates = _some([(v, t) for v, t in candidates if not t.retired])
    by_id = [(v, t) for v, t in candidates if t.id == event.template_id]
    by_agent = [(v, t) for v, t in candidates if t.agent_id and t.agent_id == event.call.agent_id]
    candidates = by_id or by_agent or _present(candidates, secret)
    if len(candidates) > 1:
        raise BadRequest(
            "several templates have this secret; name the session, the agent or templateId",
            code="template_ambiguous",
            field="templateId",
        )
    return candidates[0]


def _present(candidates: Candidates, secret: str | None) -> Candidates:
    """Those that have the secret now, if any do. Not among accounts: a former secret opens no other account."""
    if secret is None or len({view.account_id for view, _ in candidates}) > 1:
        return candidates
    return [(v, t) for v, t in candidates if isinstance(t, TemplateConfig) and has_secret(t, secret)] or candidates


def trust_of(source: SourceConfig) -> int:
    """What a signature under a secret of this source is worth: most where its account does not know the secret."""
    return TRUST_PROVIDER if source.managed or source.shared else TRUST_SOURCE


def now_ms() -> int:
    """The Unix time in milliseconds."""
    return int(time.time() * 1000)


def _some(candidates: Candidates) -> Candidates:
    if not candidates:
        raise Unauthorized("no template has this secret", code="secret_invalid")
    return candidates


def _is_proved(view: AccountView, body: Content, signature: str) -> bool:
    """Whether a secret of one of the account's ElevenLabs sources proves the body."""
    sources = [source for source in view.sources.values() if source.provider == elevenlabs.NAME]
    secrets = [secret for source in sources for secret in source.secrets]
    return elevenlabs.verify(body.reveal(), signature, secrets=secrets, now_ms=now_ms())
