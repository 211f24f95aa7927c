"""Templates: with their endpoint, and with the voice agent that the provider should have for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypedDict, Unpack

from sqlalchemy import Connection

from relay.calls import MAX_FACT_CHARS
from relay.delivery.headers import checked_headers
from relay.errors import BadRequest, Issue, NotFound, ValidationFailed
from relay.provisioning.caps import check_template_endpoints, check_templates
from relay.provisioning.changes import Changes
from relay.provisioning.checks import (
    MAX_DEADLINE_SECONDS,
    MAX_NAME_CHARS,
    MAX_RETENTION_HOURS,
    checked_config,
    checked_range,
    checked_secrets,
    checked_text,
)
from relay.store import (
    accounts,
    endpoints,
    grants,
    ownership,
    provider_keys,
    rate_cards,
    shown,
    templates,
    voice_agents,
)
from relay.store.snapshot import Signing
from relay.store.templates import NewTemplate, Template, TemplateType
from relay.store.transfers import transferred_to

TEMPLATE_PROVIDERS: Final = ("elevenlabs", "retell", "agora")
# What only an endpoint has.
_OF_ENDPOINT: Final = {
    "delivery_headers": "deliveryHeaders",
    "signing": "signing",
    "deadline_seconds": "deadlineSeconds",
}


class TemplateOptions(TypedDict, total=False):
    """What may be said of a template; what is left out stays as it is, or has its default.

    `webhook_secret` None has one generated. `delivery_headers`, `signing` and `deadline_seconds` are its endpoint's,
    and need a URL; None is their default, and a header whose value is None keeps the one that it has.
    """

    agent_id: str | None
    client_webhook_url: str | None
    webhook_secret: str | None
    content_retention_hours: int | None
    rate_card_id: str | None
    delivery_headers: Mapping[str, str | None] | None
    signing: Signing | None
    deadline_seconds: int | None


class TemplateFields(TemplateOptions, total=False):
    """The same with what every template has."""

    name: str
    type: TemplateType
    config: Mapping[str, Any]


class TemplateChanges(Changes):
    """Makes, changes and deletes templates."""

    def create_template(
        self,
        *,
        account_id: str,
        name: str,
        type: TemplateType,  # noqa: A002  the field's name in the API
        config: Mapping[str, Any],
        provider: str = "elevenlabs",
        with_agent: bool = False,
        hidden: bool = False,
        **options: Unpack[TemplateOptions],
    ) -> NewTemplate:
        """A template, with its endpoint if it has a URL.

        `with_agent`: have the provider make its agent, where the customer brings none.
        """
        fields: TemplateFields = {**options, "name": name, "type": type, "config": config}
        _check(provider, fields, agent_id=options.get("agent_id"))
        _check_pair(config)
        checked_config(config)
        checked: dict[str, Any] = {**options, **_of_endpoint(options, None)}
        checked["client_webhook_url"] = self._checked_url(account_id, options.get("client_webhook_url"))

        def make(connection: Connection) -> NewTemplate:
            if not hidden:
                check_templates(connection, account_id)
            self._check_rows(connection, account_id, provider, checked | {"config": config})
            made = templates.create(
                connection,
                self._ring,
                account_id=account_id,
                name=name,
                type=type,
                config=config,
                provider=provider,
                hidden=hidden,
                **checked,
            )
            if with_agent or made.template.agent_id is not None:
                _want_agent(connection, made.template, is_brought=made.template.agent_id is not None)
            self._audit_template(connection, "template.created", after=made.template)
            return made

        return self._changing(account_id, make)

    def update_template(self, *, account_id: str, template_id: int, **fields: Unpack[TemplateFields]) -> NewTemplate:
        """Change what is given and leave the rest, in `config` as well; None takes a part of it away. Raises NotFound.

        A URL of None unbinds the endpoint; an agent of None has the provider make one. `endpoint` in the answer is the
        one that was made, if a first URL was given.
        """
        old = self.template(account_id=account_id, template_id=template_id)
        _check(old.provider, fields, agent_id=fields.get("agent_id", old.agent_id))
        if "client_webhook_url" in fields:
            fields["client_webhook_url"] = self._checked_url(account_id, fields["client_webhook_url"])

        def change(connection: Connection) -> NewTemplate:
            accounts.lock(connection, account_id)  # what is merged below must be the newest
            before = templates.get(connection, self._ring, account_id=account_id, template_id=template_id)
            agent = voice_agents.get(connection, account_id=account_id, template_id=template_id)
            given = _merged(before, fields)
            is_ours = before.agent_id is None if agent is None else agent.created_here
            asked = given.get("agent_id", before.agent_id)
            if asked == before.agent_id or (asked is None and is_ours):
                given.pop("agent_id", None)  # nothing new: what is ours is neither a brought one, nor to be unbound
            self._check_rows(connection, account_id, before.provider, given)
            if given.get("client_webhook_url") is not None and before.endpoint_id is None:
                check_template_endpoints(connection, account_id, template_id)
            changed = templates.update(connection, self._ring, account_id=account_id, template_id=template_id, **given)
            _want_agent(connection, changed.template, is_brought=bool(given.get("agent_id", not is_ours)))
            self._audit_template(connection, "template.updated", before=before, after=changed.template)
            return changed

        return self._changing(account_id, change)

    def delete_template(self, *, account_id: str, template_id: int) -> None:
        """Take a template out of service, and have the provider delete its agent if it was made here. Raises NotFound.

        Calls that are under way end by themselves, and are still delivered and charged.
        """

        def delete(connection: Connection) -> None:
            before = templates.get(connection, self._ring, account_id=account_id, template_id=template_id)
            templates.delete(connection, account_id=account_id, template_id=template_id)
            voice_agents.remove(connection, account_id=account_id, template_id=template_id)
            self._audit_template(connection, "template.deleted", before=before)

        self._changing(account_id, delete)

    def template(self, *, account_id: str, template_id: int) -> Template:
        """One template. Raises NotFound."""
        with self._database.begin() as connection:
            return templates.get(connection, self._ring, account_id=account_id, template_id=template_id)

    def _check_rows(self, connection: Connection, account_id: str, provider: str, given: Mapping[str, Any]) -> None:
        """What a template names must be this account's, or granted to it."""
        card_id, agent_id = given.get("rate_card_id"), given.get("agent_id")
        if card_id is not None and not rate_cards.is_offered(connection, account_id=account_id, card_id=card_id):
            raise BadRequest(
                "no rate card by this id is offered to this account", code="rate_card_unknown", field="rateCard"
            )
        named = {"agentId": () if agent_id is None else (agent_id,), "tools": transferred_to(given.get("config") or {})}
        for field, agent_ids in named.items():
            for each in agent_ids:
                if ownership.is_of_another(connection, account_id=account_id, provider=provider, agent_id=each):
                    raise NotFound("there is no agent by this id", code="agent_not_found", field=field)
            if self._is_on_ours(connection, account_id, provider):
                grants.demand(connection, account_id=account_id, provider=provider, object_ids=agent_ids, field=field)

    def _is_on_ours(self, connection: Connection, account_id: str, provider: str) -> bool:
        """Whether the account uses this provider with the operator's key."""
        ours = {"elevenlabs": self._settings.elevenlabs, "retell": self._settings.retell, "agora": self._settings.agora}
        own = provider_keys.find(connection, account_id=account_id, provider=provider)
        return own is None and bool(ours[provider].api_key)

    def _checked_url(self, account_id: str, url: str | None) -> str | None:
        """The URL as it will be called. Last of the checks, because it asks the resolver."""
        return None if url is None else self.checked_url(url, account_id=account_id, field="clientWebhookUrl")

    def _audit_template(
        self, connection: Connection, action: str, *, before: Template | None = None, after: Template | None = None
    ) -> None:
        one = after or before
        if one is None:
            raise ValueError("an audited change has something before or after it")
        then, now = (None if template is None else shown.template(template) for template in (before, after))
        self._audit(connection, action, one.id, account_id=one.account_id, before=then, after=now)


def _check(provider: str, fields: TemplateFields, *, agent_id: str | None) -> None:
    """What can be told without looking anything up."""
    if provider not in TEMPLATE_PROVIDERS:
        raise BadRequest(f"provider must be one of {', '.join(TEMPLATE_PROVIDERS)}", field="provider")
    if provider == "retell" and agent_id is None:
        raise BadRequest("a template for Retell needs the agentId of an agent that exists there", field="agentId")
    if provider == "agora" and agent_id is not None:
        raise BadRequest("Agora's agents are made when a session starts: there is no agentId", field="agentId")
    if agent_id is not None:
        checked_text(agent_id, "agentId", MAX_FACT_CHARS)
    if "name" in fields:
        checked_text(fields["name"], "name", MAX_NAME_CHARS)
    checked_secrets(fields.get("webhook_secret"), None)
    deadline, retention = fields.get("deadline_seconds"), fields.get("content_retention_hours")
    if deadline is not None:
        checked_range(deadline, "deadlineSeconds", 1, MAX_DEADLINE_SECONDS)
    if retention is not None:
        checked_range(retention, "contentRetention", 0, MAX_RETENTION_HOURS)


def _check_pair(config: Mapping[str, Any]) -> None:
    """A model is named together with its maker, or neither is."""
    for field, other in (("llmModel", "llmProvider"), ("llmProvider", "llmModel")):
        if config.get(field) is None and config.get(other) is not None:
            raise ValidationFailed([Issue(path=field, message=f"is required with {other}", code="missing")])


def _merged(before: Template, fields: TemplateFields) -> dict[str, Any]:
    """The fields as they will be stored, where what was there before is part of them."""
    given: dict[str, Any] = {**fields, **_of_endpoint(fields, before)}
    if "config" in fields:
        config = {**before.config, **fields["config"]}
        given["config"] = {name: value for name, value in config.items() if value is not None}
        _check_pair(given["config"])
        checked_config(given["config"])
    return given


def _of_endpoint(options: TemplateOptions, before: Template | None) -> dict[str, Any]:
    """The endpoint's part as it will be stored. Without a URL there is nowhere to keep what differs from before."""
    old_headers = before.delivery_headers or {} if before else {}
    values: dict[str, Any] = {}
    if "delivery_headers" in options:
        values["delivery_headers"] = _merged_headers(old_headers, options["delivery_headers"] or {})
    if "signing" in options:
        values["signing"] = options["signing"] or "standard"
    if "deadline_seconds" in options:
        values["deadline_seconds"] = options["deadline_seconds"] or endpoints.DEADLINE_SECONDS
    if options.get("client_webhook_url", before.client_webhook_url if before else None) is None:
        asked: dict[str, Any] = {**options}
        for name, field in _OF_ENDPOINT.items():
            if asked.get(name) is not None and (before is None or values[name] != getattr(before, name)):
                raise BadRequest(f"{field} is of no use without clientWebhookUrl", field=field)
    return values


def _merged_headers(before: Mapping[str, str], given: Mapping[str, str | None]) -> dict[str, str]:
    """The headers that are given, None standing for the value that a header has."""
    merged = {}
    for name, value in given.items():
        kept = before.get(name) if value is None else value
        if kept is None:
            raise BadRequest("null keeps a header's value, and one of these has none", field="deliveryHeaders")
        merged[name] = kept
    return dict(checked_headers(merged, field="deliveryHeaders"))


def _want_agent(connection: Connection, template: Template, *, is_brought: bool) -> None:
    """Have the provider get what the template says; Agora gets it with each session."""
    if template.provider == "agora":
        return
    voice_agents.want(
        connection,
        account_id=template.account_id,
        template_id=template.id,
        provider=template.provider,
        created_here=not is_brought,
        agent_id=template.agent_id if is_brought else None,
    )
