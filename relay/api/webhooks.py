"""The ingress' routes as OpenAPI describes them, written by hand: they are served without the API's machinery.

Their bodies are the providers' own, so that nothing is said of them but where they are read.
"""

from __future__ import annotations

from typing import Any, Final

from relay.api.core import credentials
from relay.api.core.refusals import object_of
from relay.api.core.responses import meaning, named_header
from relay.api.core.samples import sample
from relay.problems import JSON, PROBLEM_JSON
from relay.providers import PROVIDERS, elevenlabs
from relay.request_ids import REQUEST_ID

TAG: Final = "Webhooks in"

_TEXT: Final = {"type": "string"}
_ERRORS: Final = (400, 401, 404, 413, 415, 503, 508)

_RECEIVED: Final = object_of(received={"const": True}, id=_TEXT, repeat={"type": "boolean"})
_CANARY_RECEIVED: Final = object_of(success={"const": True}, data=object_of(received={"const": True}, id=_TEXT))
_CANONICAL: Final = {"anyOf": [object_of(callId=_TEXT), object_of(error=_TEXT)]}
_PROBLEM: Final = object_of(type=_TEXT, title=_TEXT, status={"type": "integer"}, detail=_TEXT, code=_TEXT)
_ENVELOPE: Final = object_of(success={"const": False}, error=_TEXT, code=_TEXT)


def _answers(success: dict[str, Any], *, errors: tuple[int, ...], is_canary: bool) -> dict[str, Any]:
    refusal = {JSON: {"schema": _ENVELOPE}} if is_canary else {PROBLEM_JSON: {"schema": _PROBLEM}}
    refused = {str(status): _described(meaning(status), refusal) for status in errors}
    return {"200": success, **refused}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return _described("Verified, sealed, and committed: safe from here on", {JSON: {"schema": schema}})


def _described(description: str, content: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "headers": {REQUEST_ID: named_header(REQUEST_ID)}, "content": content}


def _header(name: str, description: str) -> dict[str, str]:
    return {"type": "apiKey", "in": "header", "name": name, "description": description}


# A signature is no key, but of what OpenAPI knows a header with a proof in it comes nearest.
_SIGNATURES: Final = {
    name: _header(name, "The provider's signature, under a secret of the source.")
    for provider in PROVIDERS.values()
    for name in provider.SIGNATURE_HEADERS
}
_SECRET: Final = "templateSecret"  # noqa: S105  (a scheme's name)
SCHEMES: Final = _SIGNATURES | {_SECRET: _header("X-Webhook-Secret", "The template's secret.")}

_REPEAT: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "What a repeat is known by, else the hash of the body.",
    "schema": _TEXT,
}


# What is read of a body; all of it is passed on.
_ANYTHING: Final[dict[str, Any]] = {"type": "object"}
_ID: Final = {"type": "string", "minLength": 1, "maxLength": 256}
_ROW: Final = {"anyOf": [{"type": "integer"}, {"type": "string", "pattern": "^[0-9]+$"}]}
_RETELL: Final = object_of(
    event={"type": "string", "examples": ["call_analyzed"]},
    call=object_of({"duration_ms": {"type": "integer", "examples": [91000]}}, call_id={**_ID, "examples": ["c1"]}),
)
_CONVERSATION: Final = object_of(
    {
        "sessionId": {**_ROW, "description": "The session; it or the conversation is needed.", "examples": ["7"]},
        "conversationId": {**_ID, "description": "The conversation at the provider."},
        "agentId": {**_ID, "description": "The provider's agent."},
        "templateId": {**_ROW, "description": "Which template, when several have this secret."},
    }
)
_ENDED: Final = object_of(
    {
        "durationSeconds": {"type": "number", "minimum": 0, "examples": [61]},
        "status": {"type": "string", "description": "`failed` and `error` make the session failed."},
        **_CONVERSATION["properties"],
    }
)


def _operation(name: str, summary: str, schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    content = {"schema": schema, "example": sample(schema, {})}
    body = {"required": True, "content": {JSON: content}}
    return {
        "post": {
            "operationId": f"ingress_{name}",
            "summary": summary,
            "tags": [TAG],
            "requestBody": body,
            **more,
        }
    }


PATHS: Final[dict[str, Any]] = {
    "/api/v1/webhooks/{provider}/{source_id}": _operation(
        "provider_webhook",
        "A provider's signed webhook, for a source",
        _ANYTHING,
        description="The proof is the provider's own signature header, under a secret of the source. The bytes of the "
        "body are what the customer receives.",
        parameters=[
            {
                "name": "provider",
                "in": "path",
                "required": True,
                "description": "The source's provider.",
                "schema": {"type": "string", "enum": sorted(PROVIDERS)},
            },
            {
                "name": "source_id",
                "in": "path",
                "required": True,
                "description": "The id of the source, which cannot be guessed.",
                "schema": {"type": "string", "minLength": 1},
            },
        ],
        security=[{scheme: []} for scheme in _SIGNATURES],
        responses=_answers(_json(_RECEIVED), errors=_ERRORS, is_canary=False),
    ),
    "/api/v1/webhooks/retell": _operation(
        "canonical_webhook",
        "Canonical.chat's intake for Retell's `call_analyzed`",
        _RETELL,
        description="Other events of Retell are answered with an `error`, and nothing of them is stored.",
        parameters=[],
        security=[{scheme: ["read"]} for scheme in credentials.CANONICAL],
        responses=_answers(_json(_CANONICAL), errors=_ERRORS, is_canary=False),
    ),
    "/api/convagents/webhook/event": _operation(
        "canary_event",
        "CanaryLLM's inbound webhook for what happens during a conversation",
        _CONVERSATION,
        description="The whole body becomes `data` of the envelope that the template's endpoint receives.",
        parameters=[_REPEAT],
        security=[{_SECRET: []}],
        responses=_answers(_json(_CANARY_RECEIVED), errors=_ERRORS, is_canary=True),
    ),
    "/api/convagents/webhook/complete": _operation(
        "canary_complete",
        "CanaryLLM's inbound webhook for the end of a conversation",
        _ENDED,
        description="Ends and charges the session. ElevenLabs' signature may prove it instead of the secret.",
        parameters=[_REPEAT],
        security=[{_SECRET: []}, *({name: []} for name in elevenlabs.SIGNATURE_HEADERS)],
        responses=_answers(_json(_CANARY_RECEIVED), errors=_ERRORS, is_canary=True),
    ),
    "/api/convagents/webhook/context": _operation(
        "canary_context",
        "CanaryLLM's question in the middle of a conversation",
        _CONVERSATION,
        description="Passed on to the template's endpoint, whose answer comes back as it is: any 2xx status and type.",
        parameters=[_REPEAT],
        security=[{_SECRET: []}],
        responses=_answers(
            _described("The customer's own answer", {"*/*": {"schema": {}}}),
            errors=(*_ERRORS, 409, 502, 504),
            is_canary=True,
        ),
    ),
}
