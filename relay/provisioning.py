"""Setting up accounts: checked, stored in Postgres, mirrored to Redis. The CLI and the API both come here.

What is wrong is refused with a BadRequest, Conflict or NotFound that names the field.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

from sqlalchemy import Connection

from billing.assessment import card_of
from billing.rates import RateCard, parse_increments
from relay.calls import MAX_FACT_CHARS
from relay.connections import postgres_engine, redis_client
from relay.delivery.failurewhen import checked_path
from relay.delivery.guard import resolve_checked
from relay.delivery.headers import checked_headers
from relay.delivery.signing import signing_key
from relay.directory import Mirror
from relay.errors import BadRequest, Unavailable
from relay.outbox import Outbox
from relay.providers import PROVIDERS
from relay.queues import RELAY
from relay.sealing import KeyRing
from relay.settings import Settings
from relay.store import accounts, endpoints, rate_cards, sources, templates
from relay.store.accounts import Account, NewApiKey
from relay.store.database import Database
from relay.store.endpoints import Endpoint
from relay.store.rate_cards import RateCardRow
from relay.store.snapshot import EndpointState, Signing
from relay.store.sources import Source
from relay.store.templates import NewTemplate, TemplateType
from relay.telemetry import logs

T = TypeVar("T")

MAX_NAME_CHARS: Final = 255
MAX_SECRET_CHARS: Final = 255
MAX_DEADLINE_SECONDS: Final = 20
MAX_RETENTION_HOURS: Final = 24 * 30


@dataclass(frozen=True, slots=True)
class NewAccount:
    """An account with its first API key, which is shown this once."""

    account: Account
    key: NewApiKey


class Provisioning:
    """Makes and changes what the hot path is configured by."""

    def __init__(self, settings: Settings, database: Database, ring: KeyRing, mirror: Mirror, outbox: Outbox) -> None:
        self._settings = settings
        self._database = database
        self._ring = ring
        self._mirror = mirror
        self._outbox = outbox

    @classmethod
    def connect(cls, settings: Settings) -> Provisioning:
        """With connections of its own, for a command."""
        ring = KeyRing(settings.keys)
        client = redis_client(settings)
        return cls(settings, Database(postgres_engine(settings)), ring, Mirror(client, ring), Outbox(client))

    def create_account(self, *, name: str, quota_bytes: int | None = None) -> NewAccount:
        """An account and its first API key."""
        _checked_text(name, "name", MAX_NAME_CHARS)
        with self._database.begin() as connection:
            account = accounts.create(connection, name=name, quota_bytes=quota_bytes)
            key = accounts.create_key(connection, account_id=account.id)
        self._publish(account.id)
        return NewAccount(account, key)

    def create_source(
        self, *, account_id: str, provider: str, secrets: Sequence[str], relay_url: str | None = None
    ) -> tuple[Source, Endpoint | None]:
        """A source, with an endpoint of its own if `relay_url` is given."""
        if provider not in PROVIDERS:
            raise BadRequest(f"provider must be one of {', '.join(sorted(PROVIDERS))}", field="provider")
        _checked_source_secrets(secrets)
        url = None if relay_url is None else self.checked_url(relay_url, field="relayUrl")

        def make(connection: Connection) -> tuple[Source, Endpoint | None]:
            source = sources.create(connection, self._ring, account_id=account_id, provider=provider, secrets=secrets)
            if url is None:
                return source, None
            endpoint = endpoints.create(connection, self._ring, account_id=account_id, url=url, source_id=source.id)
            return source, endpoint

        return self._changing(account_id, make)

    def set_source_secrets(self, *, account_id: str, source_id: str, secrets: Sequence[str]) -> Source:
        """Replace the secrets of a source; while the provider rotates its own, give the old one too."""
        _checked_source_secrets(secrets)
        return self._changing(
            account_id,
            lambda connection: sources.set_secrets(
                connection, self._ring, account_id=account_id, source_id=source_id, secrets=secrets
            ),
        )

    def create_endpoint(
        self,
        *,
        account_id: str,
        url: str,
        filters: Sequence[str] = endpoints.EVERYTHING,
        headers: Mapping[str, str] | None = None,
        webhook_secret: str | None = None,
        signing_secret: str | None = None,
        signing: Signing = "standard",
        deadline_seconds: int = endpoints.DEADLINE_SECONDS,
        retention_hours: int | None = None,
        failure_when: str | None = None,
        source_id: str | None = None,
    ) -> Endpoint:
        """An endpoint: of a source if `source_id` is given, else for the whole account."""
        own_headers = dict(checked_headers(headers or {}))
        _checked_secrets(webhook_secret, signing_secret)
        _checked_range(deadline_seconds, "deadlineSeconds", 1, MAX_DEADLINE_SECONDS)
        if retention_hours is not None:
            _checked_range(retention_hours, "retentionHours", 0, MAX_RETENTION_HOURS)
        if failure_when is not None:
            checked_path(failure_when)
        for pattern in filters:
            _checked_text(pattern, "events", MAX_FACT_CHARS)
        # Last, because it asks the resolver.
        checked = self.checked_url(url, field="url")
        return self._changing(
            account_id,
            lambda connection: endpoints.create(
                connection,
                self._ring,
                account_id=account_id,
                url=checked,
                filters=tuple(filters) or endpoints.EVERYTHING,
                headers=own_headers,
                webhook_secret=webhook_secret,
                signing_secret=signing_secret,
                signing=signing,
                deadline_seconds=deadline_seconds,
                retention_hours=retention_hours,
                failure_when=failure_when,
                source_id=source_id,
            ),
        )

    def create_template(
        self,
        *,
        account_id: str,
        name: str,
        type: TemplateType,  # noqa: A002  the field's name in the API
        config: Mapping[str, Any],
        client_webhook_url: str | None,
        webhook_secret: str | None = None,
        agent_id: str | None = None,
    ) -> NewTemplate:
        """A template, with its endpoint if it has a URL."""
        _checked_text(name, "name", MAX_NAME_CHARS)
        _checked_secrets(webhook_secret, None)
        if agent_id is not None:
            _checked_text(agent_id, "agentId", MAX_FACT_CHARS)
        url = None if client_webhook_url is None else self.checked_url(client_webhook_url, field="clientWebhookUrl")
        return self._changing(
            account_id,
            lambda connection: templates.create(
                connection,
                self._ring,
                account_id=account_id,
                name=name,
                type=type,
                config=config,
                agent_id=agent_id,
                client_webhook_url=url,
                webhook_secret=webhook_secret,
            ),
        )

    def set_endpoint_state(self, *, account_id: str, endpoint_id: str, enabled: bool) -> None:
        """Disable an endpoint, or enable it again; what waited for a disabled one has ended as dead."""
        state: EndpointState = "active" if enabled else "disabled"
        self._changing(
            account_id,
            lambda connection: endpoints.set_state(
                connection, account_id=account_id, endpoint_id=endpoint_id, state=state
            ),
        )
        if enabled:
            self._outbox.reopen(RELAY, endpoint_id)

    def create_rate_card(
        self,
        *,
        account_id: str,
        per_minute: str,
        currency: str = "USD",
        increments: str = "1/1",
        effective_from: datetime | None = None,
    ) -> RateCardRow:
        """A rate card; the account's first one holds from the beginning of time unless it says otherwise."""
        initial, increment = parse_increments(increments)
        card = RateCard(per_minute, currency, initial_seconds=initial, increment_seconds=increment)
        with self._database.begin() as connection:
            row = rate_cards.add(
                connection,
                account_id,
                per_minute=card.per_minute,
                currency=card.currency,
                initial_seconds=initial,
                increment_seconds=increment,
                effective_from=effective_from,
            )
        card_of(row)  # what was stored must be a card that rates
        return row

    def checked_url(self, url: str, *, field: str) -> str:
        """A URL as it will be called; refused unless it is public (or an operator allowed it)."""
        return resolve_checked(
            url, allow=self._settings.egress_allow, https_only=not self._settings.allow_http, field=field
        )

    def source_url(self, source: Source) -> str:
        """Where a provider has to send its webhooks."""
        return f"{self._settings.public_url}/api/v1/webhooks/{source.provider}/{source.id}"

    def _changing(self, account_id: str, change: Callable[[Connection], T]) -> T:
        with self._database.begin() as connection:
            changed = change(connection)
        self._publish(account_id)
        return changed

    def _publish(self, account_id: str) -> None:
        """Mirror what is stored. While Redis is away upkeep does it later: what was made must still be shown."""
        try:
            self._mirror.publish(self._database, account_id)
        except Unavailable as error:
            logs.warning("configuration_not_mirrored", account_id=account_id, error=error)


def _checked_text(value: str, field: str, most: int) -> None:
    if not value.strip() or len(value) > most or not value.isprintable():
        raise BadRequest(f"{field} must be 1 to {most} printable characters", field=field)


def _checked_source_secrets(secrets: Sequence[str]) -> None:
    if not secrets:
        raise BadRequest("a source needs the provider's signing secret", field="secret")
    for secret in secrets:
        _checked_text(secret, "secret", MAX_SECRET_CHARS)


def _checked_secrets(webhook_secret: str | None, signing_secret: str | None) -> None:
    if webhook_secret is not None:
        _checked_text(webhook_secret, "webhookSecret", MAX_SECRET_CHARS)
        if not webhook_secret.isascii():
            raise BadRequest("webhookSecret goes into a header: ASCII only", field="webhookSecret")
    if signing_secret is not None:
        try:
            size = len(signing_key(signing_secret))
        except ValueError:
            size = 0
        if not 24 <= size <= 64:  # Standard Webhooks 1.0
            raise BadRequest("signingSecret must be whsec_ and base64 of 24 to 64 bytes", field="signingSecret")


def _checked_range(value: int, field: str, lowest: int, highest: int) -> None:
    if not lowest <= value <= highest:
        raise BadRequest(f"{field} must be from {lowest} to {highest}", field=field)
