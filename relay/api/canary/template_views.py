"""Templates with how far their agents have come, as they are shown."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from relay.api.canary.template_fields import template_shown
from relay.api.canary.template_models import TemplateList, TemplateMade, TemplateShown, TemplatesQuery
from relay.api.core import cursors
from relay.api.core.operations import Call
from relay.errors import NotFound
from relay.store import template_pages, templates, voice_agents
from relay.store.templates import NewTemplate


def one(call: Call[Any, Any], template_id: int) -> TemplateShown:
    """A template of the caller's account. Raises NotFound."""
    return TemplateShown.model_validate(_read(call, template_id))


def listed(call: Call[None, TemplatesQuery]) -> TemplateList:
    """A page of the templates of the caller's account, in the order they were made. Raises BadRequest."""
    services, query = call.services, call.query
    after = cursors.read(query.cursor, int)
    with services.database.begin() as connection:
        rows, more_after = template_pages.page(
            connection, services.ring, account_id=call.account_id, after=after, limit=query.limit
        )
        ids = [row.id for row in rows]
        agents = voice_agents.of_templates(connection, account_id=call.account_id, template_ids=ids)
    shown = [TemplateShown.model_validate(template_shown(row, agents.get(row.id))) for row in rows]
    return TemplateList(data=shown, next_cursor=None if more_after is None else cursors.written(more_after))


def made(call: Call[Any, Any], new: NewTemplate, *, with_secret: bool) -> TemplateMade:
    """A template that was made or changed just now, with the secrets that were generated for it.

    Its agent is tried first, so that the answer tells what came of it.
    """
    try_agent(call, new.template.id)
    secrets = {
        "webhookSecret": new.template.webhook_secret if with_secret else None,
        "signingSecret": new.endpoint.signing_secrets[0] if new.endpoint else None,
    }
    return TemplateMade.model_validate(_read(call, new.template.id) | secrets)


def try_agent(call: Call[Any, Any], template_id: int) -> None:
    """Bring the provider's agent to where the template is now; what fails is tried again by upkeep."""
    with suppress(NotFound):  # it never wanted one
        call.services.sync.template(call.account_id, template_id)


def _read(call: Call[Any, Any], template_id: int) -> dict[str, Any]:
    services, account_id = call.services, call.account_id
    with services.database.begin() as connection:
        row = templates.get(connection, services.ring, account_id=account_id, template_id=template_id)
        agent = voice_agents.get(connection, account_id=account_id, template_id=template_id)
    return template_shown(row, agent)
