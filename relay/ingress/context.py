"""CanaryLLM's `context`: an agent asks in the middle of a call, the customer's server answers, and nothing is kept.

The request is proved and matched like `event` and sent like a delivery: in the envelope, signed, to the template's
own endpoint, within its deadline. But it happens once, while the agent waits, and is stored nowhere.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace

import msgspec

from relay.content import Content
from relay.delivery.caller import Caller
from relay.delivery.dispatch import signing_of
from relay.delivery.envelope import envelope
from relay.delivery.retry import Failure
from relay.delivery.signing import delivery_headers
from relay.delivery.transport import Reply, Request
from relay.errors import Conflict, ContextFailed, ContextTimedOut
from relay.ingress.matching import Matching, Proved, now_ms
from relay.problems import JSON
from relay.store.snapshot import EndpointConfig
from relay.telemetry import logs, metrics

_FIRST_ATTEMPT = 1


@dataclass(frozen=True, slots=True)
class Question:
    """A request for context, ready to be sent, and the ids that a log may show of it."""

    request: Request
    account_id: str
    endpoint_id: str


class Contexts:
    """Puts agents' questions to customers' servers. Every method raises SwitchhookErrors that say what to answer."""

    def __init__(self, matching: Matching, caller: Caller) -> None:
        self._matching = matching
        self._caller = caller

    def question(self, body: Content, *, secret: str | None, idempotency_key: str | None) -> Question:
        """The request that a body whose secret is right asks for.

        Raises what `event` raises for its proof and body, Conflict `endpoint_missing` if the template has no endpoint
        that takes such requests, and ContextFailed if that is disabled.
        """
        proved = self._matching.canary(
            "context", body, self._matching.opened_by(secret), secret=secret, idempotency_key=idempotency_key
        )
        if not idempotency_key:
            proved = _of_its_own(proved)
        facts = self._matching.facts(proved, content_type=JSON)
        endpoint = _endpoint(proved, facts.call.type)
        whole = envelope(
            body,
            event="context",
            session_id=facts.session_id,
            template_id=facts.template_id,
            template_name=facts.template_name,
            accepted_at_ms=facts.accepted_at_ms,
        )
        headers = delivery_headers(
            facts,
            whole.reveal(),
            signing=signing_of(endpoint),
            attempt=_FIRST_ATTEMPT,
            now_ms=now_ms(),
            is_enveloped=True,
        )
        deadline_ms = endpoint.deadline_seconds * 1000
        request = Request(url=endpoint.url, headers=headers, body=whole, deadline_ms=deadline_ms, keep_reply=True)
        return Question(request, facts.account_id, endpoint.id)

    def ask(self, question: Question) -> Reply:
        """The customer's answer: 2xx and whole. It is content.

        Raises ContextTimedOut, ContextFailed for any other answer or none, ContextBusy, and Unavailable.
        """
        finished = self._caller.call(question.request)
        metrics.record_context_seconds(finished.duration_ms / 1000)
        reply, result = finished.reply, finished.result
        if reply is not None and result.is_delivered and reply.is_whole:
            return reply
        # There is no record of it anywhere else.
        logs.warning(
            "context_unanswered",
            account_id=question.account_id,
            endpoint_id=question.endpoint_id,
            code="reply_too_large" if result.is_delivered else result.operator_code,
            duration_ms=finished.duration_ms,
        )
        if result.failure is Failure.TIMED_OUT:
            raise ContextTimedOut
        raise ContextFailed


def _of_its_own(proved: Proved) -> Proved:
    """The same as an event of its own: two questions in the same words want two answers."""
    return replace(proved, call=msgspec.structs.replace(proved.call, dedupe=("once", secrets.token_hex(16))))


def _endpoint(proved: Proved, event_type: str) -> EndpointConfig:
    template_id = None if proved.template is None else proved.template.id
    endpoints = proved.view.route(event_type, template_id=template_id, source_id=None)
    endpoint = next((one for one in endpoints if one.template_id is not None), None)
    if endpoint is None:
        raise Conflict("this template has no endpoint that could be asked", code="endpoint_missing")
    if endpoint.state != "active":
        raise ContextFailed("the endpoint of this template is disabled")
    return endpoint
