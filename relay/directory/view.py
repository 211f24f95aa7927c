"""One account's configuration, indexed for the questions that the hot path asks. Pure."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Final

from relay.calls import SWITCHHOOK
from relay.store.snapshot import AccountConfig, EndpointConfig, SourceConfig, TemplateConfig

_MAX_ROUTES: Final = 4096
_OURS: Final = f"{SWITCHHOOK}."


class AccountView:
    """Look-ups over one immutable configuration."""

    __slots__ = (
        "_agents",
        "_operations",
        "_routes",
        "_wide",
        "account_id",
        "endpoints",
        "has_agents_of_ours",
        "key_hashes",
        "quota_bytes",
        "sources",
        "templates",
        "version",
    )

    def __init__(self, config: AccountConfig) -> None:
        self.account_id = config.account_id
        self.version = config.version
        self.quota_bytes = config.quota_bytes
        self.key_hashes = frozenset(config.key_hashes)
        self.sources: dict[str, SourceConfig] = {source.id: source for source in config.sources}
        self.templates: dict[int, TemplateConfig] = {template.id: template for template in config.templates}
        self.endpoints: dict[str, EndpointConfig] = {endpoint.id: endpoint for endpoint in config.endpoints}
        # Their webhooks come to a source of ours, which is there before the first of them.
        self.has_agents_of_ours = any(source.managed for source in config.sources)
        # The retired first: who has their agent by now comes before them.
        by_age = sorted(config.templates, key=lambda template: not template.retired)
        self._agents = {(template.provider, template.agent_id): template for template in by_age if template.agent_id}
        wide = [e for e in config.endpoints if e.template_id is None and e.source_id is None]
        self._wide = [e for e in wide if not _is_for_operations(e)]
        self._operations = [e for e in wide if _is_for_operations(e)]
        self._routes: dict[tuple[str, int | None, str | None], tuple[EndpointConfig, ...]] = {}

    def template_of_agent(self, provider: str, agent_id: str | None) -> TemplateConfig | None:
        """The template that owns a provider's agent."""
        return self._agents.get((provider, agent_id)) if agent_id else None

    def route(self, event_type: str, *, template_id: int | None, source_id: str | None) -> tuple[EndpointConfig, ...]:
        """The endpoints of an event: its template's, else its source's, and every account-wide one.

        What Switchhook itself tells the account goes to its operations endpoints, and they get nothing else. Each only
        if its filter takes the type. Disabled endpoints are included: their units are settled as dead, so that nothing
        ends in silence.
        """
        key = (event_type, template_id, source_id)
        known = self._routes.get(key)
        if known is None:
            known = self._route(*key)
            # A provider may name its events as it likes: the cache holds what usual ones need.
            if len(self._routes) < _MAX_ROUTES:
                self._routes[key] = known
        return known

    def _route(self, event_type: str, template_id: int | None, source_id: str | None) -> tuple[EndpointConfig, ...]:
        if event_type.startswith(_OURS):
            return tuple(e for e in self._operations if _takes(e, event_type))
        # By what the template names: an endpoint that it gave up is still its own, and only sends what waits.
        template = None if template_id is None else self.templates.get(template_id)
        bound = [e for e in self.endpoints.values() if template is not None and e.id == template.endpoint_id]
        if not bound and source_id is not None:
            bound = [e for e in self.endpoints.values() if e.source_id == source_id]
        return tuple(e for e in (*bound, *self._wide) if _takes(e, event_type))


def _is_for_operations(endpoint: EndpointConfig) -> bool:
    """By its filters: a version that knew of no operations may have mirrored it, and routes by those alone."""
    return all(pattern.startswith(_OURS) for pattern in endpoint.filters)


def _takes(endpoint: EndpointConfig, event_type: str) -> bool:
    return any(pattern == "*" or fnmatchcase(event_type, pattern) for pattern in endpoint.filters)
