"""An account's configuration as the hot path needs it, and the one statement that reads it.

One statement sees one moment of the database whatever the transaction around it, so that a version and the rows
under it always belong together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, ScalarSelect, Table, Text, bindparam, extract, func, literal, select
from sqlalchemy.dialects.postgresql import aggregate_order_by

from relay.sealing import KeyRing
from relay.store import sealed
from relay.store.sealed import Secretive, Target
from relay.store.sessions import AWAITED
from relay.store.tables import accounts, api_keys, endpoints, sources, templates

Signing = Literal["standard", "provider"]
EndpointState = Literal["active", "disabled", "gone"]


class SourceConfig(Secretive, frozen=True, kw_only=True):
    """A source that is not disabled; a webhook may be signed with any of its secrets.

    The events of a `shared` one belong to the account that their labels name. The account knows the secrets of
    neither a shared one nor a `managed` one; what older versions mirrored lacks both.
    """

    id: str
    provider: str
    secrets: tuple[str, ...]
    shared: bool = False
    managed: bool = False


class EndpointConfig(Secretive, frozen=True, kw_only=True):
    """An endpoint in any state: what waits for a disabled one has to be settled too. A deleted one is not there.

    With neither template nor source it is account-wide. `retention_hours` None means the setting's default;
    `failure_when` is the path of a field that makes a 2xx answer a failure; what older versions mirrored lacks it. One
    for operations takes `switchhook.*` by its filters, and nothing else.
    """

    id: str
    url: str
    headers: dict[str, str]
    webhook_secret: str
    signing_secrets: tuple[str, ...]
    signing: Signing
    filters: tuple[str, ...]
    deadline_seconds: int
    retention_hours: int | None
    template_id: int | None
    source_id: str | None
    state: EndpointState
    failure_when: str | None = None


class TemplateConfig(Secretive, frozen=True, kw_only=True):
    """A template. `webhook_secret` proves inbound requests; `endpoint_id` None: nowhere to send.

    So does, before `former_secret_until_ms`, the secret whose keyed hashes are there; what older versions mirrored
    lacks both.
    A `retired` one was deleted not long ago, and is there for the calls that were under way. Those behind conversations
    are not here: there may be any number of them (`relay.store.conversations`).
    """

    id: int
    name: str
    agent_id: str | None
    provider: str
    endpoint_id: str | None
    content_retention_hours: int | None
    webhook_secret: str
    retired: bool = False
    former_secret_hashes: tuple[str, ...] = ()
    former_secret_until_ms: int = 0


class AccountConfig(Secretive, frozen=True, kw_only=True):
    """All of one account at one version. It holds secrets: outside this process it is kept sealed only.

    `key_hashes` are the SHA-256 (hex) of the keys in force. `quota_bytes` None means the setting's default.
    """

    account_id: str
    version: int
    quota_bytes: int | None
    key_hashes: tuple[str, ...]
    sources: tuple[SourceConfig, ...]
    endpoints: tuple[EndpointConfig, ...]
    templates: tuple[TemplateConfig, ...]


def _rows(table: Table, *conditions: ColumnElement[bool], **columns: ColumnElement[Any]) -> ScalarSelect[Any]:
    """The account's rows of a table as one JSON array of objects, in the order of their ids."""
    pairs = [part for name, column in columns.items() for part in (literal(name, Text), column)]
    objects = func.json_agg(aggregate_order_by(func.json_build_object(*pairs), table.c.id))
    return select(objects).where(table.c.account_id == accounts.c.id, *conditions).scalar_subquery()


def _plain(table: Table, *names: str) -> dict[str, ColumnElement[Any]]:
    return {name: table.c[name] for name in names}


def _hex(column: ColumnElement[bytes]) -> ColumnElement[str]:
    return func.encode(column, literal("hex", Text))


STATEMENT: Final = select(
    accounts.c.id.label("account_id"),
    accounts.c.config_version.label("version"),
    accounts.c.quota_bytes,
    _rows(
        api_keys,
        api_keys.c.revoked_at.is_(None),
        api_keys.c.expires_at.is_(None) | (api_keys.c.expires_at > func.now()),
        sha256=_hex(api_keys.c.sha256),
    ).label("keys"),
    _rows(
        sources,
        sources.c.disabled_at.is_(None),
        **_plain(sources, "id", "provider", "shared", "managed"),
        sealed=_hex(sources.c.sealed_secrets),
    ).label("sources"),
    _rows(
        endpoints,
        endpoints.c.deleted_at.is_(None),
        **_plain(endpoints, "id", "signing", "filters", "deadline_seconds", "retention_hours"),
        **_plain(endpoints, "template_id", "source_id", "state", "failure_when"),
        sealed=_hex(endpoints.c.sealed_config),
    ).label("endpoints"),
    _rows(
        templates,
        templates.c.hidden.is_(False),
        templates.c.deleted_at.is_(None) | (templates.c.deleted_at > func.now() - AWAITED),
        retired=templates.c.deleted_at.is_not(None),
        **_plain(templates, "id", "name", "agent_id", "provider", "endpoint_id", "content_retention_hours"),
        sealed=_hex(templates.c.sealed_secret),
        former_hashes=templates.c.former_secret_hashes,
        former_until=extract("epoch", templates.c.former_secret_until),
    ).label("templates"),
).where(accounts.c.id == bindparam("account_id", type_=Text))


def opened(row: Mapping[Any, Any], ring: KeyRing) -> AccountConfig:
    """Open what STATEMENT has read. Raises UnsealError."""
    return AccountConfig(
        account_id=row["account_id"],
        version=row["version"],
        quota_bytes=row["quota_bytes"],
        key_hashes=tuple(key["sha256"] for key in row["keys"] or ()),
        sources=tuple(_source(part, ring) for part in row["sources"] or ()),
        endpoints=tuple(_endpoint(part, ring) for part in row["endpoints"] or ()),
        templates=tuple(_template(part, ring) for part in row["templates"] or ()),
    )


def _source(part: dict[str, Any], ring: KeyRing) -> SourceConfig:
    raw = bytes.fromhex(part.pop("sealed"))
    secrets = sealed.unseal(ring, raw, tuple[str, ...], purpose=sealed.SOURCE, row_id=part["id"])
    return SourceConfig(**part, secrets=secrets)


def _endpoint(part: dict[str, Any], ring: KeyRing) -> EndpointConfig:
    raw = bytes.fromhex(part.pop("sealed"))
    target = sealed.unseal(ring, raw, Target, purpose=sealed.ENDPOINT, row_id=part["id"])
    return EndpointConfig(
        **part | {"filters": tuple(part["filters"])},
        url=target.url,
        headers=target.headers,
        webhook_secret=target.webhook_secret,
        signing_secrets=target.signing_secrets,
    )


def _template(part: dict[str, Any], ring: KeyRing) -> TemplateConfig:
    raw = bytes.fromhex(part.pop("sealed"))
    secret = sealed.unseal(ring, raw, str, purpose=sealed.TEMPLATE, row_id=part["id"])
    hashes, until = part.pop("former_hashes"), part.pop("former_until")
    return TemplateConfig(
        **part,
        webhook_secret=secret,
        former_secret_hashes=tuple(hashes or ()),
        former_secret_until_ms=int((until or 0) * 1000),
    )
