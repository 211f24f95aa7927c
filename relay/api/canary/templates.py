"""Templates: what an agent is, and where what it hears goes."""

from __future__ import annotations

from typing import Final, Literal

from relay.api.canary import template_views
from relay.api.canary.template_fields import changes_of, config_of, options_of
from relay.api.canary.template_models import (
    NewTemplate,
    TemplateChange,
    TemplateList,
    TemplateMade,
    TemplateRead,
    TemplatesQuery,
)
from relay.api.core.access import Access
from relay.api.core.families import CANARY
from relay.api.core.models import Output
from relay.api.core.operations import Call, Group

group = Group(CANARY, tag="CanaryLLM: templates")

_EVERY: Final = "/api/convagents/templates"
_ONE: Final = f"{_EVERY}/<row:template_id>"


class Deleted(Output):
    """That it is gone."""

    success: Literal[True] = True
    message: str


@group.operation(
    "POST", _EVERY, access=Access.WRITE, body=NewTemplate, answers={201: TemplateMade}, errors=(404,), is_slow=True
)
def create_template(call: Call[NewTemplate, None]) -> TemplateMade:
    """Create a template.

    Its voice agent is made at the provider, now or as soon as that answers: see `syncStatus`. The secrets that are
    generated are in this answer and in no other.
    """
    body, account_id = call.body, call.account_id
    config = {name: value for name, value in config_of(body).items() if value is not None}
    new = call.provisioning.create_template(
        account_id=account_id,
        name=body.name,
        type=body.type,
        config=config,
        provider=body.provider,
        with_agent=True,
        **options_of(body),
    )
    return template_views.made(call, new, with_secret=body.webhook_secret is None)


@group.operation("GET", _EVERY, access=Access.READ, query=TemplatesQuery, answers={200: TemplateList}, is_wrapped=False)
def list_templates(call: Call[None, TemplatesQuery]) -> TemplateList:
    """List templates, in the order they were made: a hundred at a time."""
    return template_views.listed(call)


@group.operation("GET", _ONE, access=Access.READ, answers={200: TemplateRead})
def get_template(call: Call[None, None], template_id: int) -> TemplateRead:
    """Get a template."""
    return TemplateRead(template=template_views.one(call, template_id))


@group.operation(
    "PUT", _ONE, access=Access.WRITE, body=TemplateChange, answers={200: TemplateMade}, errors=(409,), is_slow=True
)
def update_template(call: Call[TemplateChange, None], template_id: int) -> TemplateMade:
    """Change a template; its voice agent is changed as well.

    What is left out stays as it is; null takes a value away, or back to its default. A `webhookSecret` of null is
    replaced by a new one, which is in this answer and in no other.
    """
    fields = changes_of(call.body, now=template_views.one(call, template_id))
    new = call.provisioning.update_template(account_id=call.account_id, template_id=template_id, **fields)
    is_generated = "webhook_secret" in fields and fields["webhook_secret"] is None
    return template_views.made(call, new, with_secret=is_generated)


@group.operation("DELETE", _ONE, access=Access.WRITE, answers={200: Deleted}, is_wrapped=False, is_slow=True)
def delete_template(call: Call[None, None], template_id: int) -> Deleted:
    """Delete a template and its voice agent.

    Conversations that are under way end by themselves, and are still delivered and charged.
    """
    template_views.one(call, template_id)
    call.provisioning.delete_template(account_id=call.account_id, template_id=template_id)
    template_views.try_agent(call, template_id)
    return Deleted(message="the template is deleted, and no new conversation can be started with it")
