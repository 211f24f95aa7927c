"""The ingress' routes. Views are thin: read the body, hand it to the intake, answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec
from flask import Blueprint, Response, current_app, request

from relay.bodies import BUDGET_BYTES, BodyBudget, Share, closing, read_body
from relay.content import Content
from relay.delivery.transport import Reply
from relay.errors import BodyTooLarge, EventIgnored, LoopDetected, SwitchhookError, Unavailable
from relay.ingress.context import Contexts
from relay.ingress.intake import CanaryRoute, Intake, Receipt
from relay.problems import JSON, envelope, problem, retry_after
from relay.providers import PROVIDERS, elevenlabs
from relay.request_ids import REQUEST_ID, new_request_id
from relay.telemetry import logs, metrics

EXTENSION: Final = "switchhook-ingress"
CONTEXTS: Final = "switchhook-contexts"
SECRET_HEADER: Final = "X-Webhook-Secret"  # noqa: S105  (a header's name)
_CANARY: Final = "canaryllm"
_MAX_CONTENT_TYPE: Final = 256
_INTERNAL_ERROR: Final = 500
_OCTETS: Final = "application/octet-stream"
# One for the process, because the memory is.
_BODIES: Final = BodyBudget(BUDGET_BYTES)

Environ = dict[str, Any]
Refuse = Callable[[SwitchhookError], tuple[bytes, str]]

blueprint = Blueprint("ingress", __name__)
HOT_ENDPOINT: Final = "ingress.provider_webhook"


@blueprint.post("/api/v1/webhooks/<provider>/<source_id>")
def provider_webhook(provider: str, source_id: str) -> Response:
    """A provider's signed webhook for a source."""
    label = provider if provider in PROVIDERS else "unknown"
    intake, header = current_intake(), _header(request.environ)

    def take(body: Content, content_type: str) -> Receipt:
        return intake.signed(provider, source_id, body, header=header, content_type=content_type)

    def expect() -> None:
        intake.expects_signed(provider, source_id, header=header)

    return answered(label, take, _received, ignored_or_problem, expect=expect, audio=provider == elevenlabs.NAME)


@blueprint.post("/api/convagents/webhook/event", defaults={"route": "event"})
@blueprint.post("/api/convagents/webhook/complete", defaults={"route": "complete"})
def canary_webhook(route: CanaryRoute) -> Response:
    """CanaryLLM's inbound webhooks, proved by a template's secret."""
    headers = request.headers
    secret, signature = headers.get(SECRET_HEADER), headers.get(elevenlabs.SIGNATURE_HEADERS[0])

    def expect() -> None:
        current_intake().expects_canary(route, secret=secret, signature=signature)

    def take(body: Content, content_type: str) -> Receipt:
        return current_intake().canary(
            route,
            body,
            secret=secret,
            signature=signature,
            idempotency_key=headers.get("Idempotency-Key"),
            content_type=content_type,
        )

    return answered(_CANARY, take, _canary_received, envelope, expect=expect, audio=route == "complete")


@blueprint.post("/api/convagents/webhook/context")
def canary_context() -> Response:
    """What an agent asks in the middle of a call: the customer's own answer, at once."""
    contexts: Contexts = current_app.extensions[CONTEXTS]
    secret, idempotency_key = request.headers.get(SECRET_HEADER), request.headers.get("Idempotency-Key")

    def work() -> Response:
        if "HTTP_SWITCHHOOK_EVENT" in request.environ:
            # A question of our own, or a delivery: no agent sends this header. Each round would ask once more.
            raise LoopDetected
        current_intake().expects_canary("context", secret=secret, signature=None)
        with _BODIES.share() as share:
            question = contexts.question(_body(request.environ, share), secret=secret, idempotency_key=idempotency_key)
        # The body's share is back by now: a customer's server that is slow holds up nobody else's body.
        reply = contexts.ask(question)
        metrics.record_context("answered")
        return _passed_on(reply)

    return _guarded(_CANARY, work, envelope, count=metrics.record_context)


def answered(
    label: str,
    take: Callable[[Content, str], Receipt],
    answer: Callable[[Receipt], bytes],
    refuse: Refuse,
    *,
    expect: Callable[[], None],
    audio: bool = False,
) -> Response:
    """Read the body, have it taken, and answer; every error is told by `refuse`, and none is a 500.

    `expect` raises what can be refused by the headers alone; `label` names the sender in the metrics; `audio` admits
    ElevenLabs' recordings.
    """
    began = time.perf_counter()
    # Read once: each look at `request` goes through a context variable, and each header through a decoder.
    environ = request.environ

    def work() -> Response:
        if "HTTP_WEBHOOK_ID" in environ:
            current_intake().refuse_own(environ["HTTP_WEBHOOK_ID"])
        expect()
        with _BODIES.share() as share:
            receipt = take(_body(environ, share, audio=audio), _content_type(environ))
        metrics.record_ingress(label, "repeat" if receipt.repeat else "new")
        metrics.record_accept(time.perf_counter() - began)
        return Response(answer(receipt), content_type=JSON, headers={REQUEST_ID: new_request_id()})

    return _guarded(label, work, refuse, count=partial(metrics.record_ingress, label))


def ignored_or_problem(error: SwitchhookError) -> tuple[bytes, str]:
    """An error on our own paths; what was not taken, and need not be sent again, is 200 with an `error`."""
    if isinstance(error, EventIgnored):
        return msgspec.json.encode({"error": error.detail}), JSON
    return problem(error)


def _received(receipt: Receipt) -> bytes:
    repeat = b"true" if receipt.repeat else b"false"
    return b'{"received":true,"id":"%b","repeat":%b}' % (receipt.event_id.encode(), repeat)


def _canary_received(receipt: Receipt) -> bytes:
    return b'{"success":true,"data":{"received":true,"id":"%b"}}' % receipt.event_id.encode()


def _guarded(label: str, work: Callable[[], Response], refuse: Refuse, *, count: Callable[[str], None]) -> Response:
    # No error is kept in a variable: its traceback holds the body, and a frame in a cycle is freed much later.
    try:
        return work()
    except BodyTooLarge as error:
        metrics.record_body_refused(label)
        source_id = (request.view_args or {}).get("source_id")
        logs.alarm("body_too_large", provider=label, source_id=source_id, limit_bytes=_limit_bytes())
        return _refused(error, refuse, count)
    except SwitchhookError as error:
        if error.status != _INTERNAL_ERROR:
            return _refused(error, refuse, count)
        return _failed(label, error, refuse, count)
    except Exception as error:
        return _failed(label, error, refuse, count)


def _failed(label: str, error: Exception, refuse: Refuse, count: Callable[[str], None]) -> Response:
    """An error of ours, answered as 503: a provider that saw 500 might give the event up."""
    request_id = new_request_id()
    logs.failure("ingress_failed", error, provider=label, request_id=request_id)
    return _refused(Unavailable("Something went wrong here; send it again."), refuse, count, request_id=request_id)


def _refused(
    error: SwitchhookError, refuse: Refuse, count: Callable[[str], None], *, request_id: str | None = None
) -> Response:
    count(error.code)
    body, content_type = refuse(error)
    headers = {REQUEST_ID: request_id or new_request_id()} | retry_after(error) | closing(request.environ)
    return Response(body, status=error.status, content_type=content_type, headers=headers)


def _body(environ: Environ, share: Share, *, audio: bool = False) -> Content:
    return Content(read_body(environ, limit_bytes=_limit_bytes(), audio=audio, grow=share.grow))


def _limit_bytes() -> int:
    limit_bytes: int = current_app.config["SWITCHHOOK_MAX_BODY"]
    return limit_bytes


def _content_type(environ: Environ) -> str:
    """The sender's Content-Type, passed on verbatim if it is a header that can be sent."""
    raw: str = environ.get("CONTENT_TYPE") or JSON
    return raw if _is_sendable(raw) else JSON


def _passed_on(reply: Reply) -> Response:
    """The customer's answer, without a Content-Type if it had none."""
    given = reply.content_type
    response = Response(reply.body.reveal(), status=reply.status, headers={REQUEST_ID: new_request_id()})
    response.headers.remove("Content-Type")
    if given:
        response.headers["Content-Type"] = given if _is_sendable(given) else _OCTETS
    return response


def _header(environ: Environ) -> Callable[[str], str | None]:
    """Looks headers up as the server gave them; one that came twice is joined by a comma (RFC 9110, 5.3)."""
    return lambda name: environ.get(f"HTTP_{name.upper().replace('-', '_')}")


def _is_sendable(content_type: str) -> bool:
    return len(content_type) <= _MAX_CONTENT_TYPE and content_type.isascii() and content_type.isprintable()


def current_intake() -> Intake:
    """The intake of the application that answers this request."""
    intake: Intake = current_app.extensions[EXTENSION]
    return intake
