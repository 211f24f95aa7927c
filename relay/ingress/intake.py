"""What happens to a webhook before it is answered: prove, read, route, seal, commit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Final, Literal

from relay.calls import CallEvent
from relay.content import Content
from relay.delivery.retry import retry_window
from relay.directory import AccountView, Directory
from relay.errors import EventIgnored, LoopDetected, NotFound, Unauthorized, Unavailable
from relay.ingress.commit import GroupCommit
from relay.ingress.matching import Matching, Proved, now_ms
from relay.outbox import Admission, Unit, Verdict
from relay.outbox.outcomes import encode_facts
from relay.providers import PROVIDERS, canaryllm, retell
from relay.queues import BILLING, RELAY
from relay.sealing import KeyRing, seal_event
from relay.settings import Settings
from relay.store.snapshot import EndpointConfig

# Content is kept at least this long: time for one attempt, even where no retention was asked for.
_SHORTEST_RETENTION: Final = timedelta(hours=1)
# An account's configuration may change while an event is on its way in; more often than this it does not.
_ROUTINGS: Final = 4
# What is looked up of a header that anybody may send.
_MAX_ID_CHARS: Final = 64
# In place of a source's id: what an account's own key has proved, through whichever of its keys it came.
_KEYED_SCOPE: Final = "retell-key"

CanaryRoute = Literal["event", "complete"]


@dataclass(frozen=True, slots=True)
class Receipt:
    """An event that is committed. `repeat`: it was before, and nothing more happens."""

    event_id: str
    repeat: bool
    conversation_id: str


class Intake:
    """Takes verified events into the outbox. Every method raises SwitchhookErrors that say what to answer."""

    def __init__(
        self,
        settings: Settings,
        ring: KeyRing,
        directory: Directory,
        commits: GroupCommit,
        *,
        is_ours: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._ring = ring
        self._directory = directory
        self._matching = Matching(directory)
        self._commits = commits
        self._retention = settings.retention
        self._quota_bytes = settings.account_quota_bytes
        self._is_ours = is_ours

    def refuse_own(self, webhook_id: str) -> None:
        """Refuse what this Switchhook itself delivers: each round would wrap it once more, for ever.

        `webhook_id` is the header that deliveries carry; providers send none that begins like an event's id.
        """
        if webhook_id.startswith("evt_") and self._is_ours(webhook_id[:_MAX_ID_CHARS]):
            raise LoopDetected

    def expects_signed(self, provider_name: str, source_id: str, *, header: Callable[[str], str | None]) -> None:
        """Refuse what cannot be a webhook of this source whatever its body is: nobody's body is read for nothing."""
        self._commits.start()  # what watches Redis also sees the configuration change
        provider = PROVIDERS.get(provider_name)
        if provider is None:
            raise NotFound("there is no provider by this name")
        self._matching.source(provider_name, source_id)
        if not header(provider.SIGNATURE_HEADER):
            raise Unauthorized

    def expects_canary(self, route: canaryllm.Route, *, secret: str | None, signature: str | None) -> None:
        """The same for CanaryLLM's routes. ElevenLabs' signature tells nothing without its body."""
        self._commits.start()
        if _proving(signature, route=route, secret=secret) is None:
            self._matching.opened_by(secret)

    def expects_keyed(self, key: str | None) -> None:
        """The same for the route that an API key opens."""
        self._commits.start()
        self._account_of(key)

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

        def prove() -> Proved:
            view, source = self._matching.source(provider_name, source_id)
            if not provider.verify(body.reveal(), signature, secrets=source.secrets, now_ms=now_ms()):
                raise Unauthorized
            call = provider.read(body.reveal())
            return Proved(view, call, source_id, source_id=source_id)

        return self._take(prove, body, content_type)

    def keyed(self, body: Content, *, key: str | None, content_type: str) -> Receipt:
        """Take Retell's `call_analyzed` from whoever has an API key of the account, and no source.

        Raises EventIgnored for Retell's other events.
        """

        def prove() -> Proved:
            view = self._account_of(key)
            if retell.kind_of(body.reveal()) != retell.ANALYZED:
                raise EventIgnored("event is not call_analyzed")
            return Proved(view, retell.read(body.reveal()), _KEYED_SCOPE)

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
        signed = _proving(signature, route=route, secret=secret)

        def prove() -> Proved:
            if signed is None:
                candidates = self._matching.opened_by(secret)
            else:
                candidates = self._matching.signed_by_elevenlabs(body, signed)
            return self._matching.canary(route, body, candidates, idempotency_key=idempotency_key)

        return self._take(prove, body, content_type)

    def _account_of(self, key: str | None) -> AccountView:
        if not key:
            raise Unauthorized("X-Canonical-Api-Key is missing", code="api_key_missing")
        view = self._directory.account_of_key(key)
        if view is None:
            raise Unauthorized("no account has this API key", code="api_key_invalid")
        return view

    def _take(self, prove: Callable[[], Proved], body: Content, content_type: str) -> Receipt:
        for _ in range(_ROUTINGS):
            proved = prove()
            admission = self._admission(proved, body, content_type)
            verdict = self._commits.commit(admission)
            if verdict is not Verdict.STALE:
                return Receipt(
                    admission.event_id,
                    repeat=verdict is Verdict.REPEAT,
                    conversation_id=proved.call.conversation_id,
                )
            self._directory.reload(proved.view.account_id)
        raise Unavailable("the configuration of this account is changing; send it again")

    def _admission(self, proved: Proved, body: Content, content_type: str) -> Admission:
        view, facts = proved.view, self._matching.facts(proved, content_type=content_type)
        event, account_id = facts.event_id, facts.account_id
        endpoints = view.route(facts.call.type, template_id=facts.template_id, source_id=facts.source_id)
        retention_ms, window_ms = _spans_ms(tuple(e.retention_hours for e in endpoints), self._retention)
        sealed = seal_event(self._ring, body.reveal(), event_id=event, account_id=account_id) if endpoints else b""
        return Admission(
            event_id=event,
            account_id=account_id,
            facts=encode_facts(facts),
            sealed=sealed,
            retention_ms=retention_ms,
            window_ms=window_ms,
            quota_bytes=view.quota_bytes or self._quota_bytes,
            units=_units(account_id, facts.call, endpoints),
            config_version=view.version,
        )


def _proving(signature: str | None, *, route: canaryllm.Route, secret: str | None) -> str | None:
    """ElevenLabs' signature where it is the proof: on `complete`, and only if no secret is given."""
    return signature or None if route == "complete" and not secret else None


@lru_cache(maxsize=1024)
def _spans_ms(hours: tuple[int | None, ...], default: timedelta) -> tuple[int, int]:
    """How long content is kept, and how long it may be tried: by the longest retention that an endpoint asks for.

    None at all still lasts one attempt.
    """
    asked = [default if one is None else timedelta(hours=one) for one in hours]
    retention = max([*asked, _SHORTEST_RETENTION])
    return _ms(retention), _ms(retry_window(retention))


def _units(account_id: str, call: CallEvent, endpoints: tuple[EndpointConfig, ...]) -> tuple[Unit, ...]:
    """One unit per endpoint, and one for billing where the event ends a real call."""
    relay = tuple(Unit(RELAY, endpoint.id) for endpoint in endpoints)
    is_billed = call.ending is not None and call.livemode
    return (*relay, Unit(BILLING, account_id)) if is_billed else relay


def _ms(duration: timedelta) -> int:
    return duration // timedelta(milliseconds=1)
