"""Accounts for tests, set up through `relay.provisioning` as the CLI does it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import redis

from relay.directory import Mirror
from relay.outbox import Outbox
from relay.provisioning import Provisioning
from relay.sealing import KeyRing
from relay.settings import Settings
from relay.store import accounts, sessions
from relay.store.accounts import NewApiKey
from relay.store.database import Database
from relay.store.endpoints import Endpoint
from relay.store.templates import NewTemplate

PER_MINUTE: Final = "0.10"
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Inlet:
    """A source: `url` is where its provider sends to, `secret` what it signs with, `endpoint` its own if it has one."""

    id: str
    url: str
    secret: str
    endpoint: Endpoint | None


class Customer:
    """One account."""

    def __init__(self, id: str, *, provisioning: Provisioning, database: Database, mirror: Mirror) -> None:  # noqa: A002
        self.id = id
        self._provisioning = provisioning
        self._database = database
        self._mirror = mirror

    def source(
        self, provider: str, *, relay_url: str | None = None, secret: str | None = None, shared: bool = False
    ) -> Inlet:
        """A source, with an endpoint of its own if `relay_url` is given."""
        secret = secret or f"provider-secret-{next(_numbers)}"
        made, endpoint = self._provisioning.create_source(
            account_id=self.id, provider=provider, secrets=[secret], relay_url=relay_url, shared=shared
        )
        return Inlet(made.id, self._provisioning.source_url(made), secret, endpoint)

    def set_secrets(self, inlet: Inlet, *secrets: str) -> None:
        """Replace the secrets of a source, as `switchhook source set-secrets` does."""
        self._provisioning.set_source_secrets(account_id=self.id, source_id=inlet.id, secrets=secrets)

    def endpoint(self, url: str, *, events: Sequence[str] = ("*",), **options: Any) -> Endpoint:
        """An endpoint for the whole account, or for a source if `source_id` is given."""
        return self._provisioning.create_endpoint(account_id=self.id, url=url, filters=events, **options)

    def set_state(self, endpoint_id: str, *, enabled: bool) -> None:
        """Disable an endpoint, or enable it again."""
        self._provisioning.set_endpoint_state(account_id=self.id, endpoint_id=endpoint_id, enabled=enabled)

    def template(self, url: str | None, *, name: str = "Intake", **options: Any) -> NewTemplate:
        """A template, with its endpoint if it has a URL."""
        return self._provisioning.create_template(
            account_id=self.id, name=name, type="conversation", config={}, client_webhook_url=url, **options
        )

    def agent(self, provider: str, agent_id: str, *, tag: str | None = None, **options: Any) -> int:
        """A template for an agent that the provider has, without an endpoint; its id."""
        self.grant(provider, agent_id)
        config = {} if tag is None else {"tag": tag}
        made = self._provisioning.create_template(
            account_id=self.id,
            name=agent_id,
            type="conversation",
            config=config,
            provider=provider,
            agent_id=agent_id,
            **options,
        )
        return made.template.id

    def api_key(self) -> NewApiKey:
        """An API key of the account, mirrored as every change is."""
        with self._database.begin() as connection:
            made = accounts.create_key(connection, account_id=self.id)
        self._mirror.publish(self._database, self.id)
        return made

    def provider_key(self, provider: str, key: str) -> None:
        """A key of the account's own at a provider."""
        self._provisioning.put_provider_key(account_id=self.id, provider=provider, key=key)

    def grant(self, provider: str, *object_ids: str) -> None:
        """Let the account use these with the operator's key at a provider."""
        for object_id in object_ids:
            self._provisioning.add_grant(account_id=self.id, provider=provider, object_id=object_id)

    def session(self, template_id: int) -> int:
        """A session that is opened before its call, as the API opens it; its id."""
        with self._database.begin() as connection:
            made = sessions.create(connection, account_id=self.id, provider="elevenlabs", template_id=template_id)
        self._mirror.remember_session(self.id, made.id, template_id, lifetime=timedelta(hours=1))
        return made.id


class Customers:
    """Makes accounts, each with a rate card."""

    def __init__(self, settings: Settings, database: Database, client: redis.Redis) -> None:
        ring = KeyRing(settings.keys)
        self._database = database
        self._mirror = Mirror(client, ring)
        self._provisioning = Provisioning(settings, database, ring, self._mirror, Outbox(client))

    def create(self, *, per_minute: str | None = PER_MINUTE, quota_bytes: int | None = None) -> Customer:
        """A new account; without a rate card if `per_minute` is None."""
        made = self._provisioning.create_account(name=f"Customer {next(_numbers)}", quota_bytes=quota_bytes)
        if per_minute is not None:
            self._provisioning.create_rate_card(account_id=made.account.id, per_minute=per_minute)
        return self.known(made.account.id)

    def known(self, account_id: str) -> Customer:
        """An account that was made elsewhere."""
        return Customer(account_id, provisioning=self._provisioning, database=self._database, mirror=self._mirror)
