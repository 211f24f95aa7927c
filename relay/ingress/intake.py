"""What happens to a webhook before it is answered: prove, read, route, seal, commit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from relay.calls import TRUST_KEY, TRUST_SOURCE
from relay.content import Content
from relay.delivery.admitting import Admitting
from relay.directory import AccountView, Directory
from relay.errors import BadRequest, EventIgnored, LoopDetected, NotFound, Unauthorized, Unavailable
from relay.ingress.commit import GroupCommit
from relay.ingress.matching import Matching, Proved, now_ms, trust_of
from relay.outbox import Verdict
from relay.providers import PROVIDERS, canaryllm, retell
from relay.sealing import KeyRing
from relay.settings import Settings

# An account's configuration may change while an event is on its way in; more often than this it does not.
_ROUTINGS: Final = 4
# For how long a repeat is known by its id, as the outbox' scripts have it (SPENT_TTL), less what clocks may differ.
REPEATS_KNOWN_MS: Final = (24 * 60 - 5) * 60_000
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
        self._directory = directory
        self._matching = Matching(directory)
        self._commits = commits
        self._admitting = Admitting(settings, ring)
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
        if not _signature(header, provider.SIGNATURE_HEADERS):
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
        """Take a webhook that a provider signed with a secret of a source.

        Raises EventIgnored for what is not this provider's business, and BadRequest `event_too_old` where the
        signature bounds no age and a repeat of it could not be told from a first time any more.
        """
        provider = PROVIDERS.get(provider_name)
        if provider is None:
            raise NotFound("there is no provider by this name")
        signature = _signature(header, provider.SIGNATURE_HEADERS)

        def prove() -> Proved:
            view, source = self._matching.source(provider_name, source_id)
            now = now_ms()
            if not provider.verify(body.reveal(), signature, secrets=source.secrets, now_ms=now):
                raise Unauthorized
            call = provider.read(body.reveal())
            if call.sent_at_ms is not None and now - call.sent_at_ms > REPEATS_KNOWN_MS:
                raise BadRequest("this was sent longer ago than repeats are known", code="event_too_old")
            if source.shared:
                return self._matching.handed_on(view, call, source)
            return Proved(view, call, source_id, source_id=source_id, trust=trust_of(source))

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
                candidates, trust = self._matching.opened_by(secret), TRUST_KEY
            else:
                candidates, trust = self._matching.signed_by_elevenlabs(body, signed), TRUST_SOURCE
            by_secret = secret if signed is None else None
            return self._matching.canary(
                route, body, candidates, secret=by_secret, idempotency_key=idempotency_key, trust=trust
            )

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
            facts = self._matching.facts(proved, content_type=content_type)
            admission = self._admitting.admission(proved.view, facts, body)
            verdict = self._commits.commit(admission)
            if verdict is not Verdict.STALE:
                return Receipt(
                    admission.event_id,
                    repeat=verdict is Verdict.REPEAT,
                    conversation_id=proved.call.conversation_id,
                )
            self._directory.reload(proved.view.account_id)
        raise Unavailable("the configuration of this account is changing; send it again")


def _signature(header: Callable[[str], str | None], names: tuple[str, ...]) -> str | None:
    """The best signature that is there."""
    for name in names:
        if signature := header(name):
            return signature
    return None


def _proving(signature: str | None, *, route: canaryllm.Route, secret: str | None) -> str | None:
    """ElevenLabs' signature where it is the proof: on `complete`, and only if no secret is given."""
    return signature or None if route == "complete" and not secret else None
