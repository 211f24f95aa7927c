"""What a claimed unit asks for: a request to send, or a verdict that needs none; and what an attempt makes of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import msgspec
from msgspec.structs import replace

from relay.calls import Facts
from relay.content import Content
from relay.delivery import retry
from relay.delivery.envelope import enveloped
from relay.delivery.failurewhen import tells_failure
from relay.delivery.retry import AttemptResult, retry_window
from relay.delivery.signing import Signing, delivery_headers
from relay.delivery.transport import Finished, Request
from relay.directory import Directory
from relay.errors import NotFound, Unavailable
from relay.outbox import Claim, GateVerdict, Settlement, Verb
from relay.outbox.outcomes import AttemptOutcome, DeliveryStatus, decode_facts, encode_outcome
from relay.sealing import KeyRing, UnsealError, open_event
from relay.store.snapshot import EndpointConfig
from relay.telemetry import logs

# When the configuration cannot be read now, or a key is missing from the ring: the unit waits, no attempt is used.
_UNCONFIGURED_WAIT_MS: Final = 5_000
_UNREADABLE_WAIT_MS: Final = 60_000
# The last attempt comes at the end, or as soon after it as the sweep and the worker are; later than this it does not.
_LAST_ATTEMPT_MS: Final = 600_000
# Enough for every busy endpoint of one process.
_MOST_SIGNINGS: Final = 20_000


class Posting(msgspec.Struct, frozen=True):
    """A unit on its way: its claim, its facts, and whether this is the only attempt it gets.

    `failure_when` is the path of the field of a 2xx answer that tells a failure, if its endpoint has one.
    """

    claim: Claim
    facts: Facts
    single_attempt: bool
    failure_when: str | None = None


class Dispatched(msgspec.Struct, frozen=True):
    """A request to send for a unit."""

    posting: Posting
    request: Request


class Dispatcher:
    """Turns claims into requests. It opens sealed content; the result holds it as Content only."""

    def __init__(self, directory: Directory, ring: KeyRing, *, retention: timedelta) -> None:
        self._directory = directory
        self._ring = ring
        self._retention = retention
        self._signings: dict[str, tuple[EndpointConfig, Signing]] = {}

    def dispatch(self, claim: Claim, *, redis_now_ms: int, now_ms: int) -> Dispatched | Settlement:
        """The request that a claim asks for, or its settlement when nothing is to be sent.

        `redis_now_ms` is Redis' clock, by which ends are measured; `now_ms` this host's, by which we sign. It never
        raises: what cannot be dispatched waits, is logged, and ends at its end, so that it harms no other unit.
        """
        facts = None
        try:
            facts = decode_facts(claim.facts, event_id=claim.event_id, account_id=claim.account_id)
            return self._job(claim, facts, redis_now_ms=redis_now_ms, now_ms=now_ms)
        except Exception as error:
            logs.failure("dispatch_failed", error, event_id=claim.event_id, endpoint_id=claim.key)
            return _unreadable(claim, facts, redis_now_ms=redis_now_ms)

    def _job(self, claim: Claim, facts: Facts, *, redis_now_ms: int, now_ms: int) -> Dispatched | Settlement:
        try:
            endpoint = self._directory.account(facts.account_id).endpoints.get(claim.key)
        except NotFound:
            endpoint = None
        except (Unavailable, UnsealError):
            return Settlement(claim, Verb.RELEASE, delay_ms=_UNCONFIGURED_WAIT_MS)
        if endpoint is None:
            return dead(claim, facts, "endpoint_gone")
        claim = ending(claim, endpoint, default=self._retention)
        if (code := refusal(claim, endpoint, redis_now_ms=redis_now_ms)) is not None:
            return dead(claim, facts, code, shred=claim.is_erased or endpoint.retention_hours == 0)
        if claim.sealed is None:
            return _contentless(claim, facts, redis_now_ms=redis_now_ms)
        try:
            content = Content(
                open_event(self._ring, claim.sealed, event_id=claim.event_id, account_id=facts.account_id)
            )
        except UnsealError:
            return _unreadable(claim, facts, redis_now_ms=redis_now_ms)
        return Dispatched(
            Posting(claim, facts, single_attempt=endpoint.retention_hours == 0, failure_when=endpoint.failure_when),
            self._request(claim, facts, endpoint, content, now_ms),
        )

    def _request(self, claim: Claim, facts: Facts, endpoint: EndpointConfig, content: Content, now_ms: int) -> Request:
        is_enveloped = endpoint.template_id is not None
        body = enveloped(facts, content) if is_enveloped else content
        headers = delivery_headers(
            facts,
            body.reveal(),
            signing=self._signing(endpoint),
            attempt=claim.attempts + 1,
            now_ms=now_ms,
            is_enveloped=is_enveloped,
            is_refetched=facts.refetched,
        )
        return Request(
            url=endpoint.url,
            headers=headers,
            body=body,
            deadline_ms=endpoint.deadline_seconds * 1000,
            keep_reply=endpoint.failure_when is not None,
        )

    def _signing(self, endpoint: EndpointConfig) -> Signing:
        known = self._signings.get(endpoint.id)
        if known is not None and known[0] is endpoint:
            return known[1]
        made = signing_of(endpoint)
        if len(self._signings) >= _MOST_SIGNINGS:
            self._signings.clear()  # endpoints that were deleted are among them
        self._signings[endpoint.id] = (endpoint, made)
        return made


def signing_of(endpoint: EndpointConfig) -> Signing:
    """How what goes to an endpoint is signed. Raises ValueError for a secret or header that cannot be used."""
    return Signing(
        mode=endpoint.signing,
        signing_secrets=endpoint.signing_secrets,
        webhook_secret=endpoint.webhook_secret,
        headers=tuple(endpoint.headers.items()),
    )


def ending(claim: Claim, endpoint: EndpointConfig, *, default: timedelta) -> Claim:
    """A claim with the end that its own endpoint asks for. The event's is the latest of all its endpoints. Pure.

    A replay's end was measured from its readmission, by its own endpoint.
    """
    if endpoint.retention_hours == 0 or claim.is_replay:
        return claim
    retention = default if endpoint.retention_hours is None else timedelta(hours=endpoint.retention_hours)
    own_end_ms = claim.accepted_ms + retry_window(retention) // timedelta(milliseconds=1)
    return claim if claim.end_ms <= own_end_ms else claim._replace(end_ms=own_end_ms)


def refusal(claim: Claim, endpoint: EndpointConfig, *, redis_now_ms: int) -> str | None:
    """Why a unit is to be given up without a request, if so. `claim` has its own endpoint's end. Pure."""
    if claim.is_erased or claim.is_poison:
        return "erased" if claim.is_erased else "poison"
    if claim.gate == "gone" or endpoint.state == "gone":
        return "endpoint_gone"
    if endpoint.state == "disabled":
        return "endpoint_disabled"
    if endpoint.retention_hours == 0 and (claim.attempts or claim.claims > 1):
        return "attempts_exhausted"  # without retention there is one attempt, even if its process died in it
    if redis_now_ms > claim.end_ms + _LAST_ATTEMPT_MS:
        return "retention_ended"
    return None


def settled(posting: Posting, finished: Finished, *, redis_now_ms: int, jitter: float) -> Settlement:
    """What an attempt makes of its unit: delivered, another attempt, or dead. Pure."""
    finished = _judged(finished, posting.failure_when)
    claim = posting.claim
    attempt = claim.attempts + 1
    decision = retry.decide(
        finished.result,
        attempt=attempt,
        jitter=jitter,
        now_ms=redis_now_ms,
        end_ms=claim.end_ms,
        single_attempt=posting.single_attempt,
    )
    match decision:
        case retry.Delivered():
            return Settlement(
                claim,
                Verb.DONE,
                attempted=True,
                gate=GateVerdict.OK,
                outcome=_outcome(posting.facts, claim, "delivered", finished),
            )
        case retry.Retry(delay_ms):
            return Settlement(
                claim,
                Verb.RETRY,
                delay_ms=delay_ms,
                attempted=True,
                gate=GateVerdict.BAD,
                outcome=_outcome(posting.facts, claim, "pending", finished, retry_in_ms=delay_ms),
            )
        case retry.Dead(code):
            return Settlement(
                claim,
                Verb.DEAD,
                attempted=True,
                gate=GateVerdict.GONE if code == "endpoint_gone" else GateVerdict.BAD,
                shred=posting.single_attempt,
                outcome=_outcome(posting.facts, claim, "dead", finished, code=code),
            )


def _judged(finished: Finished, failure_when: str | None) -> Finished:
    """The same without its answer's body, and as a failure if a field of that says so."""
    reply = finished.reply
    if reply is None:
        return finished
    result = finished.result
    if (
        failure_when is not None
        and result.is_delivered
        and reply.is_whole  # what was cut cannot be read, and tells nothing
        and tells_failure(failure_when, reply.body)
    ):
        result = replace(result, answer_tells_failure=True)
    return replace(finished, result=result, reply=None)


def dead(claim: Claim, facts: Facts, code: str, *, shred: bool = False) -> Settlement:
    """Give a unit up without a request."""
    return Settlement(claim, Verb.DEAD, shred=shred, outcome=_unattempted(claim, facts, "dead", code))


def _contentless(claim: Claim, facts: Facts, *, redis_now_ms: int) -> Settlement:
    if redis_now_ms >= claim.end_ms:
        return dead(claim, facts, "retention_ended")
    return Settlement(claim, Verb.LOST, outcome=_unattempted(claim, facts, "content_lost", "content_lost"))


def _unreadable(claim: Claim, facts: Facts | None, *, redis_now_ms: int) -> Settlement:
    """A key is missing from the ring, or something else is amiss: an operator can mend it, until the content's end."""
    if redis_now_ms < claim.end_ms:
        return Settlement(claim, Verb.RELEASE, delay_ms=_UNREADABLE_WAIT_MS)
    # Without facts there is no account to tell.
    return Settlement(claim, Verb.DEAD) if facts is None else dead(claim, facts, "retention_ended")


def _unattempted(claim: Claim, facts: Facts, status: DeliveryStatus, code: str) -> bytes:
    return encode_outcome(
        AttemptOutcome(
            event_id=claim.event_id,
            endpoint_id=claim.key,
            account_id=facts.account_id,
            accepted_ms=facts.accepted_at_ms,
            number=claim.attempts,
            status=status,
            attempted=False,
            code=code,
            detail=code,
        )
    )


def _outcome(
    facts: Facts,
    claim: Claim,
    status: DeliveryStatus,
    finished: Finished,
    *,
    code: str | None = None,
    retry_in_ms: int | None = None,
) -> bytes:
    result: AttemptResult = finished.result
    delivered = status == "delivered"
    return encode_outcome(
        AttemptOutcome(
            event_id=claim.event_id,
            endpoint_id=claim.key,
            account_id=facts.account_id,
            accepted_ms=facts.accepted_at_ms,
            number=claim.attempts + 1,
            status=status,
            code=None if delivered else code or result.tenant_code,
            detail=None if delivered else result.operator_code,
            http_status=result.status,
            duration_ms=finished.duration_ms,
            response_bytes=finished.response_bytes,
            retry_in_ms=retry_in_ms,
        )
    )
