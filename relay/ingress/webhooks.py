"""The ingress' routes. Views are thin: read the body, hand it to the intake, answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from flask import Blueprint, Response, current_app, request

from relay.content import Content
from relay.errors import BodyTooLarge, SwitchhookError, Unavailable
from relay.ingress.body import read_body
from relay.ingress.intake import CanaryRoute, Intake, Receipt
from relay.problems import JSON, envelope, problem, retry_after
from relay.providers import PROVIDERS, elevenlabs
from relay.telemetry import logs, metrics

EXTENSION: Final = "switchhook-ingress"
_MAX_CONTENT_TYPE: Final = 256
_INTERNAL_ERROR: Final = 500

blueprint = Blueprint("ingress", __name__)


@blueprint.post("/api/v1/webhooks/<provider>/<source_id>")
def provider_webhook(provider: str, source_id: str) -> Response:
    """A provider's signed webhook for a source."""
    label = provider if provider in PROVIDERS else "unknown"

    def take(body: Content, content_type: str) -> Receipt:
        return _intake().signed(provider, source_id, body, header=request.headers.get, content_type=content_type)

    def answer(receipt: Receipt) -> bytes:
        repeat = b"true" if receipt.repeat else b"false"
        return b'{"received":true,"id":"%b","repeat":%b}' % (receipt.event_id.encode(), repeat)

    return _answered(label, take, answer, problem, audio=provider == elevenlabs.NAME)


@blueprint.post("/api/convagents/webhook/event", defaults={"route": "event"})
@blueprint.post("/api/convagents/webhook/complete", defaults={"route": "complete"})
def canary_webhook(route: CanaryRoute) -> Response:
    """CanaryLLM's inbound webhooks, proved by a template's secret."""

    def take(body: Content, content_type: str) -> Receipt:
        headers = request.headers
        return _intake().canary(
            route,
            body,
            secret=headers.get("X-Webhook-Secret"),
            signature=headers.get(elevenlabs.SIGNATURE_HEADER),
            idempotency_key=headers.get("Idempotency-Key"),
            content_type=content_type,
        )

    def answer(receipt: Receipt) -> bytes:
        return b'{"success":true,"data":{"received":true,"id":"%b"}}' % receipt.event_id.encode()

    return _answered("canaryllm", take, answer, envelope, audio=route == "complete")


def _answered(
    label: str,
    take: Callable[[Content, str], Receipt],
    answer: Callable[[Receipt], bytes],
    refuse: Callable[[SwitchhookError], tuple[bytes, str]],
    *,
    audio: bool,
) -> Response:
    began = time.perf_counter()
    try:
        limit_bytes = current_app.config["SWITCHHOOK_MAX_BODY"]
        body = Content(read_body(request.environ, limit_bytes=limit_bytes, audio=audio))
        receipt = take(body, _content_type())
    except BodyTooLarge as error:
        metrics.record_body_refused(label)
        source_id = (request.view_args or {}).get("source_id")
        logs.alarm("body_too_large", provider=label, source_id=source_id, limit_bytes=limit_bytes)
        return _refused(label, error, refuse)
    except SwitchhookError as error:
        if error.status != _INTERNAL_ERROR:
            return _refused(label, error, refuse)
        return _failed(label, error, refuse)
    except Exception as error:
        return _failed(label, error, refuse)
    metrics.record_ingress(label, "repeat" if receipt.repeat else "new")
    metrics.record_accept(time.perf_counter() - began)
    return Response(answer(receipt), content_type=JSON)


def _failed(label: str, error: Exception, refuse: Callable[[SwitchhookError], tuple[bytes, str]]) -> Response:
    """An error of ours, answered as 503: a provider that saw 500 might give the event up."""
    logs.failure("ingress_failed", error, provider=label)
    return _refused(label, Unavailable("Something went wrong here; send it again."), refuse)


def _refused(label: str, error: SwitchhookError, refuse: Callable[[SwitchhookError], tuple[bytes, str]]) -> Response:
    metrics.record_ingress(label, error.code)
    body, content_type = refuse(error)
    return Response(body, status=error.status, content_type=content_type, headers=retry_after(error))


def _content_type() -> str:
    """The sender's Content-Type, passed on verbatim if it is a header that can be sent."""
    raw = request.environ.get("CONTENT_TYPE") or JSON
    return raw if len(raw) <= _MAX_CONTENT_TYPE and raw.isascii() and raw.isprintable() else JSON


def _intake() -> Intake:
    intake: Intake = current_app.extensions[EXTENSION]
    return intake
