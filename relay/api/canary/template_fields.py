"""Templates between the API's models and what is stored. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from pydantic import BaseModel
from pydantic.alias_generators import to_camel

from relay.agents import spec
from relay.api.canary.template_models import NewTemplate, TemplateChange, TemplateShown
from relay.errors import BadRequest, Issue, ValidationFailed
from relay.provisioning.templates import TemplateFields, TemplateOptions
from relay.store import shown
from relay.store.templates import Template
from relay.store.voice_agents import VoiceAgent

# What is said about the agent itself is kept as it was written, under the API's names.
_CONFIG: Final = (
    "description",
    "system_prompt",
    "first_message",
    "voice_id",
    "voice_model",
    "voice_settings",
    "language",
    "language_presets",
    "llm_provider",
    "llm_model",
    "max_duration_seconds",
    "tag",
    "questions",
    "tools",
    "success_criteria",
    "data_collection",
)
# The other fields that a caller may set, and their names inside.
_OPTIONS: Final = {
    "agent_id": "agent_id",
    "client_webhook_url": "client_webhook_url",
    "webhook_secret": "webhook_secret",
    "content_retention": "content_retention_hours",
    "rate_card": "rate_card_id",
    "delivery_headers": "delivery_headers",
    "signing": "signing",
    "deadline_seconds": "deadline_seconds",
}
_CHANGEABLE: Final = frozenset({*_CONFIG, *_OPTIONS, "name", "type", "relay_public_key"})


def config_of(body: NewTemplate | TemplateChange) -> dict[str, Any]:
    """What was said about the agent itself; None takes a part of it away."""
    given = body.given()
    return {to_camel(name): _plain(given[name]) for name in _CONFIG if name in given}


def options_of(body: NewTemplate | TemplateChange) -> TemplateOptions:
    """What else was said. Raises BadRequest `not_available_yet` for a public key."""
    if body.relay_public_key is not None:
        text = "content cannot be sealed to a key of yours yet; leave relayPublicKey out, or null"
        raise BadRequest(text, code="not_available_yet", field="relayPublicKey")
    given = body.given()
    options: Any = {inside: given[name] for name, inside in _OPTIONS.items() if name in given}
    return cast("TemplateOptions", options)


def changes_of(body: TemplateChange, *, now: TemplateShown) -> TemplateFields:
    """What is to be changed. Raises ValidationFailed for what cannot be, unless it is as it is `now`."""
    given = body.given()
    there = now.model_dump(by_alias=True)
    others = [name for name in given if name not in _CHANGEABLE and given[name] != there[to_camel(name)]]
    if others:
        text = "cannot be changed; leave it out, or send it as it was read"
        raise ValidationFailed([Issue(path=to_camel(name), message=text, code="read_only") for name in others])
    fields: Any = {name: given[name] for name in ("name", "type") if name in given} | options_of(body)
    config = config_of(body)
    return cast("TemplateFields", fields | {"config": config} if config else fields)


def template_shown(row: Template, agent: VoiceAgent | None) -> dict[str, Any]:
    """The fields of a TemplateShown. A template that needs nothing at a provider is synced."""
    return {
        **shown.template(row),
        "syncStatus": agent.status if agent is not None else "synced",
        "syncCode": agent and agent.code,
        "warnings": _warnings(row, agent) if agent is not None and agent.created_here else [],
    }


def _warnings(row: Template, agent: VoiceAgent) -> list[str]:
    refused = [f"the provider refused {path}" for path in agent.refused_fields or ()]
    return [*spec.warnings(row.config), *refused]


def _plain(value: Any) -> Any:
    """As it was written, without what was not, and without null inside."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    return value
