"""What happens to a webhook before it is answered: prove, read, route, seal, commit.

Matching is always within the account that was proved: no id in a body reaches another account's session, template or
charge.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

from relay.calls import DERIVED_SESSION_BASE, CallEvent, Facts, derived_session_id, event_id, is_unnamed
from relay.content import Content
from relay.delivery.retry import retry_window
from relay.directory import AccountView, Directory
from relay.errors import BadRequest, NotFound, PayloadError, Unauthorized, Unavailable
from relay.ingress.commit import GroupCommit
from relay.outbox import Admission, Unit, Verdict
from relay.outbox.outcomes import encode_facts
from relay.providers import PROVIDERS, canaryllm, elevenlabs
from relay.queues import BILLING, RELAY
from relay.sealing import KeyRing, seal_event
from relay.settings import Settings
from relay.store.snapshot import EndpointConfig, TemplateConfig

# Content is kept at least this long: time for one attempt, even where no retention was asked for.
_SHORTEST_RETENTION: Final = timedelta(hours=1)
# An account's configuration may change while an event is on its way in; more often than this it does not.
_ROUTINGS: Final = 4

CanaryRoute = Literal["event", "complete"]


@dataclass(frozen=True, slots=True)
class Receipt:
    """An event that is committed. `repeat`: it was before, and nothing more happens."""

    event_id: str
    repeat: bool


@dataclass(frozen=True, slots=True)
class _Proved:
    """An event whose sender is proved, with what it belongs to. `scope` keeps apart what may share dedupe keys."""

    view: AccountView
    call: CallEvent
    scope: str
    source_id: str | None = None
    template: TemplateConfig | None = None


class Intake:
    """Takes verified events into the outbox. Every method raises SwitchhookErrors that say what to answer."""

    def __init__(self, settings: Settings, ring: KeyRing, directory: Directory, commits: GroupCommit) -> None:
        self._ring = ring
        self._directory = directory
        self._commits = commits
        self._retention = settings.retention
        self._quota_bytes = settings.account_quota_bytes

    def signed(
        self,
        provider_name: str,
        source_id: str,
        body: Content,
        *,
        header: Callable[[str], str | None],
        content_type: str,
    ) -> Receipt:
        """Take a webhook that a provider signed with a secret of a source."""
        provider = PROVIDERS.get(provider_name)
        if provider is None:
            raise NotFound("there is no provider by this name")
        signature = header(provider.SIGNATURE_HEADER)

        def prove() -> _Proved:
            view, source = self._directory.source(source_id)
            if source.provider != provider_name:
                raise NotFound("there is no source by this id")
            if not provider.verify(body.reveal(), signature, secrets=source.secrets, now_ms=_now_ms()):
                raise Unauthorized
            call = provider.read(body.reveal())
            return _Proved(view, call, source_id, source_id=source_id)

        return self._take(prove, body, content_type)

    def canary(
        self,
        route: CanaryRoute,
        body: Content,
        *,
        secret: str | None,
        signature: str | None,
        idempotency_key: str | None,
        content_type: str,
    ) -> Receipt:
        """Take a webhook of CanaryLLM's routes: proved by a template's secret, `complete` also by ElevenLabs."""

        def prove() -> _Proved:
            if secret:
                candidates = self._directory.templates_of_secret(secret)
            elif route == "complete" and signature:
                candidates = self._signed_by_elevenlabs(body, signature)
            else:
                raise Unauthorized("X-Webhook-Secret is missing", code="secret_missing")
            if not candidates:
                raise Unauthorized("no template has this secret", code="secret_invalid")
            event = canaryllm.read(body.reveal(), route=route, idempotency_key=idempotency_key)
            view, template = self._chosen(candidates, event)
            return _Proved(view, event.call, f"convagents/{route}/{template.id}", template=template)

        return self._take(prove, body, content_type)

    def _take(self, prove: Callable[[], _Proved], body: Content, content_type: str) -> Receipt:
        self._commits.start()  # before anything is proved: what watches Redis also sees the configuration change
        for _ in range(_ROUTINGS):
            proved = prove()
            admission = self._admission(proved, body, content_type)
            verdict = self._commits.commit(admission)
            if verdict is not Verdict.STALE:
                return Receipt(admission.event_id, repeat=verdict is Verdict.REPEAT)
            self._directory.reload(proved.view.account_id)
        raise Unavailable("the configuration of this account is changing; send it again")

    def _admission(self, proved: _Proved, body: Content, content_type: str) -> Admission:
        view, call = proved.view, proved.call
        account_id = view.account_id
        session_id, template = self._session(proved)
        template_id = None if template is None else template.id
        endpoints = view.route(call.type, template_id=template_id, source_id=proved.source_id)
        event = event_id(account_id, call.provider, proved.scope, call.dedupe)
        facts = Facts(
            event_id=event,
            account_id=account_id,
            call=call,
            session_id=session_id,
            accepted_at_ms=_now_ms(),
            source_id=proved.source_id,
            template_id=template_id,
            template_name=None if template is None else template.name,
            content_type=content_type,
        )
        retention = _retention(endpoints, self._retention)
        sealed = seal_event(self._ring, body.reveal(), event_id=event, account_id=account_id) if endpoints else b""
        return Admission(
            event_id=event,
            account_id=account_id,
            facts=encode_facts(facts),
            sealed=sealed,
            retention_ms=_ms(retention),
            window_ms=_ms(retry_window(retention)),
            quota_bytes=view.quota_bytes or self._quota_bytes,
            units=_units(account_id, call, endpoints),
            config_version=view.version,
        )

    def _session(self, proved: _Proved) -> tuple[int, TemplateConfig | None]:
        """The session of an event, and its template: of the session, else of the agent."""
        view, call, template = proved.view, proved.call, proved.template
        if call.session_hint is not None:
            known = self._directory.template_of_session(view.account_id, call.session_hint)
            if known is not None:
                return call.session_hint, template or view.templates.get(known)
            if call.session_hint >= DERIVED_SESSION_BASE and is_unnamed(call.conversation_id):
                # Nothing but a number that we once told a customer: the session that it was given to.
                return call.session_hint, template
        session_id = derived_session_id(view.account_id, call.provider, call.conversation_id)
        return session_id, template or view.template_of_agent(call.provider, call.agent_id)

    def _signed_by_elevenlabs(self, body: Content, signature: str | None) -> list[tuple[AccountView, TemplateConfig]]:
        """The templates of the agent that the body names, in accounts with a source whose secret proves the body."""
        try:
            agent_id = elevenlabs.read(body.reveal()).agent_id
        except PayloadError:
            return []  # nobody is told what is wrong with a body that proves nothing
        if agent_id is None:
            return []
        return [
            (view, template)
            for view, template in self._directory.templates_of_agent(elevenlabs.NAME, agent_id)
            if elevenlabs.verify(
                body.reveal(),
                signature,
                secrets=[
                    secret
                    for source in view.sources.values()
                    if source.provider == elevenlabs.NAME
                    for secret in source.secrets
                ],
                now_ms=_now_ms(),
            )
        ]

    def _chosen(
        self, candidates: list[tuple[AccountView, TemplateConfig]], event: canaryllm.CanaryEvent
    ) -> tuple[AccountView, TemplateConfig]:
        """The one template among those that the secret opens: by session, agent id or templateId."""
        hint = event.call.session_hint
        if hint is not None:
            accounts = {view.account_id for view, _ in candidates}
            known = {account: self._directory.template_of_session(account, hint) for account in accounts}
            if any(known.values()):
                candidates = [(v, t) for v, t in candidates if known[v.account_id] == t.id]
                if not candidates:
                    raise NotFound("this session belongs to another template", code="session_not_found")
        by_id = [(v, t) for v, t in candidates if t.id == event.template_id]
        by_agent = [(v, t) for v, t in candidates if t.agent_id and t.agent_id == event.call.agent_id]
        candidates = by_id or by_agent or candidates
        if len(candidates) > 1:
            raise BadRequest(
                "several templates have this secret; name the session, the agent or templateId",
                code="template_ambiguous",
                field="templateId",
            )
        return candidates[0]


def _retention(endpoints: tuple[EndpointConfig, ...], default: timedelta) -> timedelta:
    """How long content is kept: the longest that an endpoint asks for. None at all still lasts one attempt."""
    hours = [default if e.retention_hours is None else timedelta(hours=e.retention_hours) for e in endpoints]
    return max([*hours, _SHORTEST_RETENTION])


def _units(account_id: str, call: CallEvent, endpoints: tuple[EndpointConfig, ...]) -> tuple[Unit, ...]:
    """One unit per endpoint, and one for billing where the event ends a real call."""
    relay = tuple(Unit(RELAY, endpoint.id) for endpoint in endpoints)
    is_billed = call.ending is not None and call.livemode
    return (*relay, Unit(BILLING, account_id)) if is_billed else relay


def _ms(duration: timedelta) -> int:
    return duration // timedelta(milliseconds=1)


def _now_ms() -> int:
    return int(time.time() * 1000)
